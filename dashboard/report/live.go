package report

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/meshtest"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// Live is the page of a running mesh. It is an http.Handler whose paths are
// relative, to be mounted with http.StripPrefix; it guards nothing by itself.
type Live struct {
	// Above: the page of the mesh's traffic is one level above.
	Above bool

	title string
	mesh  func() *config.Mesh
	tests func() *Tests

	mu sync.Mutex // guards what follows, and makes requests wait for each other
	// now is the state that the page is about, and before the one whose
	// configuration was another; what is derived from them is made when it is
	// first asked for.
	now, before *config.Mesh
	changed     time.Time
	world       *simulate.World
	page        *Page
}

// NewLive is the page about the newest Mesh, which may be nil. tests reads the
// cases that are about it; it may be nil.
func NewLive(title string, mesh func() *config.Mesh, tests func() *Tests) *Live {
	return &Live{title: title, mesh: mesh, tests: tests}
}

// followEvery is how often the newest Mesh is looked at, so that no change
// hides behind the next one.
const followEvery = 250 * time.Millisecond

// Run follows the mesh until ctx ends.
func (l *Live) Run(ctx context.Context) {
	again := time.NewTicker(followEvery)
	defer again.Stop()
	for {
		l.mu.Lock()
		l.follow()
		l.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

// follow takes up the newest Mesh.
func (l *Live) follow() {
	m := l.mesh()
	if m == nil || m == l.now {
		return
	}
	if l.now != nil {
		for range m.ChangedObjects(l.now) {
			l.before, l.changed = l.now, time.Now()
			break
		}
	}
	l.now, l.world, l.page = m, nil, nil
}

// contentPolicy lets the page load its style and send its form; no scripts.
const contentPolicy = "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// ServeHTTP serves the page and its style.
func (l *Live) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Security-Policy", contentPolicy)
	switch path.Clean("/" + r.URL.Path) {
	case "/report.css":
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		_, _ = w.Write([]byte(style))
	case "/":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if err := l.show(r).execute(w); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	default:
		http.NotFound(w, r)
	}
}

// show makes the page; everything but the answer once for each state.
func (l *Live) show(r *http.Request) *Page {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.follow()
	form := formOf(r)
	form.Above = l.Above
	if l.now == nil {
		form.Fault = "The first complete view of the configuration is not there yet."
		return &Page{Title: l.title, Form: form}
	}
	if l.world == nil {
		l.world = simulate.NewWorld(l.now)
	}
	if l.page == nil {
		l.page = l.derive()
	}
	p := *l.page
	p.Form = form
	form.Clients = append(gatewaysOf(l.now), l.world.Clients("", "")...)
	if form.URL == "" {
		return &p
	}
	q, err := form.query()
	if err == nil {
		var a *simulate.Answer
		if a, err = l.world.Ask(q); err == nil {
			p.Answer = AnswerOf(a, form.Explain)
		}
	}
	if err != nil {
		form.Fault = err.Error()
	}
	return &p
}

func (l *Live) derive() *Page {
	p := &Page{Title: l.title, Findings: &Findings{meshtest.Lint(l.world)}, Calls: CallsOf(l.world)}
	p.Diff = &Diff{None: true, Note: "Nothing has changed since this page began to follow the mesh.", Difference: &meshtest.Difference{}}
	if l.before != nil {
		p.Diff.None = false
		p.Diff.Difference = meshtest.Diff(l.world.With(l.before), l.world)
		p.Diff.Proxies = nil // where objects stand in files is in what proxies are sent
		p.Diff.Note = "The last change, at " + l.changed.Format(time.DateTime) + "."
	}
	if l.tests != nil {
		p.Tests = l.tests()
		p.Tests.run(l.now, l.world)
	}
	return p
}

// run runs the cases of Tests.Cases on the simulator.
func (t *Tests) run(m *config.Mesh, w *simulate.World) {
	t.Results = meshtest.Run(meshtest.Simulator{World: w}, w, t.Cases, nil)
	t.Coverage = meshtest.Cover(m, t.Results)
}

func gatewaysOf(m *config.Mesh) []string {
	var out []string
	for g := range m.Gateways.All() {
		out = append(out, "gateway/"+g.Namespace+"/"+g.Name)
	}
	return out
}

func formOf(r *http.Request) *Form {
	q := r.URL.Query()
	return &Form{
		From: q.Get("from"), Method: q.Get("method"), URL: q.Get("url"), Headers: q.Get("headers"), Claims: q.Get("claims"),
		Explain: q.Get("explain") != "",
	}
}

// query reads what was filled in.
func (f *Form) query() (*simulate.Query, error) {
	q := &simulate.Query{From: strings.TrimSpace(f.From), Method: strings.ToUpper(strings.TrimSpace(f.Method)), URL: strings.TrimSpace(f.URL)}
	for line := range strings.Lines(f.Headers) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, fmt.Errorf("header %q: want \"name: value\"", line)
		}
		q.Header = append(q.Header, simulate.Field{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value)})
	}
	if strings.TrimSpace(f.Claims) != "" {
		js, err := yaml.YAMLToJSON([]byte(f.Claims))
		if err == nil {
			err = json.Unmarshal(js, &q.Claims)
		}
		if err != nil {
			return nil, fmt.Errorf("the claims are no object of JSON or YAML: %w", err)
		}
	}
	return q, nil
}
