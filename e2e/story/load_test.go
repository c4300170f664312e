package story

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
)

// answer is what the echo servers say of themselves.
type answer struct {
	Workload string `json:"workload"`
	Version  string `json:"version"`
}

// caller sends requests to one place and checks each response.
type caller struct {
	client *http.Client
	url    string
	host   string
}

// call sends one request; anything but a 200 from an echo server is an error.
func (c *caller) call(ctx context.Context) (answer, error) {
	var a answer
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return a, err
	}
	if c.host != "" {
		req.Host = c.host
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return a, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return a, err
	}
	if resp.StatusCode != http.StatusOK {
		return a, fmt.Errorf("status %d, flags %q: %s", resp.StatusCode, resp.Header.Get("x-envoy-response-flags"), body)
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return a, fmt.Errorf("%q: %w", body, err)
	}
	return a, nil
}

// count sends n requests, one after another, and counts who answered.
func (c *caller) count(t *testing.T, n int) map[string]int {
	t.Helper()
	out := map[string]int{}
	for range n {
		a, err := c.call(t.Context())
		if err != nil {
			t.Fatalf("a request failed: %v", err)
		}
		out[a.Version]++
	}
	return out
}

// load is a steady load in the background.
type load struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	sent     int
	failures []string
}

// start keeps each caller sending until stop.
func start(t *testing.T, callers ...*caller) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel}
	for _, c := range callers {
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			for ctx.Err() == nil {
				_, err := c.call(ctx)
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
		}()
	}
	t.Cleanup(func() { cancel(); l.wg.Wait() })
	return l
}

// stop ends the load and fails the test if any response was wrong.
func (l *load) stop(t *testing.T) {
	t.Helper()
	l.cancel()
	l.wg.Wait()
	if l.sent < 100 {
		t.Errorf("the load sent only %d requests", l.sent)
	}
	if n := len(l.failures); n > 0 {
		t.Errorf("%d of %d requests failed, the first with: %s", n, l.sent, l.failures[0])
	}
	t.Logf("%d requests, %d failed", l.sent, len(l.failures))
}
