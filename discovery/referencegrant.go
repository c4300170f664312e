package discovery

import (
	gatewayapi "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// GatewayAPIGroup is the API group of the Kubernetes Gateway API, of which
// ReferenceGrants are read.
const GatewayAPIGroup = "gateway.networking.k8s.io"

// ReferenceGrantVersions are those that the Gateway API's CRD serves. They
// share one schema.
func ReferenceGrantVersions() []string { return []string{"v1", "v1beta1"} }

// IsReferenceGrant reports whether a key is that of a ReferenceGrant.
func IsReferenceGrant(k config.Key) bool {
	return k.Group == GatewayAPIGroup && k.Kind == "ReferenceGrant"
}

// NoGrant takes the place of a ReferenceGrant that cannot be read. It grants
// nothing: not what cannot be read, and not what the version before it granted.
func NoGrant(m config.Meta) *Object { return &Object{Meta: m, Body: &gatewayapi.ReferenceGrant{}} }

func (c *plainChange) putGrant(b *config.Builder) {
	field := func(m *config.Mesh) *config.Index[*config.ReferenceGrant] { return &m.ReferenceGrants }
	if c.object != nil {
		if g, ok := c.object.Body.(*gatewayapi.ReferenceGrant); ok {
			config.Put(b, field, &config.ReferenceGrant{Meta: c.object.Meta, Spec: g.Spec})
			return
		}
	}
	config.Remove(b, field, c.key.Namespace, c.key.Name)
}

// hashGrant covers who may refer to what.
func hashGrant(h config.Hasher, s *gatewayapi.ReferenceGrantSpec) {
	h.Uint(uint64(len(s.From)))
	for _, from := range s.From {
		h.Str(string(from.Group), string(from.Kind), string(from.Namespace))
	}
	for _, to := range s.To {
		h.Str(string(to.Group), string(to.Kind)).Bool(to.Name != nil)
		if to.Name != nil {
			h.Str(string(*to.Name))
		}
	}
}
