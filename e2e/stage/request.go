package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/up/echo"
)

// Reply is one HTTP response.
type Reply struct {
	Status int
	Header http.Header
	Body   string
	Echo   echo.Answer // zero unless an application of the mesh answered
	Took   time.Duration
}

func (r Reply) String() string {
	return fmt.Sprintf("%d %q from %q", r.Status, r.Body, r.Echo.Workload)
}

// Send sends one request and reads the whole answer. "Host" among the headers
// is the request's.
func Send(ctx context.Context, c *http.Client, method, url string, headers map[string]string) (Reply, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return Reply{}, err
	}
	for k, v := range headers {
		if k == "Host" {
			req.Host = v
		} else {
			req.Header.Set(k, v)
		}
	}
	began := time.Now()
	resp, err := c.Do(req)
	if err != nil {
		return Reply{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return Reply{}, err
	}
	r := Reply{Status: resp.StatusCode, Header: resp.Header, Body: string(body), Took: time.Since(began)}
	if resp.Header.Get(echo.WorkloadHeader) != "" {
		if err := json.Unmarshal(body, &r.Echo); err != nil {
			return r, fmt.Errorf("%q: %w", body, err)
		}
	}
	return r, nil
}

// Caller sends requests to one place.
type Caller struct {
	Client *http.Client
	Base   string // what paths are appended to
	Host   string // that requests carry; that of Base if empty
}

// Inside calls as the application of a workload does.
func (s *Stage) Inside(workload, base string) *Caller {
	s.t.Helper()
	c := s.callers[workload]
	if c == nil {
		client, err := s.Client(workload)
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(client.CloseIdleConnections)
		c = &Caller{Client: client}
		s.callers[workload] = c
	}
	return &Caller{Client: c.Client, Base: base}
}

// Outside calls an HTTP port of a Gateway from outside of the mesh.
func (s *Stage) Outside(gateway string, port uint32) *Caller {
	s.t.Helper()
	tr := &http.Transport{}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &Caller{
		Client: &http.Client{
			Transport: tr, Timeout: Patience,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Base: "http://" + s.At(gateway, port),
	}
}

// At is the address of a Gateway's port.
func (s *Stage) At(gateway string, port uint32) string {
	s.t.Helper()
	address, err := s.Gateway(gateway, port)
	if err != nil {
		s.t.Fatal(err)
	}
	return address
}

// Try sends a GET with headers in pairs.
func (c *Caller) Try(ctx context.Context, path string, headers ...string) (Reply, error) {
	h := map[string]string{}
	if c.Host != "" {
		h["Host"] = c.Host
	}
	for i := 0; i+1 < len(headers); i += 2 {
		h[headers[i]] = headers[i+1]
	}
	return Send(ctx, c.Client, http.MethodGet, c.Base+path, h)
}

// Get is Try for a request that must have an answer.
func (c *Caller) Get(t testing.TB, path string, headers ...string) Reply {
	t.Helper()
	r, err := c.Try(t.Context(), path, headers...)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return r
}

// Versions sends n requests, one after another, requires an application to
// answer each with 200, and counts by version.
func (c *Caller) Versions(t testing.TB, n int, path string, headers ...string) map[string]int {
	t.Helper()
	out := map[string]int{}
	for range n {
		r := c.Get(t, path, headers...)
		if r.Status != http.StatusOK || r.Echo.Workload == "" {
			t.Fatalf("%s: %v, want 200 from the application", path, r)
		}
		out[r.Echo.Version]++
	}
	return out
}

// Fits reports whether k of n trials fit a probability within a number of
// standard deviations, and half a trial.
func Fits(k, n int, p, sigmas float64) bool {
	return math.Abs(float64(k)-float64(n)*p) <= sigmas*math.Sqrt(float64(n)*p*(1-p))+0.5
}
