package up

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// The world outside of a mesh is one more pod, without a proxy: it answers
// for every host that ServiceEntries name and no workload of the folder
// serves, so that egress can be tried without a network.
const (
	outsideName = "outside"
	outsideKey  = outsideName + "/" + outsideName
)

// outsideAddress stands for the addresses of hosts outside of the mesh, which
// a real application would find by DNS (RFC 5737, documentation).
var outsideAddress = netip.MustParseAddr("192.0.2.1")

// planOutside is the pod of the outside world; nil where a mesh speaks of
// none.
func planOutside(m *config.Mesh) *podPlan {
	ports := map[uint32]bool{}
	addresses := map[string]bool{}
	for s := range m.Services.All() {
		if s.Kubernetes || s.Selector != nil {
			continue
		}
		e, known := m.Endpoints.Get(s.Namespace, s.Hostname)
		for _, p := range s.Ports {
			if p.Protocol == config.ProtocolUDP {
				continue
			}
			if !known || len(e.ByPort[p.Name]) == 0 {
				ports[cmp.Or(p.TargetPort, p.Number)] = true
			}
			if !known {
				continue
			}
			for i := range e.ByPort[p.Name] {
				ep := &e.ByPort[p.Name][i]
				if ep.Port != 0 && !served(m, ep.Address) {
					ports[ep.Port] = true
					addresses[ep.Address] = true
				}
			}
		}
		if s.Resolution == config.ResolvePassthrough {
			for _, a := range s.Addresses {
				addresses[a] = true
			}
		}
	}
	if len(ports) == 0 {
		return nil
	}
	p := &podPlan{name: outsideName, role: plain, made: true, ports: slices.Sorted(maps.Keys(ports))}
	for a := range addresses {
		if ip, err := netip.ParseAddr(a); err == nil && ip.Is4() && !ip.IsLoopback() && !ip.IsUnspecified() {
			p.more = append(p.more, ip)
		}
	}
	slices.SortFunc(p.more, netip.Addr.Compare)
	p.workload = &config.Workload{
		Meta:  config.Meta{Key: config.Key{Kind: "Pod", Namespace: outsideName, Name: outsideName}, Labels: map[string]string{"app": outsideName}},
		Ready: true,
	}
	return p
}

// served reports whether an address is that of a workload of the folder.
func served(m *config.Mesh, address string) bool {
	for w := range m.Workloads.All() {
		if slices.Contains(w.IPs, address) {
			return true
		}
	}
	return false
}
