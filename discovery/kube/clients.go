package kube

import (
	"net/http"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// resource is what a reflector follows.
type resource struct {
	name   string // for logs: virtualservices.networking.istio.io
	plural string
	client rest.Interface
	fields string // field selector
}

func (r resource) listWatch() *cache.ListWatch {
	return cache.NewFilteredListWatchFromClient(r.client, r.plural, metav1.NamespaceAll, func(o *metav1.ListOptions) {
		o.FieldSelector = r.fields
	})
}

// clients are clients of each API group version, over one HTTP client.
type clients struct {
	http     *http.Client
	versions map[schema.GroupVersion]rest.Interface
}

func newClients(given *rest.Config) (*clients, error) {
	base := rest.CopyConfig(given)
	base.WarningHandlerWithContext = rest.NoWarnings{}
	base.Timeout = 0 // a watch has no end
	if base.QPS == 0 {
		// There are as many requests as kinds, and the server shares itself
		// out (API priority and fairness). The default would stretch the
		// first view over seconds.
		base.QPS = -1
	}
	if base.UserAgent == "" {
		base.UserAgent = "pilotfish"
	}
	h, err := rest.HTTPClientFor(base)
	if err != nil {
		return nil, err
	}
	c := &clients{http: h, versions: map[schema.GroupVersion]rest.Interface{}}
	for _, gv := range coreVersions() {
		cfg := rest.CopyConfig(base)
		cfg.ContentType = runtime.ContentTypeProtobuf
		cfg.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
		if err := c.add(cfg, gv, scheme.Codecs); err != nil {
			return nil, err
		}
	}
	raw, versions := rawScheme()
	for _, gv := range versions {
		if err := c.add(rest.CopyConfig(base), gv, serializer.NewCodecFactory(raw)); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *clients) add(cfg *rest.Config, gv schema.GroupVersion, codecs serializer.CodecFactory) error {
	cfg.GroupVersion = &gv
	cfg.APIPath = "/apis"
	if gv.Group == "" {
		cfg.APIPath = "/api"
	}
	cfg.NegotiatedSerializer = codecs.WithoutConversion()
	client, err := rest.RESTClientForConfigAndClient(cfg, c.http)
	c.versions[gv] = client
	return err
}

func (c *clients) close() { c.http.CloseIdleConnections() }

func (c *clients) core(k coreKind) resource {
	return resource{name: k.plural, plural: k.plural, client: c.versions[k.version], fields: k.fields}
}

func (c *clients) custom(gv schema.GroupVersion, plural string) resource {
	return resource{name: plural + "." + gv.Group, plural: plural, client: c.versions[gv]}
}

// rawScheme knows the kinds of CRDs as raw ones and CRDs as far as they are read.
// versions are the group versions that they are in.
func rawScheme() (_ *runtime.Scheme, versions []schema.GroupVersion) {
	s := runtime.NewScheme()
	none := schema.GroupVersion{Version: "v1"}
	metav1.AddToGroupVersion(s, none)
	s.AddUnversionedTypes(none, &metav1.Status{})

	s.AddKnownTypeWithName(crdVersion.WithKind("CustomResourceDefinition"), &crd{})
	s.AddKnownTypeWithName(crdVersion.WithKind("CustomResourceDefinitionList"), &crdList{})
	versions = []schema.GroupVersion{crdVersion}
	for _, k := range customKinds() {
		for _, v := range k.Versions {
			gv := schema.GroupVersion{Group: k.Group, Version: v}
			s.AddKnownTypeWithName(gv.WithKind(k.Kind), &custom{})
			s.AddKnownTypeWithName(gv.WithKind(k.Kind+"List"), &customList{})
			if !slices.Contains(versions, gv) {
				versions = append(versions, gv)
			}
		}
	}
	for _, gv := range versions {
		metav1.AddToGroupVersion(s, gv)
	}
	return s, versions
}
