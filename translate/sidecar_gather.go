package translate

import (
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// EgressListener is one egress listener of a Sidecar.
type EgressListener struct {
	Spec *networking.IstioEgressListener
}

func (l *EgressListener) addTo(h config.Hasher) { h.Proto(l.Spec) }

func (l *EgressListener) spec() *networking.IstioEgressListener {
	if l == nil {
		return nil
	}
	return l.Spec
}

func (l *EgressListener) port() *networking.SidecarPort { return l.spec().GetPort() }

// OutboundPolicy is what happens to destinations that no service names.
type OutboundPolicy struct {
	Policy *networking.OutboundTrafficPolicy
}

// AllowsAny reports whether connections to unknown destinations pass.
func (p OutboundPolicy) AllowsAny() bool {
	return p.Policy.GetMode() != networking.OutboundTrafficPolicy_REGISTRY_ONLY
}

func (p OutboundPolicy) addTo(h config.Hasher) {
	if p.Policy != nil {
		h.Proto(p.Policy)
	}
}

// gatherSidecar finds the Sidecar that applies to the scope's proxies.
func (ix *Index) gatherSidecar(s *Scope) {
	mode := networking.OutboundTrafficPolicy_Mode(ix.mesh.Settings.Mesh.GetOutboundTrafficPolicy().GetMode())
	s.OutboundPolicy = OutboundPolicy{&networking.OutboundTrafficPolicy{Mode: mode}}
}
