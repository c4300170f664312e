package translate

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	security "istio.io/api/security/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

func checkPeerAuthentication(r *Report, m proto.Message) {
	p, _ := m.(*security.PeerAuthentication)
	if len(p.GetPortLevelMtls()) > 0 && len(p.GetSelector().GetMatchLabels()) == 0 {
		r.WarnAt("portLevelMtls", "NoEffect", "has no effect without a selector: ports belong to workloads, so say with selector.matchLabels which")
	}
	for _, port := range slices.Sorted(maps.Keys(p.GetPortLevelMtls())) {
		if port < 1 || port > 65535 {
			r.WarnAt(fmt.Sprintf("portLevelMtls[%d]", port), "PortInvalid", "is for port %d, which no workload has; want a port from 1 to 65535", port)
		}
	}
}

func checkPeerMode(r *Report, v protoreflect.Value) {
	checkEnum(r, security.PeerAuthentication_MutualTLS_UNSET.Descriptor(), v)
}

// peerAuthenticationProblems are policies that another one shadows, selectors
// without workloads, and rules of clients that a policy contradicts.
func (ix *Index) peerAuthenticationProblems() []config.Problem {
	var out []config.Problem
	for _, ns := range ix.mesh.PeerAuthentications.Namespaces() {
		var first *config.PeerAuthentication
		for _, p := range peersInOrder(ix.mesh.PeerAuthentications.In(ns)) {
			if selector := p.Spec.GetSelector().GetMatchLabels(); len(selector) > 0 {
				if ns == ix.mesh.RootNamespace() {
					out = append(out, config.At(&p.Meta, "spec.selector", config.Warning, "NoEffect",
						"has no effect: in the root namespace %s only policies without a selector count, for the whole mesh; put it in the namespace of the workloads", ns))
					continue
				}
				out = append(out, ix.policySelectorProblems(&p.Meta, selector)...)
				continue
			}
			if first == nil {
				first = p
				continue
			}
			out = append(out, config.At(&p.Meta, "", config.Error, "PolicyShadowed",
				"is not in effect: the older %s is for all workloads of namespace %s, too. Add a selector, or remove one of them", first.Key, ns))
		}
	}
	for _, ns := range ix.mesh.PeerAuthentications.Namespaces() {
		out = append(out, overlappingPolicies(ix, ns, arrangedPeers(ix.mesh, ns).selecting, func(p *config.PeerAuthentication) (*config.Meta, map[string]string) {
			return &p.Meta, p.Spec.GetSelector().GetMatchLabels()
		})...)
	}
	return append(out, ix.plaintextRules()...)
}

// overlappingPolicies are policies, the older ones first, that select a workload of
// their namespace which an earlier one of the same kind selects: that one
// alone counts there. Each pair is reported once.
func overlappingPolicies[T any](ix *Index, ns string, list []T, of func(T) (*config.Meta, map[string]string)) []config.Problem {
	var out []config.Problem
	seen := map[[2]string]bool{}
	for _, w := range ix.mesh.Workloads.In(ns) {
		var first *config.Meta
		for _, p := range list {
			meta, selector := of(p)
			if len(selector) == 0 || !config.Selects(selector, w.Labels) {
				continue
			}
			if first == nil {
				first = meta
				continue
			}
			if pair := [2]string{meta.Name, first.Name}; !seen[pair] {
				seen[pair] = true
				out = append(out, config.At(meta, "spec.selector", config.Warning, "PolicyOverlaps",
					"selects workload %s, which the older %s selects, too, and that one alone counts there", w.WorkloadName(), first.Key))
			}
		}
	}
	return out
}

// policySelectorProblems reports a selector that just misses the workloads of
// the namespace; one of the root namespace reaches all.
func (ix *Index) policySelectorProblems(m *config.Meta, selector map[string]string) []config.Problem {
	if len(selector) == 0 {
		return nil
	}
	workloads, where := slices.Values(ix.mesh.Workloads.In(m.Namespace)), "of namespace "+m.Namespace
	if m.Namespace == ix.mesh.RootNamespace() {
		workloads, where = ix.mesh.Workloads.All(), "of the mesh"
	}
	for w := range workloads {
		if config.Selects(selector, w.Labels) {
			return nil
		}
	}
	other := nearMiss(selector, workloads)
	if other == "" {
		return nil
	}
	return []config.Problem{config.At(m, "spec.selector", config.Warning, "WorkloadNotFound",
		"no workload %s has the labels %s; there are some with %s", where, labelText(selector), other)}
}
