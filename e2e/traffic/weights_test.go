package traffic

import (
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
)

// TestWeights requires each share to fit within five standard deviations.
func TestWeights(t *testing.T) {
	s := run(t, "base", "weights")
	const n = 600
	for _, c := range []struct {
		host  string
		share float64 // of what counts
		count func(stage.Reply) bool
	}{
		{"even", 0.5, func(r stage.Reply) bool { return r.Echo.Workload == "b" }},
		{"tenth", 0.1, func(r stage.Reply) bool { return r.Echo.Workload == "b" }},
		{"sums-to-four", 0.25, func(r stage.Reply) bool { return r.Echo.Workload == "b" }},
		{"zero", 1, func(r stage.Reply) bool { return r.Echo.Workload == "b" }},
		{"third-aborted", 0.3, func(r stage.Reply) bool { return r.Status == 418 }},
	} {
		t.Run(c.host, func(t *testing.T) {
			got := 0
			for range n {
				r := s.send(t, probe{url: "http://" + c.host + ".test/"})
				switch {
				case c.count(r):
					got++
				case r.Status != 200 || r.Echo.Workload != "a":
					t.Fatalf("status %d by %q", r.Status, r.Echo.Workload)
				}
			}
			if !stage.Fits(got, n, c.share, 5) {
				t.Errorf("%d of %d, want a share of %v", got, n, c.share)
			}
		})
	}
}
