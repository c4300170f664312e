package snapshot

import (
	"runtime"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// TestAssignmentsEndWithTheirUse holds that equal assignments are one value for as
// long as somebody has it, and that nothing stays of those that nobody has.
func TestAssignmentsEndWithTheirUse(t *testing.T) {
	var a assignments
	kept := a.add(assignment{spec: 1}, &translate.Resource{Name: "kept"})
	for i := range 1000 {
		a.add(assignment{spec: 2, endpoints: config.Hash(i)}, &translate.Resource{Name: "churn"})
	}
	if other := a.add(assignment{spec: 1}, &translate.Resource{Name: "other"}); other != kept || a.get(assignment{spec: 1}) != kept {
		t.Error("a second assignment took the place of one that is in use")
	}
	left := func() int {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.made)
	}
	for end := time.Now().Add(time.Minute); left() > 1; runtime.GC() {
		if time.Now().After(end) {
			t.Fatalf("%d assignments are remembered", left())
		}
		runtime.Gosched()
	}
	if a.get(assignment{spec: 1}) != kept {
		t.Error("an assignment that is in use was forgotten")
	}
	runtime.KeepAlive(kept)
}
