package examples

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// early is by how much Envoy's timers, which count from when its event loop last
// looked at the clock, may seem to end before their time.
const early = 50 * time.Millisecond

func TestRequestRouting(t *testing.T) {
	namespaces(t, func(t *testing.T, mode up.Mode) {
		c := run(t, "request-routing", mode, nil).outside()
		for _, want := range []struct {
			version, path, seen string
			headers             []string
		}{
			{"v1", "/reviews/0", "/reviews/0", nil},
			{"v1", "/reviews/0", "/reviews/0", []string{"end-user", "somebody"}},
			{"v1", "/v3", "/v3", nil},
			{"v2", "/reviews/0", "/reviews/0", []string{"end-user", "tester"}},
			{"v2", "/v3/reviews/0", "/v3/reviews/0", []string{"end-user", "tester"}}, // the first match decides
			{"v3", "/v3/reviews/0", "/reviews/0", nil},
		} {
			for range 10 {
				a := c.get(t, want.path, want.headers...)
				if a.status != http.StatusOK || a.Version != want.version || a.Path != want.seen {
					t.Fatalf("%s %v: %v, path %q; want 200 from %s, path %q", want.path, want.headers, a, a.Path, want.version, want.seen)
				}
			}
		}
	})
}

func TestTrafficShifting(t *testing.T) {
	s := run(t, "traffic-shifting", up.Loopback, nil)
	c := s.outside()
	share := func(n int, want float64) string {
		got := c.answers(t, n, "/")
		if len(got) > 2 || got["v1"]+got["v3"] != n {
			t.Fatalf("answers of %v", slices.Collect(maps.Keys(got)))
		}
		if !fits(got["v3"], n, want) {
			return fmt.Sprintf("%d of %d reach v3, want %v", got["v3"], n, want)
		}
		return ""
	}
	if wrong := share(400, 0.25); wrong != "" {
		t.Error(wrong)
	}
	s.edit("shifting.yaml", "weight: 75", "weight: 50", "weight: 25", "weight: 50")
	envoytest.Eventually(t, 10*time.Second, func() string { return share(200, 0.5) })
	s.edit("shifting.yaml", "v1}\n      weight: 50", "v1}\n      weight: 0", "v3}\n      weight: 50", "v3}\n      weight: 100")
	envoytest.Eventually(t, 10*time.Second, func() string { return share(200, 1) })
}

func TestFaultInjection(t *testing.T) {
	c := run(t, "fault-injection", up.Loopback, nil).outside()
	if a := c.get(t, "/"); a.status != http.StatusOK || a.Version != "v1" || a.took > time.Second {
		t.Errorf("without a fault: %v after %v", a, a.took)
	}
	if a := c.get(t, "/", "end-user", "delayed"); a.status != http.StatusOK || a.Version != "v1" || a.took < 2*time.Second-early {
		t.Errorf("delayed: %v after %v, want 200 after 2 s", a, a.took)
	}
	for range 10 {
		if a := c.get(t, "/", "end-user", "refused"); a.status != http.StatusInternalServerError || a.Workload != "" || a.body != "fault filter abort" {
			t.Fatalf("refused: %v, want 500 and no answer of the application", a)
		}
	}
	const n = 200
	aborted := 0
	for range n {
		switch a := c.get(t, "/flaky"); {
		case a.status == http.StatusServiceUnavailable && a.body == "fault filter abort":
			aborted++
		case a.status != http.StatusOK || a.Version != "v1":
			t.Fatalf("flaky: %v", a)
		}
	}
	if !fits(aborted, n, 0.5) {
		t.Errorf("%d of %d requests to /flaky were aborted, want half", aborted, n)
	}
}

func TestRequestTimeouts(t *testing.T) {
	c := run(t, "request-timeouts", up.Loopback, nil).outside()
	if a := c.get(t, "/"); a.status != http.StatusOK || a.Version != "v1" {
		t.Errorf("a quick answer: %v", a)
	}
	a := c.get(t, "/?delay=2s")
	if a.status != http.StatusGatewayTimeout || a.took < 500*time.Millisecond-early || a.took > 1900*time.Millisecond {
		t.Errorf("a slow answer: %v after %v, want 504 after 0.5 s", a, a.took)
	}
	if a := c.get(t, "/reports?delay=2s"); a.status != http.StatusOK || a.Version != "v1" || a.took < 2*time.Second-early {
		t.Errorf("a report: %v after %v, want 200 after 2 s", a, a.took)
	}
}

func TestMirroring(t *testing.T) {
	s := run(t, "mirroring", up.Loopback, nil)
	c := s.outside()
	const n = 10
	for i := range n {
		if a := c.get(t, fmt.Sprintf("/copied-%d/", i)); a.status != http.StatusOK || a.Version != "v1" || strings.Contains(a.Host, "-shadow") {
			t.Fatalf("%v, host %q; want 200 from v1", a, a.Host)
		}
	}
	seen := func(workload string) (requests, shadows int) {
		lines, err := s.mesh.Log(workload, 200)
		if err != nil {
			t.Fatal(err)
		}
		log := strings.Join(lines, "\n")
		for i := range n {
			requests += strings.Count(log, fmt.Sprintf("/copied-%d/", i))
		}
		return requests, strings.Count(log, "-shadow")
	}
	envoytest.Eventually(t, 20*time.Second, func() string { // Envoy flushes its log every 10 s
		r1, s1 := seen("reviews-v1")
		r2, s2 := seen("reviews-v2")
		if r1 != n || s1 != 0 || r2 != n || s2 != n {
			return fmt.Sprintf("v1 logged %d requests and %d shadows, v2 %d and %d; want %d, 0, %d, %d", r1, s1, r2, s2, n, n, n)
		}
		return ""
	})
}
