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
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

func TestRequestRouting(t *testing.T) {
	stage.EachMode(t, func(t *testing.T, mode up.Mode) {
		c := outside(run(t, "request-routing", mode, nil))
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
				a := c.Get(t, want.path, want.headers...)
				if a.Status != http.StatusOK || a.Echo.Version != want.version || a.Echo.Path != want.seen {
					t.Fatalf("%s %v: %v, path %q; want 200 from %s, path %q", want.path, want.headers, a, a.Echo.Path, want.version, want.seen)
				}
			}
		}
	})
}

func TestTrafficShifting(t *testing.T) {
	s := run(t, "traffic-shifting", up.Loopback, nil)
	c := outside(s)
	share := func(n int, want float64) string {
		got := c.Versions(t, n, "/")
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
	s.Edit("shifting.yaml", "weight: 75", "weight: 50", "weight: 25", "weight: 50")
	envoytest.Eventually(t, 10*time.Second, func() string { return share(200, 0.5) })
	s.Edit("shifting.yaml", "v1}\n      weight: 50", "v1}\n      weight: 0", "v3}\n      weight: 50", "v3}\n      weight: 100")
	envoytest.Eventually(t, 10*time.Second, func() string { return share(200, 1) })
}

func TestFaultInjection(t *testing.T) {
	c := outside(run(t, "fault-injection", up.Loopback, nil))
	if a := c.Get(t, "/"); a.Status != http.StatusOK || a.Echo.Version != "v1" || a.Took > time.Second {
		t.Errorf("without a fault: %v after %v", a, a.Took)
	}
	if a := c.Get(t, "/", "end-user", "delayed"); a.Status != http.StatusOK || a.Echo.Version != "v1" || a.Took < 2*time.Second-stage.Early {
		t.Errorf("delayed: %v after %v, want 200 after 2 s", a, a.Took)
	}
	for range 10 {
		if a := c.Get(t, "/", "end-user", "refused"); a.Status != http.StatusInternalServerError || a.Echo.Workload != "" || a.Body != "fault filter abort" {
			t.Fatalf("refused: %v, want 500 and no answer of the application", a)
		}
	}
	const n = 200
	aborted := 0
	for range n {
		switch a := c.Get(t, "/flaky"); {
		case a.Status == http.StatusServiceUnavailable && a.Body == "fault filter abort":
			aborted++
		case a.Status != http.StatusOK || a.Echo.Version != "v1":
			t.Fatalf("flaky: %v", a)
		}
	}
	if !fits(aborted, n, 0.5) {
		t.Errorf("%d of %d requests to /flaky were aborted, want half", aborted, n)
	}
}

func TestRequestTimeouts(t *testing.T) {
	c := outside(run(t, "request-timeouts", up.Loopback, nil))
	if a := c.Get(t, "/"); a.Status != http.StatusOK || a.Echo.Version != "v1" {
		t.Errorf("a quick answer: %v", a)
	}
	a := c.Get(t, "/?delay=2s")
	if a.Status != http.StatusGatewayTimeout || a.Took < 500*time.Millisecond-stage.Early || a.Took > 1900*time.Millisecond {
		t.Errorf("a slow answer: %v after %v, want 504 after 0.5 s", a, a.Took)
	}
	if a := c.Get(t, "/reports?delay=2s"); a.Status != http.StatusOK || a.Echo.Version != "v1" || a.Took < 2*time.Second-stage.Early {
		t.Errorf("a report: %v after %v, want 200 after 2 s", a, a.Took)
	}
}

func TestMirroring(t *testing.T) {
	s := run(t, "mirroring", up.Loopback, nil)
	c := outside(s)
	const n = 10
	for i := range n {
		if a := c.Get(t, fmt.Sprintf("/copied-%d/", i)); a.Status != http.StatusOK || a.Echo.Version != "v1" || strings.Contains(a.Echo.Host, "-shadow") {
			t.Fatalf("%v, host %q; want 200 from v1", a, a.Echo.Host)
		}
	}
	seen := func(workload string) (requests, shadows int) {
		lines, err := s.Log(workload, 200)
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
