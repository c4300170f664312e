package translate

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// listensOnEndpoints reports whether a service's endpoints have listeners of
// their own: clients of a headless service connect to the endpoints, and only
// the Host header of a request names the service.
func listensOnEndpoints(s *config.Service) bool {
	if s.Resolution != config.ResolvePassthrough || len(s.Addresses) > 0 {
		return false
	}
	return s.Kubernetes || len(s.Selector) > 0
}

// ReadsEndpoints reports whether scopes read the endpoints of a service, so
// that a change of them may change a scope: those that have listeners, and
// those that clusters carry. For all other services endpoints only matter to
// the clusters' assignments.
func ReadsEndpoints(s *config.Service) bool {
	return carriesEndpoints(s) || hasEndpointListeners(s)
}

func hasEndpointListeners(s *config.Service) bool {
	return listensOnEndpoints(s) && slices.ContainsFunc(s.Ports, needsEndpointListener)
}

func needsEndpointListener(p config.ServicePort) bool {
	return !p.Protocol.IsHTTP() && p.Protocol != config.ProtocolUDP
}

// gatherHeadless finds the endpoints' addresses of the headless services in
// reach.
func (ix *Index) gatherHeadless(s *Scope) {
	for _, e := range s.Egress {
		for _, v := range e.Services {
			if !hasEndpointListeners(v.Service) {
				continue
			}
			if _, done := s.Headless[v.ID()]; done {
				continue
			}
			if s.Headless == nil {
				s.Headless = map[config.ServiceID]map[string][]string{}
			}
			s.Headless[v.ID()] = ix.endpointAddresses(v.Service)
		}
	}
}

func (ix *Index) endpointAddresses(s *config.Service) map[string][]string {
	out := map[string][]string{}
	eps, ok := ix.mesh.Endpoints.Get(s.Namespace, s.Hostname)
	if !ok {
		return out
	}
	for _, p := range s.Ports {
		if !needsEndpointListener(p) {
			continue
		}
		var addresses []string
		for _, ep := range eps.ByPort[p.Name] {
			if _, err := netip.ParseAddr(ep.Address); err == nil {
				addresses = append(addresses, ep.Address)
			}
		}
		out[p.Name] = sortedSet(addresses)
	}
	return out
}

func (s *Scope) addHeadless(h config.Hasher) {
	ids := make([]config.ServiceID, 0, len(s.Headless))
	for id := range s.Headless {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b config.ServiceID) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Hostname, b.Hostname))
	})
	h.Uint(uint64(len(ids)))
	for _, id := range ids {
		h.Str(id.Namespace, id.Hostname).Uint(uint64(len(s.Headless[id])))
		for _, name := range slices.Sorted(maps.Keys(s.Headless[id])) {
			h.Str(name).Uint(uint64(len(s.Headless[id][name]))).Str(s.Headless[id][name]...)
		}
	}
}
