package serve

import (
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/kube"
	"github.com/pilotfish-mesh/pilotfish/webhook/register"
	"github.com/pilotfish-mesh/pilotfish/webhook/validate"
)

// validated is what the validation webhook reads: objects as the Kubernetes
// source reads them, and the Plane's newest Mesh.
type validated struct{ plane *Plane }

var _ validate.Source = validated{}

// Read implements validate.Source.
func (validated) Read(kind metav1.GroupVersionKind, text []byte) (*validate.Object, []config.Problem, bool) {
	for _, k := range discovery.Kinds() {
		if k.Group != kind.Group || k.Kind != kind.Kind {
			continue
		}
		o, problems, err := kube.Read(k, kind.Version, text)
		if err != nil {
			return nil, []config.Problem{{Severity: config.Error, Code: "InvalidValue", Message: err.Error()}}, true
		}
		if o == nil {
			return nil, problems, true
		}
		spec, _ := o.Body.(proto.Message) // as every Kind's is
		return &validate.Object{Meta: o.Meta, Spec: spec}, problems, true
	}
	return nil, nil, false
}

// With implements validate.Source.
func (v validated) With(o *validate.Object) *config.Mesh {
	m := v.plane.Store.Mesh()
	if m == nil {
		return nil
	}
	return discovery.With(m, &discovery.Object{Meta: o.Meta, Body: o.Spec})
}

// Owns implements validate.Source.
func (v validated) Owns(named string) bool { return v.plane.Store.Owns(named) }

// register adds the writer that keeps webhook configurations right.
func (c *cluster) register(o *Options, server *rest.Config) error {
	client, err := dynamic.NewForConfig(server)
	if err != nil {
		return err
	}
	r := &register.Registrar{
		Client: c.client, Revision: c.revision, Bundle: c.authority.TrustBundle, Log: o.Log,
		Prober: &register.Probe{Client: client, Namespace: o.namespace(), Revision: c.revision},
	}
	c.own.Writers = append(c.own.Writers, Writer{"webhook configurations", r.Run})
	return nil
}
