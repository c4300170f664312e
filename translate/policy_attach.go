package translate

import (
	"slices"
	"sort"

	"google.golang.org/protobuf/proto"
	"istio.io/api/label"
	typev1beta1 "istio.io/api/type/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// gatewayNameLabel says which Gateway of the Gateway API a workload serves.
var gatewayNameLabel = label.IoK8sNetworkingGatewayGatewayName.Name

// attachable is a policy that says for which workloads it is.
type attachable interface {
	GetSelector() *typev1beta1.WorkloadSelector
	GetTargetRef() *typev1beta1.PolicyTargetReference
	GetTargetRefs() []*typev1beta1.PolicyTargetReference
}

func targetRefs(p attachable) []*typev1beta1.PolicyTargetReference {
	if refs := p.GetTargetRefs(); len(refs) > 0 {
		return refs
	}
	if p.GetTargetRef() != nil {
		return []*typev1beta1.PolicyTargetReference{p.GetTargetRef()}
	}
	return nil
}

// attaches reports whether a policy of one namespace is for a workload: by
// labels, or because the policy targets the Gateway that the workload serves.
func attaches(p attachable, policyNamespace, namespace string, labels map[string]string) bool {
	refs := targetRefs(p)
	if len(refs) == 0 {
		return config.Selects(p.GetSelector().GetMatchLabels(), labels)
	}
	gateway := labels[gatewayNameLabel]
	return gateway != "" && policyNamespace == namespace &&
		slices.ContainsFunc(refs, func(r *typev1beta1.PolicyTargetReference) bool {
			return r.GetGroup() == "gateway.networking.k8s.io" && r.GetKind() == "Gateway" && r.GetName() == gateway &&
				(r.GetNamespace() == "" || r.GetNamespace() == namespace)
		})
}

// attached are the policies of the root namespace and of a workload's own that
// are for the workload: the root namespace's first, the older ones first.
func attached[S interface {
	proto.Message
	attachable
}](m *config.Mesh, index config.Index[*config.Object[S]], namespace string, labels map[string]string) []*config.Object[S] {
	var out []*config.Object[S]
	namespaces := []string{m.RootNamespace()}
	if namespace != namespaces[0] {
		namespaces = append(namespaces, namespace)
	}
	for _, ns := range namespaces {
		list := slices.Clone(index.In(ns))
		sort.SliceStable(list, func(i, j int) bool { return list[i].Before(&list[j].Meta) })
		for _, p := range list {
			if attaches(p.Spec, ns, namespace, labels) {
				out = append(out, p)
			}
		}
	}
	return out
}

// addAttachmentLabels adds the labels by which a policy finds workloads.
func addAttachmentLabels(keys labelKeys, p attachable) {
	keys.add(p.GetSelector().GetMatchLabels())
	if len(targetRefs(p)) > 0 {
		keys[gatewayNameLabel] = true
	}
}

// attachmentProblems are what keeps a policy from any workload.
func (ix *Index) attachmentProblems(meta *config.Meta, p attachable) []config.Problem {
	var out []config.Problem
	for _, r := range targetRefs(p) {
		if r.GetKind() != "Gateway" || r.GetGroup() != "gateway.networking.k8s.io" {
			out = append(out, config.At(meta, "spec.targetRefs", config.Warning, "TargetUnsupported",
				"names a %s: only waypoints take such policies, and pilotfish has none. Target a Gateway of the Gateway API, or use selector", shown(r.GetKind())))
		}
	}
	if len(targetRefs(p)) > 0 {
		if p.GetTargetRef() != nil && len(p.GetTargetRefs()) > 0 {
			out = append(out, config.At(meta, "spec.targetRef", config.Warning, "NoEffect", "has no effect beside targetRefs"))
		}
		if len(p.GetSelector().GetMatchLabels()) > 0 {
			out = append(out, config.At(meta, "spec.selector", config.Warning, "NoEffect", "has no effect beside targetRefs"))
		}
		return out
	}
	return append(out, ix.policySelectorProblems(meta, p.GetSelector().GetMatchLabels())...)
}
