package traffic

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
)

// tcpWeights: a sidecar shares connections out by weight.
func (s *theme) tcpWeights(t *testing.T) {
	const n, share = 300, 0.25
	b := 0
	for range n {
		switch got := s.line(t, "client", "weighted:7002"); {
		case strings.Contains(got, `"workload":"b"`):
			b++
		case !strings.Contains(got, `"workload":"a"`):
			t.Fatalf("answered %s", got)
		}
	}
	if !stage.Fits(b, n, share, 5) {
		t.Errorf("%d of %d connections reached b, want a share of %v", b, n, share)
	}
}

// mirrorsShare: of the requests to a, each mirror's share is copied to it.
func (s *theme) mirrorsShare(t *testing.T, o *outside) {
	const n, share, more = 400, 0.2, 50
	c := s.Inside("client", "http://mirrored.test")
	for range n {
		if r := c.Get(t, "/"); r.Status != http.StatusOK || r.Echo.Workload != "a" {
			t.Fatalf("%v, want 200 from a", r)
		}
	}
	// Copies are sent on their own: some may still be under way, but not longer
	// than these requests to the same server take.
	for range more {
		if r := s.send(t, probe{url: "http://counted.test/"}); r.Status != http.StatusOK {
			t.Fatalf("%v", r)
		}
	}
	if got := int(o.counted.Load()) - more; !stage.Fits(got, n, share, 5) {
		t.Errorf("%d of %d requests were copied, want a share of %v", got, n, share)
	}
}

// budgets: of requests that fail together only one is tried again, because a
// budget allows one retry at a time.
func (s *theme) budgets(t *testing.T, o *outside) {
	const n = 8
	c := s.Inside("client", "").Client
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if r, err := ask(t.Context(), c, probe{url: "http://budget.test/"}); err != nil || r.Status != http.StatusServiceUnavailable {
				t.Errorf("%v, %v; want 503", r, err)
			}
		})
	}
	wg.Wait()
	// Requests that a busy machine sends late may find the budget free again.
	if got := o.failed.Load(); got <= n || got > n+n/2 {
		t.Errorf("%d tries of %d requests, want one or few more than these", got, n)
	}
}
