package discovery

import (
	"slices"

	meshconfig "istio.io/api/mesh/v1alpha1"
)

// labelSelector is a Kubernetes LabelSelector as MeshConfig spells it: all of
// its requirements must hold.
type labelSelector struct{ spec *meshconfig.LabelSelector }

func newLabelSelector(spec *meshconfig.LabelSelector) labelSelector { return labelSelector{spec} }

func (s labelSelector) matches(labels map[string]string) bool {
	for k, v := range s.spec.GetMatchLabels() {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	for _, r := range s.spec.GetMatchExpressions() {
		v, ok := labels[r.GetKey()]
		in := ok && slices.Contains(r.GetValues(), v)
		switch r.GetOperator() {
		case "In":
			if !in {
				return false
			}
		case "NotIn":
			if in {
				return false
			}
		case "Exists":
			if !ok {
				return false
			}
		case "DoesNotExist":
			if ok {
				return false
			}
		default:
			return false
		}
	}
	return true
}
