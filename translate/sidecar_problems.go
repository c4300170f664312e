package translate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// sidecarProblems are Sidecars that another one shadows, selectors without
// workloads, and imports of hosts that do not exist.
func (ix *Index) sidecarProblems() []config.Problem {
	var out []config.Problem
	for _, ns := range ix.mesh.Sidecars.Namespaces() {
		list := sidecarsInOrder(ix.mesh.Sidecars.In(ns))
		out = append(out, shadowedSidecars(ns, list)...)
		for _, sc := range list {
			out = append(out, ix.selectorProblems(sc)...)
			out = append(out, ix.importProblems(sc)...)
		}
		out = append(out, ix.overlappingSidecars(ns, list)...)
	}
	return out
}

// shadowedSidecars are those without a selector beside an older one.
func shadowedSidecars(ns string, list []*config.SidecarScope) []config.Problem {
	var out []config.Problem
	var first *config.SidecarScope
	for _, sc := range list {
		switch {
		case sc.Spec.GetWorkloadSelector() != nil:
		case first == nil:
			first = sc
		default:
			out = append(out, config.At(&sc.Meta, "", config.Error, "SidecarShadowed",
				"is not in effect: the older %s is for all workloads of namespace %s, too. Add a workloadSelector, or remove one of them", first.Key, ns))
		}
	}
	return out
}

// overlappingSidecars are those that select a workload which an older one
// selects.
func (ix *Index) overlappingSidecars(ns string, list []*config.SidecarScope) []config.Problem {
	var out []config.Problem
	seen := map[[2]string]bool{}
	for _, w := range ix.mesh.Workloads.In(ns) {
		var first *config.SidecarScope
		for _, sc := range list {
			sel := sc.Spec.GetWorkloadSelector()
			if sel == nil || !config.Selects(sel.GetLabels(), w.Labels) {
				continue
			}
			pair := [2]string{sc.Name, ""}
			if first != nil {
				pair[1] = first.Name
			}
			if first != nil && !seen[pair] {
				seen[pair] = true
				out = append(out, config.At(&sc.Meta, "spec.workloadSelector", config.Warning, "SidecarOverlaps",
					"selects workload %s, which the older %s selects, too, and that one counts", w.Name, first.Key))
			}
			if first == nil {
				first = sc
			}
		}
	}
	return out
}

func (ix *Index) selectorProblems(sc *config.SidecarScope) []config.Problem {
	sel := sc.Spec.GetWorkloadSelector()
	if len(sel.GetLabels()) == 0 {
		return nil
	}
	for _, w := range ix.mesh.Workloads.In(sc.Namespace) {
		if config.Selects(sel.GetLabels(), w.Labels) {
			return nil
		}
	}
	other := nearMiss(sel.GetLabels(), slices.Values(ix.mesh.Workloads.In(sc.Namespace)))
	if other == "" {
		return nil
	}
	return []config.Problem{config.At(&sc.Meta, "spec.workloadSelector", config.Warning, "WorkloadNotFound",
		"no workload of namespace %s has the labels %s; there are some with %s", sc.Namespace, labelText(sel.GetLabels()), other)}
}

// importProblems are the full names among the egress hosts that no service
// and no VirtualService has, or not the port, and those that are not exported
// to the Sidecar's namespace.
func (ix *Index) importProblems(sc *config.SidecarScope) []config.Problem {
	var out []config.Problem
	for i, l := range sc.Spec.GetEgress() {
		port, limited := (&EgressListener{Spec: l}).onPort()
		for j, h := range l.GetHosts() {
			ns, name, ok := strings.Cut(h, "/")
			if !ok || strings.HasPrefix(ns, "~") || isWildcard(name) {
				continue
			}
			if ns == "." {
				ns = sc.Namespace
			}
			name = strings.ToLower(strings.TrimSuffix(name, "."))
			at := fmt.Sprintf("spec.egress[%d].hosts[%d]", i, j)
			if p := ix.importProblem(sc, at, ns, name, port, limited); p != nil {
				out = append(out, *p)
			}
		}
	}
	return out
}

func (ix *Index) importProblem(sc *config.SidecarScope, at, ns, name string, port uint32, limited bool) *config.Problem {
	warn := func(code, format string, args ...any) *config.Problem {
		p := config.At(&sc.Meta, at, config.Warning, code, format, args...)
		return &p
	}
	var hidden, portless *config.Service
	for _, s := range ix.services.all[name] {
		if ns != "*" && s.Namespace != ns {
			continue
		}
		_, hasPort := s.Port(port)
		switch {
		case sc.Namespace != ix.mesh.RootNamespace() && !s.ExportTo.To(sc.Namespace):
			hidden = s
		case limited && !hasPort:
			portless = s
		default:
			return nil
		}
	}
	switch {
	case portless != nil:
		return warn("PortNotFound", "%s has no port %d, so this listener does not reach it", name, port)
	case hidden != nil:
		return warn("HostNotVisible", "%s of namespace %s is not exported to namespace %s", name, hidden.Namespace, sc.Namespace)
	case ix.virtualServices.hasHost(ns, name):
		return nil
	case len(ix.services.all[name]) > 0:
		return warn("HostNotFound", "no service %s in namespace %s; namespace %s has one", name, ns, ix.services.all[name][0].Namespace)
	}
	where := "namespace " + ns
	if ns == "*" {
		where = "any namespace"
	}
	return warn("HostNotFound", "no service %s in %s", name, where)
}

// hasHost reports whether a VirtualService of a namespace, or of any for "*",
// has a host.
func (x *virtualServiceIndex) hasHost(ns, host string) bool {
	for _, vs := range x.settled {
		if ns != "*" && vs.Namespace != ns {
			continue
		}
		for _, h := range vs.Hosts {
			if _, ok := meet(h, host); ok {
				return true
			}
		}
	}
	return false
}
