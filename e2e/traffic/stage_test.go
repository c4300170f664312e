package traffic

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/up"
	"github.com/pilotfish-mesh/pilotfish/up/echo"
)

func TestMain(m *testing.M) {
	if code, is := up.RunRole(os.Args); is {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}

const (
	startLimit = 90 * time.Second
	patience   = 20 * time.Second
)

// stage is one running mesh: testdata/base and the theme's own folder.
type stage struct {
	*up.Mesh
	dir     string
	clients map[string]*http.Client // by workload
}

// newStage starts a mesh of the folders under testdata until the test ends. An
// error among the Problems, or a resource that an Envoy rejects, fails the test.
func newStage(t *testing.T, themes ...string) *stage {
	t.Helper()
	dir := t.TempDir()
	for _, theme := range themes {
		if err := os.CopyFS(filepath.Join(dir, theme), os.DirFS(filepath.Join("testdata", theme))); err != nil {
			t.Fatal(err)
		}
	}
	return startStage(t, dir)
}

func startStage(t *testing.T, dir string) *stage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	mesh, err := up.Start(ctx, up.Options{
		Paths: []string{dir}, Envoy: envoytest.Binary(t), Mode: up.Loopback,
		Note: func(line string) { t.Log(line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mesh.Close)
	for _, p := range mesh.Plane().Problems() {
		if p.Severity == config.Error {
			t.Error(p)
		}
	}
	return &stage{Mesh: mesh, dir: dir, clients: map[string]*http.Client{}}
}

// client sends as the application of a workload.
func (s *stage) client(t *testing.T, workload string) *http.Client {
	t.Helper()
	if c := s.clients[workload]; c != nil {
		return c
	}
	c, err := s.Client(workload)
	if err != nil {
		t.Fatal(err)
	}
	s.clients[workload] = c
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// headers are those of a request or response; in an expectation "" stands for
// absence.
type headers map[string]string

// probe is a request and what must come back.
type probe struct {
	name    string // the URL by default
	from    string // the calling workload, "client" by default
	method  string // GET by default
	url     string
	headers headers

	status  int     // 200 by default
	by      string  // the workload that answers; any if empty
	path    string  // that it saw; any if empty
	host    string  // that it saw; any if empty
	saw     headers // that it saw
	answers headers // of the response
	body    string  // of the response; any if empty
	atLeast time.Duration
	atMost  time.Duration
}

// reply is what came back.
type reply struct {
	status  int
	header  http.Header
	body    string
	echo    echo.Answer // zero unless an echo server answered
	elapsed time.Duration
}

func (s *stage) send(t *testing.T, p probe) reply {
	t.Helper()
	if p.from == "" {
		p.from = "client"
	}
	r, err := ask(t.Context(), s.client(t, p.from), p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func ask(ctx context.Context, c *http.Client, p probe) (reply, error) {
	method := p.method
	if method == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, p.url, nil)
	if err != nil {
		return reply{}, err
	}
	for k, v := range p.headers {
		if k == "Host" {
			req.Host = v
		} else {
			req.Header.Set(k, v)
		}
	}
	began := time.Now()
	resp, err := c.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply{}, err
	}
	r := reply{status: resp.StatusCode, header: resp.Header, body: string(body), elapsed: time.Since(began)}
	if resp.Header.Get(echo.WorkloadHeader) != "" {
		err = json.Unmarshal(body, &r.echo)
	}
	return r, err
}

// check compares a reply with the expectation.
func (p probe) check(t *testing.T, r reply) {
	t.Helper()
	want := p.status
	if want == 0 {
		want = http.StatusOK
	}
	if r.status != want {
		t.Errorf("status %d, want %d: %s", r.status, want, r.body)
	}
	for _, c := range []struct{ what, got, want string }{
		{"answered by", r.echo.Workload, p.by}, {"path seen", r.echo.Path, p.path},
		{"host seen", r.echo.Host, p.host}, {"body", r.body, p.body},
	} {
		if c.want != "" && c.got != c.want {
			t.Errorf("%s %q, want %q", c.what, c.got, c.want)
		}
	}
	p.saw.check(t, "request", r.echo.Headers)
	p.answers.check(t, "response", r.header)
	if r.elapsed < p.atLeast || p.atMost > 0 && r.elapsed > p.atMost {
		t.Errorf("took %v, want %v to %v", r.elapsed, p.atLeast, p.atMost)
	}
}

func (want headers) check(t *testing.T, what string, got http.Header) {
	t.Helper()
	for k, v := range want {
		_, has := got[http.CanonicalHeaderKey(k)]
		if has != (v != "") || got.Get(k) != v {
			t.Errorf("%s header %s is %q, want %q", what, k, got.Values(k), v)
		}
	}
}

// run sends each probe once, as a subtest.
func (s *stage) run(t *testing.T, probes []probe) {
	for _, p := range probes {
		name := p.name
		if name == "" {
			name = p.method + p.url
		}
		t.Run(name, func(t *testing.T) { p.check(t, s.send(t, p)) })
	}
}
