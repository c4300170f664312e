package translate

import "github.com/pilotfish-mesh/pilotfish/config"

// InboundPort is one port that a workload serves.
type InboundPort struct {
	// Port is where the application listens; Service and ServicePort the
	// service that says so, nil for a Sidecar's ingress listener.
	Port        uint32
	Service     *config.Service
	ServicePort config.ServicePort
	Rule        *Rule
}

func (p *InboundPort) addTo(h config.Hasher) { h.Uint(uint64(p.Port)) }

// gatherInbound finds the ports that the scope's workloads serve.
func (ix *Index) gatherInbound(s *Scope) {}
