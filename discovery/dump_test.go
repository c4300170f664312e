package discovery_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// dump writes one part of a mesh for people, one line a thing, leaving out
// what is empty.
func dump(t *testing.T, m *config.Mesh, part string) string {
	t.Helper()
	var b strings.Builder
	switch part {
	case "services":
		for s := range m.Services.All() {
			dumpService(&b, s)
		}
	case "endpoints":
		for e := range m.Endpoints.All() {
			dumpEndpoints(&b, e)
		}
	case "workloads":
		for w := range m.Workloads.All() {
			dumpWorkload(&b, w)
		}
	case "problems":
		for _, p := range m.Problems {
			fmt.Fprintln(&b, p)
		}
	case "settings":
		fmt.Fprintf(&b, "trustDomain %s, exportTo %v, connectTimeout %v\n",
			m.Settings.Mesh.GetTrustDomain(), m.Settings.Mesh.GetDefaultServiceExportTo(), m.Settings.Mesh.GetConnectTimeout().AsDuration())
	case "virtualservices":
		for v := range m.VirtualServices.All() {
			fmt.Fprintf(&b, "%s %v\n", v.Key, v.Spec.GetHosts())
		}
	default:
		t.Fatalf("there is no part %q of a mesh", part)
	}
	return b.String()
}

// line joins "name value" pairs, without those whose value is empty.
func line(pairs ...string) string {
	var out []string
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			out = append(out, strings.TrimSpace(pairs[i]+" "+pairs[i+1]))
		}
	}
	return strings.Join(out, ", ")
}

func yes(b bool, text string) string {
	if b {
		return text
	}
	return ""
}

func labels(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, " ")
}

func num(n uint32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func list(l []string) string { return strings.Join(l, " ") }

func dumpService(b *strings.Builder, s *config.Service) {
	resolution := []string{"EDS", "DNS", "DNS round robin", "passthrough", "dynamic DNS"}[s.Resolution]
	export := list(s.ExportTo.Namespaces)
	if s.ExportTo.None {
		export = "none"
	} else if s.ExportTo.Public {
		export = ""
	}
	selector := labels(s.Selector)
	if s.Selector != nil && selector == "" {
		selector = "everything"
	}
	fmt.Fprintf(b, "%s in %s: %s\n", s.Hostname, s.Namespace, line(
		"", resolution, "at", list(s.Addresses), "auto", list(s.AutoAddresses), "", yes(s.Headless, "headless"),
		"", yes(s.External, "external"), "alias of", s.ExternalName, "exported to", export, "selects", selector,
		"SANs", list(s.SubjectAltNames), "", yes(s.PublishNotReady, "publishes not ready"), "", yes(s.NodeLocal, "node local"),
		"distribution", s.Distribution, "load balancer", list(s.LoadBalancerIPs), "", yes(!s.Kubernetes, "from "+s.String())))
	for _, p := range s.Ports {
		protocol := string(p.Protocol)
		if protocol == "" {
			protocol = "sniffed"
		}
		fmt.Fprintf(b, "  %d %s\n", p.Number, line("", p.Name, "", protocol, "to", num(p.TargetPort)+p.TargetPortName))
	}
}

func dumpEndpoints(b *strings.Builder, e *config.Endpoints) {
	fmt.Fprintf(b, "%s in %s\n", e.ID.Hostname, e.ID.Namespace)
	for _, port := range slices.Sorted(maps.Keys(e.ByPort)) {
		for _, p := range e.ByPort[port] {
			health := []string{"", "unhealthy", "draining"}[p.Health]
			own := maps.Clone(p.Labels)
			delete(own, "topology.istio.io/cluster")
			fmt.Fprintf(b, "  %s %s\n", port, line("", fmt.Sprintf("%s:%d", p.Address, p.Port), "and", list(p.MoreAddresses),
				"", health, "weight", num(p.Weight), "in", p.Locality.String(), "network", p.Network, "node", p.Node,
				"hostname", p.Hostname, "workload", p.Namespace+"/"+p.Workload, "account", p.ServiceAccount, "", yes(p.MTLS, "mTLS"),
				"labels", labels(own)))
		}
	}
}

func dumpWorkload(b *strings.Builder, w *config.Workload) {
	var ports []string
	for _, k := range slices.Sorted(maps.Keys(w.Ports)) {
		ports = append(ports, fmt.Sprintf("%s=%d", k, w.Ports[k]))
	}
	owner := ""
	if w.Owner.Kind != "" {
		owner = w.Owner.Group + " " + w.Owner.String()
	}
	fmt.Fprintf(b, "%s: %s\n", w.Key, line("at", list(w.IPs), "", yes(!w.Ready, "not ready"), "account", w.ServiceAccount,
		"node", w.Node, "in", w.Locality.String(), "network", w.Network, "", yes(w.HostNetwork, "host network"),
		"ports", list(ports), "of", strings.TrimSpace(owner), "labels", labels(w.Labels)))
}
