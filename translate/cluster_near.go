package translate

import (
	"maps"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// inlineEndpoints are the endpoints of a service whose clusters carry them,
// or nil.
func (ix *Index) inlineEndpoints(s *config.Service) *config.Endpoints {
	return inlineEndpointsOf(ix.mesh, s)
}

func inlineEndpointsOf(m *config.Mesh, s *config.Service) *config.Endpoints {
	if !carriesEndpoints(s) {
		return nil
	}
	eps, _ := m.Endpoints.Get(s.Namespace, s.Hostname)
	return eps
}

// carriesEndpoints reports whether a service's clusters carry its endpoints,
// whose names the proxy resolves.
func carriesEndpoints(s *config.Service) bool {
	return s.Resolution == config.ResolveDNS || s.Resolution == config.ResolveDNSRoundRobin
}

// nextPlaces are the services whose clusters carry endpoints that differ in
// where they are, so that where a proxy runs matters to its clusters. Without
// any, proxies of all places share their scopes.
func nextPlaces(m *config.Mesh, prev *Index) map[config.ServiceID]bool {
	out, copied := prev.places, false
	look := func(id config.ServiceID) {
		carries := false
		if s, ok := m.Services.Get(id.Namespace, id.Hostname); ok {
			carries = carriesPlaces(inlineEndpointsOf(m, s))
		}
		switch {
		case carries == out[id]:
			return
		case !copied:
			out, copied = maps.Clone(out), true
		}
		if out == nil {
			out = map[config.ServiceID]bool{}
		}
		if carries {
			out[id] = true
		} else {
			delete(out, id)
		}
	}
	for before, after := range m.Services.Changed(prev.mesh.Services) {
		s := after
		if s == nil {
			s = before
		}
		look(config.ServiceID{Namespace: s.Namespace, Hostname: s.Hostname})
	}
	for before, after := range m.Endpoints.Changed(prev.mesh.Endpoints) {
		e := after
		if e == nil {
			e = before
		}
		look(e.ID)
	}
	return out
}

func carriesPlaces(eps *config.Endpoints) bool {
	if eps == nil {
		return false
	}
	for _, list := range eps.ByPort {
		for i := range list {
			if placeOf(&list[i]) != placeOf(&list[0]) {
				return true
			}
		}
	}
	return false
}

func placeOf(e *config.Endpoint) Viewer {
	return Viewer{Locality: e.Locality, Network: e.Network, Cluster: e.Cluster}
}

// nearOf is where a proxy runs, as far as its clusters depend on it.
func (ix *Index) nearOf(p *config.Proxy) Viewer {
	if !ix.near {
		return Viewer{}
	}
	return Viewer{Locality: p.Locality, Network: p.Network, Cluster: p.Cluster}
}

func priorityLabelsOf(dr *config.DestinationRule) []string {
	var out []string
	add := func(p interface {
		GetLoadBalancer() *networking.LoadBalancerSettings
	}) {
		lb := p.GetLoadBalancer()
		out = append(out, lb.GetLocalityLbSetting().GetFailoverPriority()...)
		out = append(out, lb.GetZoneAwareLbSetting().GetFailoverPriority()...)
	}
	policies := []*networking.TrafficPolicy{dr.Spec.GetTrafficPolicy()}
	for _, s := range dr.Spec.GetSubsets() {
		policies = append(policies, s.GetTrafficPolicy())
	}
	for _, p := range policies {
		add(p)
		for _, s := range p.GetPortLevelSettings() {
			add(s)
		}
	}
	return out
}
