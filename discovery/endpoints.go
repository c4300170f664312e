package discovery

import (
	"cmp"
	"maps"
	"slices"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// deriveEndpoints makes the stale endpoints. A service that exists has
// Endpoints, possibly without any.
func (d *derivation) deriveEndpoints(b *config.Builder) {
	field := func(m *config.Mesh) *config.Index[*config.Endpoints] { return &m.Endpoints }
	for id := range d.stale.endpoints {
		c := d.claim(id)
		if c.service == nil {
			if c.endpoints != nil {
				config.Remove(b, field, id.Namespace, id.Hostname)
				c.endpoints = nil
			}
			if c.kube == nil && len(c.entries) == 0 {
				delete(d.claims, id)
			}
			continue
		}
		made := d.makeEndpoints(id, c)
		if c.endpoints == nil || c.endpoints.Hash != made.Hash {
			config.Put(b, field, made)
			c.endpoints = made
		}
	}
}

func (d *derivation) makeEndpoints(id config.ServiceID, c *claim) *config.Endpoints {
	all := endpointList{}
	if c.kube != nil {
		d.sliceEndpoints(all, c)
		d.selectedEntries(all, c)
	}
	for _, e := range d.entries.claiming(c) {
		// A Kubernetes Service, headless or not, takes addresses only.
		if r := resolutions[e.spec.GetResolution()]; (c.kube == nil && r == c.service.Resolution) || (c.kube != nil && r == config.ResolveEDS) {
			d.entryEndpoints(all, c.service, e)
		}
	}
	return all.settle(id, c.service)
}

// endpointList gathers endpoints by port name.
type endpointList map[string][]candidate

// candidate is an endpoint; addresses is the list of the pod that it is, if
// the pod has more than one address.
type candidate struct {
	config.Endpoint
	addresses []string
}

func (l endpointList) add(port string, c candidate) { l[port] = append(l[port], c) }

// settle drops the endpoints of ports that the service does not have, and
// duplicates: an address may stand in several slices while it moves.
func (l endpointList) settle(id config.ServiceID, s *config.Service) *config.Endpoints {
	byPort := make(map[string][]config.Endpoint, len(l))
	h := config.NewHasher().Str(id.Hostname, id.Namespace)
	for _, port := range slices.Sorted(maps.Keys(l)) {
		if _, ok := s.PortNamed(port); !ok {
			continue
		}
		list := joinFamilies(l[port])
		slices.SortStableFunc(list, func(a, b config.Endpoint) int {
			return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Port, b.Port),
				cmp.Compare(healthRank(a.Health), healthRank(b.Health)), cmp.Compare(a.Workload, b.Workload))
		})
		list = slices.CompactFunc(list, func(a, b config.Endpoint) bool { return a.Address == b.Address && a.Port == b.Port })
		byPort[port] = slices.Clip(list)
		h.Str(port).Uint(uint64(len(list)))
		for i := range list {
			hashEndpoint(h, &list[i])
		}
	}
	return config.NewEndpoints(id, byPort, h.Sum())
}

func healthRank(h config.Health) int {
	switch h {
	case config.Healthy:
		return 0
	case config.Draining:
		return 1
	}
	return 2
}

// joinFamilies makes one endpoint of the addresses that a pod has in slices of
// several IP families, in the order of the pod's own list.
func joinFamilies(list []candidate) []config.Endpoint {
	type key struct {
		pod  name
		port uint32
	}
	first := map[key]int{}
	seen := map[key][]string{}
	out := make([]config.Endpoint, 0, len(list))
	for _, c := range list {
		if len(c.addresses) < 2 {
			out = append(out, c.Endpoint)
			continue
		}
		k := key{name{c.Namespace, c.Workload}, c.Port}
		i, ok := first[k]
		if !ok {
			i = len(out)
			first[k] = i
			out = append(out, c.Endpoint)
		}
		seen[k] = append(seen[k], c.Address)
		var ordered []string
		for _, a := range c.addresses {
			if slices.Contains(seen[k], a) {
				ordered = append(ordered, a)
			}
		}
		e := &out[i]
		e.Address, e.MoreAddresses = ordered[0], slices.Clip(ordered[1:])
		if healthRank(c.Health) < healthRank(e.Health) {
			e.Health = c.Health
		}
	}
	return out
}

func hashEndpoint(h config.Hasher, e *config.Endpoint) {
	h.Str(e.Address).Uint(uint64(len(e.MoreAddresses))).Str(e.MoreAddresses...)
	h.Uint(uint64(e.Port)).Uint(uint64(e.Health)).Uint(uint64(e.Weight)).Map(e.Labels)
	h.Str(e.Locality.Region, e.Locality.Zone, e.Locality.Subzone, e.Network, e.Cluster, e.Node, e.Hostname)
	h.Str(e.Workload, e.Namespace, e.ServiceAccount).Bool(e.MTLS)
}
