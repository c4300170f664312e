package story

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
)

// steady is a steady load in the background.
type steady struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	sent     int
	failures []string
}

// load keeps each caller sending until stop.
func load(t *testing.T, callers ...*stage.Caller) *steady {
	ctx, cancel := context.WithCancel(context.Background())
	l := &steady{cancel: cancel}
	for _, c := range callers {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				err := answered(ctx, c)
				if ctx.Err() != nil {
					return // cut off by stop
				}
				l.mu.Lock()
				l.sent++
				if err != nil {
					l.failures = append(l.failures, err.Error())
				}
				l.mu.Unlock()
			}
		})
	}
	t.Cleanup(func() { cancel(); l.wg.Wait() })
	return l
}

// answered sends one request; anything but a 200 from an application is an
// error.
func answered(ctx context.Context, c *stage.Caller) error {
	r, err := c.Try(ctx, "/")
	if err != nil {
		return err
	}
	if r.Status != http.StatusOK || r.Echo.Workload == "" {
		return fmt.Errorf("%v, flags %q", r, r.Header.Get("x-envoy-response-flags"))
	}
	return nil
}

// more waits until n more requests were answered.
func (l *steady) more(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.sent
	}
	until := count() + n
	envoytest.Eventually(t, stage.Patience, func() string {
		if count() >= until {
			return ""
		}
		return "the load stands still"
	})
}

// failed is how many requests have failed.
func (l *steady) failed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.failures)
}

// end ends the load.
func (l *steady) end() {
	l.cancel()
	l.wg.Wait()
}

// stop ends the load and fails the test if any response was wrong.
func (l *steady) stop(t *testing.T) {
	t.Helper()
	l.end()
	if l.sent < 100 {
		t.Errorf("the load sent only %d requests", l.sent)
	}
	if n := len(l.failures); n > 0 {
		t.Errorf("%d of %d requests failed, the first with: %s", n, l.sent, l.failures[0])
	}
	t.Logf("%d requests, %d failed", l.sent, len(l.failures))
}
