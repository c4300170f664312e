package up

import (
	"maps"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"

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
}

func (p *podPlan) key() string { return p.workload.Namespace + "/" + p.name }

// workloadName is the controller's name, or the pod's without one.
func workloadName(w *config.Workload) string {
	if w.Owner.Name != "" {
		return w.Owner.Name
	}
	return w.Name
}

// Labels and annotations by which Istio's users say what is injected.
const (
	injectKey      = "sidecar.istio.io/inject"
	templatesKey   = "inject.istio.io/templates"
	gatewayName    = "gateway"
	defaultGateway = "istio-ingressgateway"
)

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
	for _, p := range missingGateways(m, out) {
		out[p.key()] = p
	}
	if p := planOutside(m); p != nil && out[p.key()] == nil {
		out[p.key()] = p
	}
	return out
}

// roleOf tells gateways from applications: by the injection template, or
// because a Gateway selects them.
func roleOf(m *config.Mesh, w *config.Workload) role {
	if slices.Contains(strings.Split(w.Annotations[templatesKey], ","), gatewayName) {
		return gateway
	}
	for gw := range m.Gateways.All() {
		if s := gw.Spec.GetSelector(); len(s) > 0 && config.Selects(s, w.Labels) {
			return gateway
		}
	}
	if w.HostNetwork || w.Labels[injectKey] == "false" || w.Annotations[injectKey] == "false" {
		return plain
	}
	return sidecar
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

// missingGateways stand in for the workloads of Gateways that select none.
// Gateways with the same selector share one.
func missingGateways(m *config.Mesh, have map[string]*podPlan) []*podPlan {
	var out []*podPlan
	bySelector := map[string]bool{}
	for gw := range m.Gateways.All() {
		selector := gw.Spec.GetSelector()
		id := selectorText(selector)
		if bySelector[id] || selectsGateway(selector, have) {
			continue
		}
		bySelector[id] = true
		base := defaultGateway
		if n := selector["istio"]; n != "" {
			base = "istio-" + n
		}
		name := base
		for i := 2; taken(have, out, m.RootNamespace(), name); i++ {
			name = base + "-" + strconv.Itoa(i)
		}
		labels := maps.Clone(selector)
		if labels == nil {
			labels = map[string]string{"istio": "ingressgateway"}
		}
		out = append(out, &podPlan{name: name, role: gateway, made: true, workload: &config.Workload{
			Meta: config.Meta{
				Key: config.Key{Kind: "Pod", Namespace: m.RootNamespace(), Name: name}, Labels: labels,
			},
			ServiceAccount: name, Ready: true,
			Owner: config.Key{Group: "apps", Kind: "Deployment", Namespace: m.RootNamespace(), Name: name},
		}})
	}
	return out
}

func taken(have map[string]*podPlan, more []*podPlan, ns, name string) bool {
	key := ns + "/" + name
	if have[key] != nil {
		return true
	}
	return slices.ContainsFunc(more, func(p *podPlan) bool { return p.key() == key })
}

// selectsGateway reports whether a pod takes a Gateway's servers: one that the
// selector matches, or any gateway for an empty selector.
func selectsGateway(selector map[string]string, pods map[string]*podPlan) bool {
	for _, p := range pods {
		if p.role == gateway && config.Selects(selector, p.workload.Labels) {
			return true
		}
	}
	return false
}

func selectorText(s map[string]string) string {
	parts := make([]string, 0, len(s))
	for k, v := range s {
		parts = append(parts, k+"="+v)
	}
	sort.Strings(parts)
	return strings.Join(parts, ",")
}
