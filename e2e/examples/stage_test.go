package examples

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/up"
)

func TestMain(m *testing.M) {
	if code, is := up.RunRole(os.Args); is {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}

// stage is a running copy of one example.
type stage struct {
	t    *testing.T
	dir  string
	mesh *up.Mesh
}

// run starts an example; prepare, if not nil, changes the copy first.
func run(t *testing.T, example string, mode up.Mode, prepare func(dir string)) *stage {
	t.Helper()
	s := &stage{t: t, dir: t.TempDir()}
	if err := os.CopyFS(s.dir, os.DirFS(filepath.Join("../../examples", example))); err != nil {
		t.Fatal(err)
	}
	if prepare != nil {
		prepare(s.dir)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var err error
	s.mesh, err = up.Start(ctx, up.Options{
		Paths: []string{s.dir}, Envoy: envoytest.Binary(t), Mode: mode, Note: func(line string) { t.Log(line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.mesh.Close)
	plane := s.mesh.Plane()
	for _, p := range append(plane.Cache.Problems(), plane.Store.Mesh().Problems...) {
		t.Errorf("the example has a problem: %v %s %s", p.Object, p.Field, p.Message)
	}
	return s
}

// namespaces runs f where the machine can make network namespaces.
func namespaces(t *testing.T, f func(t *testing.T, mode up.Mode)) {
	t.Run("netns", func(t *testing.T) {
		if err := up.CanUseNamespaces(); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("needs root: %v", err)
			}
			t.Skipf("needs root: %v", err)
		}
		f(t, up.Namespaces)
	})
	t.Run("loopback", func(t *testing.T) { f(t, up.Loopback) })
}

// gateway is the address of a Gateway's port.
func (s *stage) gateway(name string, port uint32) string {
	s.t.Helper()
	address, err := s.mesh.Gateway(name, port)
	if err != nil {
		s.t.Fatal(err)
	}
	return address
}

// outside calls the gateway that every example with HTTP has.
func (s *stage) outside() *caller {
	s.t.Helper()
	tr := &http.Transport{}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &caller{
		client: &http.Client{Transport: tr, Timeout: 10 * time.Second},
		base:   "http://" + s.gateway("shop", 80),
	}
}

// edit replaces texts in a file of the copy, in one step.
func (s *stage) edit(name string, oldnew ...string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	b, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	text := strings.NewReplacer(oldnew...).Replace(string(b))
	if text == string(b) {
		s.t.Fatalf("%s does not hold %q", name, oldnew)
	}
	tmp := filepath.Join(s.dir, "."+name)
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		s.t.Fatal(err)
	}
}

// caller sends requests to one place.
type caller struct {
	client *http.Client
	base   string
}

// answer is one response, and what the echo server said of itself and of the
// request, if it was reached.
type answer struct {
	Workload string      `json:"workload"`
	Version  string      `json:"version"`
	Path     string      `json:"path"`
	Host     string      `json:"host"`
	Headers  http.Header `json:"headers"`

	status int
	header http.Header
	body   string
	took   time.Duration
}

func (a answer) String() string { return fmt.Sprintf("%d %q from %q", a.status, a.body, a.Workload) }

// get sends one request, with headers in pairs; "Host" among them is the
// request's.
func (c *caller) get(t *testing.T, path string, headers ...string) answer {
	t.Helper()
	a, err := c.try(t.Context(), path, headers...)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return a
}

func (c *caller) try(ctx context.Context, path string, headers ...string) (answer, error) {
	var a answer
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return a, err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	sent := time.Now()
	resp, err := c.client.Do(req)
	if err != nil {
		return a, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return a, err
	}
	if resp.Header.Get("X-Echo-Workload") != "" {
		if err := json.Unmarshal(b, &a); err != nil {
			return a, fmt.Errorf("%q: %w", b, err)
		}
	}
	a.status, a.header, a.body, a.took = resp.StatusCode, resp.Header, string(b), time.Since(sent)
	return a, nil
}

// answers sends n requests, requires the application to answer each with 200,
// and counts by version.
func (c *caller) answers(t *testing.T, n int, path string, headers ...string) map[string]int {
	t.Helper()
	out := map[string]int{}
	for range n {
		a := c.get(t, path, headers...)
		if a.status != http.StatusOK || a.Workload == "" {
			t.Fatalf("%s: %v, want 200 from the application", path, a)
		}
		out[a.Version]++
	}
	return out
}

// fits reports whether k of n trials fit a probability within five standard
// deviations.
func fits(k, n int, p float64) bool {
	return math.Abs(float64(k)-float64(n)*p) <= 5*math.Sqrt(float64(n)*p*(1-p))+0.5
}
