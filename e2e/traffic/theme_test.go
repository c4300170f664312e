package traffic

import (
	"context"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

func TestMain(m *testing.M) { stage.Main(m) }

const patience = stage.Patience

// theme is one running mesh.
type theme struct{ *stage.Stage }

// run starts a mesh of folders under testdata until the test ends.
func run(t *testing.T, themes ...string) *theme {
	t.Helper()
	return &theme{stage.Start(t, copied(t, themes...), up.Loopback)}
}

// copied is a copy of folders under testdata, for a test to add to.
func copied(t *testing.T, themes ...string) (dir string) {
	t.Helper()
	var paths []string
	for _, name := range themes {
		paths = append(paths, filepath.Join("testdata", name))
	}
	return stage.Copy(t, paths...)
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

// send sends as the application of a workload.
func (s *theme) send(t *testing.T, p probe) stage.Reply {
	t.Helper()
	if p.from == "" {
		p.from = "client"
	}
	r, err := ask(t.Context(), s.Inside(p.from, "").Client, p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func ask(ctx context.Context, c *http.Client, p probe) (stage.Reply, error) {
	method := p.method
	if method == "" {
		method = http.MethodGet
	}
	return stage.Send(ctx, c, method, p.url, p.headers)
}

// check compares a reply with the expectation.
func (p probe) check(t *testing.T, r stage.Reply) {
	t.Helper()
	want := p.status
	if want == 0 {
		want = http.StatusOK
	}
	if r.Status != want {
		t.Errorf("status %d, want %d: %s", r.Status, want, r.Body)
	}
	for _, c := range []struct{ what, got, want string }{
		{"answered by", r.Echo.Workload, p.by}, {"path seen", r.Echo.Path, p.path},
		{"host seen", r.Echo.Host, p.host}, {"body", r.Body, p.body},
	} {
		if c.want != "" && c.got != c.want {
			t.Errorf("%s %q, want %q", c.what, c.got, c.want)
		}
	}
	p.saw.check(t, "request", r.Echo.Headers)
	p.answers.check(t, "response", r.Header)
	if r.Took < p.atLeast || p.atMost > 0 && r.Took > p.atMost {
		t.Errorf("took %v, want %v to %v", r.Took, p.atLeast, p.atMost)
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

// probes sends each probe once, as a subtest.
func (s *theme) probes(t *testing.T, probes []probe) {
	for _, p := range probes {
		name := p.name
		if name == "" {
			name = p.method + p.url
		}
		t.Run(name, func(t *testing.T) { p.check(t, s.send(t, p)) })
	}
}
