package traffic

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
)

// near is the endpoint in the client's own locality.
const near = "pool-east"

// TestBalance covers DestinationRules: which endpoint answers, and when none
// may.
func TestBalance(t *testing.T) {
	s := run(t, "balance")
	began := time.Now()
	user := func(name string) headers { return headers{"x-user": name} }
	sticks := map[string]func(who string) probe{
		"header": func(who string) probe { return probe{url: "http://hash-header/", headers: user(who)} },
		"maglev": func(who string) probe { return probe{url: "http://hash-maglev/", headers: user(who)} },
		"query":  func(who string) probe { return probe{url: "http://hash-query/?user=" + who} },
		"cookie": func(who string) probe {
			return probe{url: "http://hash-cookie/shop", headers: headers{"cookie": "session=" + who}}
		},
	}
	for name, of := range sticks {
		t.Run("sticks to "+name, func(t *testing.T) { s.sticks(t, of) })
	}
	t.Run("sticks to the source", s.sticksToSource)
	t.Run("gives a cookie", s.givesCookie)
	t.Run("stays near", func(t *testing.T) { s.only(t, "near", near) })
	t.Run("fails over", func(t *testing.T) { s.failsOver(t, "near", near, "pool-west", "pool-south") })
	t.Run("fails over as told", func(t *testing.T) { s.failsOver(t, "far", near, "pool-south") })
	t.Run("prefers its label", func(t *testing.T) { s.only(t, "prefers", "pool-west") })
	t.Run("fails over by labels", func(t *testing.T) { s.failsOver(t, "prefers", "pool-west", near, "pool-south") })
	t.Run("distributes", s.distributes)
	t.Run("breaks the circuit", s.breaksCircuit)
	t.Run("ejects and takes back", s.ejects)
	t.Run("warms up", func(t *testing.T) { s.warmsUp(t, began) })
}

// sticks requires that each value has one endpoint, and that not all have the
// same.
func (s *theme) sticks(t *testing.T, of func(who string) probe) {
	found := map[string]bool{}
	for i := range 30 {
		p := of(fmt.Sprintf("user-%d", i))
		first := s.send(t, p).Echo.Pod
		found[first] = true
		for range 4 {
			if now := s.send(t, p).Echo.Pod; now != first {
				t.Fatalf("user %d went to %q, then to %q", i, first, now)
			}
		}
	}
	if len(found) < 2 {
		t.Errorf("30 values all went to %v", found)
	}
}

// sticksToSource requires one endpoint for all requests of one client, whatever
// connection they come by.
func (s *theme) sticksToSource(t *testing.T) {
	first := s.send(t, probe{url: "http://hash-source/"}).Echo.Pod
	for range 30 {
		s.Inside("client", "").Client.CloseIdleConnections()
		if now := s.send(t, probe{url: "http://hash-source/"}).Echo.Pod; now != first || now == "" {
			t.Fatalf("the client went to %q, then to %q", first, now)
		}
	}
}

// givesCookie requires a cookie of the rule's name, path and age for a client
// without, and that it leads back to where it came from.
func (s *theme) givesCookie(t *testing.T) {
	for range 10 {
		first := s.send(t, probe{url: "http://hash-cookie/shop"})
		cookies := (&http.Response{Header: first.Header}).Cookies()
		if len(cookies) != 1 || cookies[0].Name != "session" || cookies[0].Path != "/shop" || cookies[0].MaxAge != 60 {
			t.Fatalf("cookies %v", first.Header.Values("Set-Cookie"))
		}
		again := s.send(t, probe{url: "http://hash-cookie/shop", headers: headers{"cookie": "session=" + cookies[0].Value}})
		if again.Echo.Pod != first.Echo.Pod {
			t.Errorf("the cookie of %s led to %s", first.Echo.Pod, again.Echo.Pod)
		}
	}
}

// only requires that 50 requests are answered by one workload.
func (s *theme) only(t *testing.T, host, workload string) {
	t.Helper()
	for range 50 {
		r := s.send(t, probe{url: "http://" + host + "/"})
		if r.Status != http.StatusOK || r.Echo.Workload != workload {
			t.Fatalf("status %d by %q, want %s", r.Status, r.Echo.Workload, workload)
		}
	}
}

// failsOver makes the preferred endpoint fail until it is ejected, sees others
// answer, and sees it return.
func (s *theme) failsOver(t *testing.T, host, first string, others ...string) {
	envoytest.Eventually(t, patience, func() string {
		by := s.send(t, probe{url: "http://" + host + "/?status=500"}).Echo.Workload
		switch {
		case by == first:
			return "the failing endpoint still answers"
		case !slices.Contains(others, by):
			t.Fatalf("answered by %q, want %v", by, others)
		}
		return ""
	})
	envoytest.Eventually(t, patience, func() string {
		if s.send(t, probe{url: "http://" + host + "/"}).Echo.Workload == first {
			return ""
		}
		return "the preferred endpoint has not returned"
	})
}

func (s *theme) distributes(t *testing.T) {
	const n, share = 600, 0.3
	west := 0
	for range n {
		switch r := s.send(t, probe{url: "http://distribute/"}); r.Echo.Workload {
		case "pool-west":
			west++
		case near:
		default:
			t.Fatalf("status %d by %q", r.Status, r.Echo.Workload)
		}
	}
	if !stage.Fits(west, n, share, 5) {
		t.Errorf("%d of %d went west, want a share of %v", west, n, share)
	}
}

// breaksCircuit sends ten slow requests at once where one connection is
// allowed and one request may wait.
func (s *theme) breaksCircuit(t *testing.T) {
	const n = 10
	replies := make(chan stage.Reply, n)
	c := s.Inside("client", "").Client
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			r, err := ask(t.Context(), c, probe{url: "http://few/?delay=1s"})
			if err != nil {
				t.Error(err)
			}
			replies <- r
		})
	}
	wg.Wait()
	close(replies)
	served, refused := 0, 0
	for r := range replies {
		switch {
		case r.Status == http.StatusOK:
			served++
		case r.Status == http.StatusServiceUnavailable && r.Header.Get("x-envoy-overloaded") == "true":
			refused++
		default:
			t.Errorf("status %d: %s", r.Status, r.Body)
		}
	}
	if served == 0 || refused < n/2 {
		t.Errorf("%d served, %d refused of %d", served, refused, n)
	}
}

// ejects makes all endpoints fail until none is left, and sees all return.
func (s *theme) ejects(t *testing.T) {
	failed := map[string]int{}
	envoytest.Eventually(t, patience, func() string {
		r := s.send(t, probe{url: "http://ejects/?status=500"})
		if r.Status == http.StatusServiceUnavailable && r.Body == "no healthy upstream" {
			return ""
		}
		failed[r.Echo.Workload]++
		return fmt.Sprintf("still answered after failures %v", failed)
	})
	for _, w := range []string{near, "pool-west", "pool-south"} {
		if failed[w] < 3 {
			t.Errorf("%s was ejected after %d failures, want 3 or more", w, failed[w])
		}
	}
	back := map[string]bool{}
	envoytest.Eventually(t, patience, func() string {
		if r := s.send(t, probe{url: "http://ejects/"}); r.Status == http.StatusOK {
			back[r.Echo.Workload] = true
		}
		if len(back) == 3 {
			return ""
		}
		return fmt.Sprintf("only %v returned", back)
	})
}

// warmsUp gives a Service whose one endpoint is warm, since the mesh began, a
// second one, and requires that this has its smallest share at first and half of
// the requests in the end.
func (s *theme) warmsUp(t *testing.T, began time.Time) {
	const window, coldest, share, n = 8 * time.Second, 6 * time.Second, 0.1 / 1.1, 200
	s.only(t, "warm", near)
	passed(t, began, window)
	added := time.Now()
	s.Delivered(func() { s.Edit("balance.yaml", ", deployment: pool-east} # alone at first", "}") })
	west, asked := 0, 0
	for ; asked < n && time.Since(added) < coldest; asked++ {
		west += s.warm(t)
	}
	if west == 0 || !stage.Fits(west, asked, share, 5) {
		t.Errorf("%d of the first %d requests went to the new endpoint, want a share of %.2f", west, asked, share)
	}
	passed(t, time.Now(), window)
	west = 0
	for range n {
		west += s.warm(t)
	}
	if !stage.Fits(west, n, 0.5, 5) {
		t.Errorf("%d of %d requests went to the new endpoint in the end, want half", west, n)
	}
}

// warm is 1 if a request reached the new endpoint.
func (s *theme) warm(t *testing.T) int {
	t.Helper()
	switch r := s.send(t, probe{url: "http://warm/"}); r.Echo.Workload {
	case "pool-west":
		return 1
	case near:
		return 0
	default:
		t.Fatalf("%v", r)
		return 0
	}
}

// passed waits until a time has passed: what a proxy's clock decides sends no
// signal.
func passed(t *testing.T, since time.Time, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(time.Until(since.Add(d))):
	case <-t.Context().Done():
	}
}
