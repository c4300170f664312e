package traffic

import (
	"math"
	"testing"
)

// TestWeights requires each share to fit within five standard deviations.
func TestWeights(t *testing.T) {
	s := newStage(t, "base", "weights")
	const n = 600
	for _, c := range []struct {
		host  string
		share float64 // of what counts
		count func(reply) bool
	}{
		{"even", 0.5, func(r reply) bool { return r.echo.Workload == "b" }},
		{"tenth", 0.1, func(r reply) bool { return r.echo.Workload == "b" }},
		{"sums-to-four", 0.25, func(r reply) bool { return r.echo.Workload == "b" }},
		{"zero", 1, func(r reply) bool { return r.echo.Workload == "b" }},
		{"third-aborted", 0.3, func(r reply) bool { return r.status == 418 }},
	} {
		t.Run(c.host, func(t *testing.T) {
			got := 0
			for range n {
				r := s.send(t, probe{url: "http://" + c.host + ".test/"})
				switch {
				case c.count(r):
					got++
				case r.status != 200 || r.echo.Workload != "a":
					t.Fatalf("status %d by %q", r.status, r.echo.Workload)
				}
			}
			if off := math.Abs(float64(got) - n*c.share); off > 5*math.Sqrt(n*c.share*(1-c.share)) {
				t.Errorf("%d of %d, want a share of %v", got, n, c.share)
			}
		})
	}
}
