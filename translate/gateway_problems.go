package translate

import (
	"fmt"
	"iter"
	"slices"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// gatewayProblems are references of Gateways that lead nowhere, and servers
// that cannot share a port of some workload.
func (ix *Index) gatewayProblems() []config.Problem {
	var out []config.Problem
	groups := ix.gatewayWorkloads()
	for _, g := range groups {
		m := newGatewayMerge(ix.servicesSelecting(g.namespace, g.labels), g.ports)
		m.addAll(ix.gatewaysSelecting(g.labels))
		out = append(out, m.problems...)
	}
	for gw := range ix.mesh.Gateways.All() {
		namespaces := selectedNamespaces(gw, groups)
		if len(namespaces) == 0 {
			if other := nearMiss(gw.Spec.GetSelector(), ix.maybeMeant(gw.Spec.GetSelector())); other != "" {
				out = append(out, config.At(&gw.Meta, "spec.selector", config.Warning, "WorkloadNotFound",
					"no workload of the mesh has the labels %s; there are some with %s", labelText(gw.Spec.GetSelector()), other))
			}
		}
		for i, s := range gw.Spec.GetServers() {
			out = append(out, ix.serverProblems(gw, i, s, namespaces)...)
		}
	}
	return out
}

// gatewayGroup stands for workloads that the same Gateways select and the same
// Services map ports for.
type gatewayGroup struct {
	namespace string
	labels    map[string]string
	ports     map[string]string
}

// gatewayWorkloads are the workloads that a Gateway selects by name, each kind
// once.
func (ix *Index) gatewayWorkloads() []gatewayGroup {
	var out []gatewayGroup
	seen := map[string]bool{}
	for w := range ix.mesh.Workloads.All() {
		if !ix.selectedByGateway(w.Labels) {
			continue
		}
		g := gatewayGroup{namespace: w.Namespace, ports: map[string]string{}}
		for name, n := range w.Ports {
			g.ports[name] = fmt.Sprint(n)
		}
		labels := canonicalLabels(w.Labels, ix.testedGateway)
		id := w.Namespace + "|" + labels + "|" + canonicalLabels(g.ports, sortedKeys(g.ports))
		if seen[id] {
			continue
		}
		seen[id] = true
		g.labels = parseLabels(labels)
		out = append(out, g)
	}
	return out
}

func (ix *Index) selectedByGateway(labels map[string]string) bool {
	for gw := range ix.mesh.Gateways.All() {
		if len(gw.Spec.GetSelector()) > 0 && config.Selects(gw.Spec.GetSelector(), labels) {
			return true
		}
	}
	return false
}

func selectedNamespaces(gw *config.Gateway, groups []gatewayGroup) []string {
	var out []string
	for _, g := range groups {
		if config.Selects(gw.Spec.GetSelector(), g.labels) {
			out = append(out, g.namespace)
		}
	}
	return sortedSet(out)
}

// serverProblems are the credentials of a server that are missing or broken
// in the namespaces where its gateways run.
func (ix *Index) serverProblems(gw *config.Gateway, i int, s *networking.Server, namespaces []string) []config.Problem {
	tls := s.GetTls()
	if !terminates(tls) || tls.GetMode() == networking.ServerTLSSettings_ISTIO_MUTUAL {
		return nil
	}
	own, authority := serverSecrets(tls)
	if asksForCertificate(tls) {
		own = append(slices.Clone(own), authority)
	}
	var out []config.Problem
	at := fmt.Sprintf("spec.servers[%d].tls", i)
	for _, name := range own {
		for _, p := range ix.credentialProblems(gw, name, namespaces) {
			out = append(out, config.At(&gw.Meta, at, config.Error, "CredentialUnusable",
				"clients of %s are refused, those of other servers are not: %s %s", listText(s.GetHosts()), p.Object, p.Message))
		}
	}
	return out
}

// credentialProblems are those of one credential. Where no gateway is known to
// run it may be meant for the Gateway's own namespace or for that of Istio's
// gateways, and one of them is enough.
func (ix *Index) credentialProblems(gw *config.Gateway, name string, namespaces []string) []config.Problem {
	t := NewTranslator(1)
	in := func(ns string) Reader { // a gateway there that the Gateway selects
		selector := gw.Spec.GetSelector()
		return Reader{Namespace: ns, Gateway: true, Labels: canonicalLabels(selector, sortedKeys(selector))}
	}
	if len(namespaces) == 0 {
		root := ix.mesh.RootNamespace()
		_, here := t.Secret(ix.mesh, in(gw.Namespace), name)
		_, there := t.Secret(ix.mesh, in(root), name)
		if len(here) == 0 || len(there) == 0 {
			return nil
		}
		if gw.Namespace != root {
			here[0].Message += fmt.Sprintf(" (namespace %s, where such a gateway may run, has no usable one either)", root)
		}
		return here
	}
	var out []config.Problem
	for _, ns := range namespaces {
		_, found := t.Secret(ix.mesh, in(ns), name)
		out = append(out, found...)
	}
	return out
}

// nearMiss are the labels of a workload that has the keys of a selector with
// other values; empty if there is none. A selector whose keys nothing has, or
// that names a gateway of Istio's installation, may be meant for workloads that
// the mesh does not know.
func nearMiss(selector map[string]string, workloads iter.Seq[*config.Workload]) string {
	if config.SelectsInstalledGateway(selector) {
		return ""
	}
	best := ""
	for w := range workloads {
		text := canonicalLabels(w.Labels, sortedKeys(selector))
		if len(parseLabels(text)) == len(selector) && len(selector) > 0 && (best == "" || text < best) {
			best = text
		}
	}
	return best
}

// maybeMeant are workloads that a Gateway's selector may just miss: gateways, by
// their template or Istio's label for its parts, and what is labelled nearly so.
// Applications have labels of the same names and are not meant.
func (ix *Index) maybeMeant(selector map[string]string) iter.Seq[*config.Workload] {
	return func(yield func(*config.Workload) bool) {
		for w := range ix.mesh.Workloads.All() {
			like := selector["istio"] != "" || config.InjectedAsGateway(w)
			if !like && !nearly(selector, w.Labels) {
				continue
			}
			if !yield(w) {
				return
			}
		}
	}
}

// nearly says whether labels have a selector's keys with values that are the
// same, but for typing mistakes.
func nearly(selector, labels map[string]string) bool {
	for k, v := range selector {
		if other, ok := labels[k]; !ok || config.Nearest(v, []string{other}) == "" {
			return false
		}
	}
	return true
}

func labelText(labels map[string]string) string {
	return canonicalLabels(labels, sortedKeys(labels))
}
