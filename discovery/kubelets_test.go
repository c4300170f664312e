package discovery_test

import (
	"fmt"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// The Mesh says how old the oldest kubelet is; nodes that do not say, and
// nodes that went, do not count.
func TestOldestKubelet(t *testing.T) {
	s := discovery.NewStore(nil, "test")
	s.Synced("test")
	node := func(name, version string) string {
		return fmt.Sprintf("\n---\napiVersion: v1\nkind: Node\nmetadata: {name: %s}\nstatus: {nodeInfo: {kubeletVersion: %q}}", name, version)
	}
	for _, step := range []struct {
		nodes string
		gone  bool
		want  int
	}{
		{node("a", ""), false, 0},
		{node("a", "v1.33.1") + node("b", "v1.29.3-gke.10"), false, 29},
		{node("b", "v1.34.0"), false, 33},
		{node("c", "v1.28.9"), false, 28},
		{node("c", ""), true, 33},
		{node("a", "odd"), false, 34},
	} {
		changes := changesOf(t, step.nodes)
		for i := range changes {
			changes[i].Deleted = step.gone
		}
		s.Apply("test", changes)
		if got := s.Mesh().OldestKubelet; got != step.want {
			t.Errorf("after %s: %d, want %d", step.nodes, got, step.want)
		}
	}
}
