package discovery

import (
	corev1 "k8s.io/api/core/v1"
	utilversion "k8s.io/apimachinery/pkg/util/version"
)

// kubelets are the minor versions of the nodes' kubelets.
type kubelets struct {
	of      map[string]int // by node; nodes that do not say have none
	lowest  int
	current bool // lowest is that of the nodes
}

func (k *kubelets) change(node string, after *Object) {
	minor := 0
	if n, ok := bodyOf[*corev1.Node](after); ok {
		if v, err := utilversion.ParseGeneric(n.Status.NodeInfo.KubeletVersion); err == nil {
			minor = int(v.Minor()) //nolint:gosec // as small as a version's number
		}
	}
	if k.of[node] == minor {
		return
	}
	k.current = false
	if minor == 0 {
		delete(k.of, node)
		return
	}
	k.of[node] = minor
}

// oldest is the lowest version, or 0 if no node says.
func (k *kubelets) oldest() int {
	if k.current {
		return k.lowest
	}
	k.lowest, k.current = 0, true
	for _, minor := range k.of {
		if k.lowest == 0 || minor < k.lowest {
			k.lowest = minor
		}
	}
	return k.lowest
}
