package translate

import (
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// GatewayServer is one server of one Gateway that selects the proxy.
type GatewayServer struct {
	Gateway *config.Gateway
	Spec    *networking.Server
	// Index is the server's place in the Gateway's list.
	Index int
	// VirtualServices are those bound to the Gateway that are visible to it
	// and share a host with the server, in order of precedence.
	VirtualServices []*SettledVirtualService
}

// GatewayPort is everything that the Gateways of a proxy serve on one
// listener address.
type GatewayPort struct {
	// Bind is the address, empty for every address.
	Bind string
	// Port is what the proxy listens on: the target port that the gateway's
	// Service maps the server's port to, or the server's port.
	Port    uint32
	Servers []*GatewayServer
}

func (p *GatewayPort) addTo(h config.Hasher) {
	h.Str(p.Bind).Uint(uint64(p.Port)).Uint(uint64(len(p.Servers)))
	for _, s := range p.Servers {
		h.Hash(s.Gateway.Hash).Uint(uint64(s.Index)).Uint(uint64(len(s.VirtualServices)))
		for _, v := range s.VirtualServices {
			h.Hash(v.Hash)
		}
	}
}

// gatherGateways finds the Gateway servers that select the scope's proxies.
func (ix *Index) gatherGateways(s *Scope) {}
