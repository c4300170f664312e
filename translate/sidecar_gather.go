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

// OutboundPolicy is what happens to destinations that no service names.
type OutboundPolicy struct {
	Policy *networking.OutboundTrafficPolicy
}

func (p OutboundPolicy) addTo(h config.Hasher) {
	if p.Policy != nil {
		h.Proto(p.Policy)
	}
}

// gatherSidecar finds the Sidecar that applies to the scope's proxies.
func (ix *Index) gatherSidecar(s *Scope) {}
