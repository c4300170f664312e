package up

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// role is what runs in a pod.
type role int

const (
	plain   role = iota // the application alone
	sidecar             // the application with a proxy beside it
	gateway             // a proxy alone
)

// podPlan is one pod that a folder asks for.
type podPlan struct {
	name     string // the pod's; with namespace its identity
	role     role
	workload *config.Workload
	// ports are those that the application listens on, sorted.
	ports []uint32
	// fixed is the address that the folder itself gives, if it does.
	fixed string
	// more are further addresses, where pods have namespaces.
	more []netip.Addr
	// made: the folder has no such pod, it stands in for a Gateway's missing
	// workload.
	made bool
	// trustDomain is that of the pod's identity.
	trustDomain string
	// proxy is what is set for the proxy.
	proxy proxySettings
}

func (p *podPlan) key() string { return p.workload.Namespace + "/" + p.name }

func workloadName(w *config.Workload) string { return w.WorkloadName() }

// plan says which pods a mesh asks for, by key. It is a pure function of the
// mesh and of the addresses that running pods were given.
func plan(m *config.Mesh, given map[config.Key][]string) map[string]*podPlan {
	out := map[string]*podPlan{}
	for w := range m.Workloads.All() {
		p := &podPlan{name: w.Name, workload: w, role: roleOf(m, w)}
		if len(w.IPs) > 0 && len(given[podKey(p)]) == 0 {
			p.fixed = w.IPs[0]
		}
		if p.role != gateway {
			p.ports = applicationPorts(m, w)
		}
		out[p.key()] = p
	}
	for _, w := range m.StandInGateways() {
		p := &podPlan{name: w.Name, role: gateway, made: true, workload: w}
		out[p.key()] = p
	}
	if p := planOutside(m); p != nil && out[p.key()] == nil {
		out[p.key()] = p
	}
	for _, p := range out {
		p.trustDomain = trustDomain(m)
		if p.role != plain {
			p.proxy = proxySettingsOf(m, p.workload)
		}
	}
	return out
}

func roleOf(m *config.Mesh, w *config.Workload) role {
	switch m.RoleOf(w) {
	case config.GatewayPod:
		return gateway
	case config.SidecarPod:
		return sidecar
	}
	return plain
}

// applicationPorts are the workload's container ports, and the ports by which
// services reach it.
func applicationPorts(m *config.Mesh, w *config.Workload) []uint32 {
	ports := map[uint32]bool{}
	for _, p := range w.Ports {
		ports[p] = true
	}
	for _, s := range m.Services.In(w.Namespace) {
		if len(s.Selector) == 0 || !config.Selects(s.Selector, w.Labels) {
			continue
		}
		for _, p := range s.Ports {
			if p.Protocol == config.ProtocolUDP {
				continue
			}
			if target := targetPort(w, p); target != 0 {
				ports[target] = true
			}
		}
	}
	for _, own := range []uint32{15001, 15006, 15020, 15021, 15090} {
		delete(ports, own) // the sidecar's
	}
	return slices.Sorted(maps.Keys(ports))
}

func targetPort(w *config.Workload, p config.ServicePort) uint32 {
	switch {
	case p.TargetPortName != "":
		return w.Ports[p.TargetPortName]
	case p.TargetPort != 0:
		return p.TargetPort
	default:
		return p.Number
	}
}
