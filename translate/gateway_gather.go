package translate

import "github.com/pilotfish-mesh/pilotfish/config"

// GatewayPort is everything that the Gateways of a proxy serve on one port.
type GatewayPort struct {
	Port uint32
}

func (p *GatewayPort) addTo(h config.Hasher) { h.Uint(uint64(p.Port)) }

// gatherGateways finds the Gateway servers that select the scope's proxies.
func (ix *Index) gatherGateways(s *Scope) {}
