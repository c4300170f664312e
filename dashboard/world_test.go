package dashboard_test

import (
	"bufio"
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/dashboard"
	"github.com/pilotfish-mesh/pilotfish/dashboard/weightfile"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

const meshYAML = `# The canary. This comment must survive.
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: myapp}
spec:
  hosts: ["*"]
  gateways: [myapp-gateway]
  http:
  - route:
    - destination: {host: myapp, subset: v1}
      weight: 70   # the old one
    - destination: {host: myapp, subset: v2}
      weight: 30   # the new one
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: myapp}
spec:
  host: myapp
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
apiVersion: v1
kind: Service
metadata: {name: myapp}
spec:
  clusterIP: 10.0.0.1
  selector: {app: myapp}
  ports: [{name: http, port: 80}]
---
apiVersion: v1
kind: Pod
metadata: {name: myapp-v1, labels: {app: myapp, version: v1}}
spec: {containers: [{name: app, image: app}]}
status: {podIP: 10.1.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: myapp-v2, labels: {app: myapp, version: v2}}
spec: {containers: [{name: app, image: app}]}
status: {podIP: 10.1.0.2}
`

// world is a mesh read from a real file by the real parser and Store, with
// proxies and load that are made up, but deterministic and of the real shape.
type world struct {
	t     *testing.T
	path  string
	store *discovery.Store
	files weightfile.Files
	rand  *rand.Rand // guarded by mu

	mu       sync.Mutex
	proxies  []dashboard.Proxy
	changes  []dashboard.Change
	problems []config.Problem
	seconds  []dashboard.Second
}

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, path: filepath.Join(t.TempDir(), "myapp.yaml"), rand: rand.New(rand.NewPCG(1, 2)),
		store: discovery.NewStore(nil, "file"),
	}
	w.write(meshYAML)
	w.store.Synced("file")
	for _, p := range []struct {
		name string
		kind config.ProxyType
	}{{"ingressgateway", config.Router}, {"myapp-v1", config.Sidecar}, {"myapp-v2", config.Sidecar}} {
		w.proxies = append(w.proxies, dashboard.Proxy{
			ID: string(p.kind) + "~10.1.0.9~" + p.name + ".default~default.svc.cluster.local", Name: p.name, Namespace: "default",
			Type: p.kind, Version: "1.40.0", Connected: time.Now(),
			Syncs: []dashboard.Sync{
				{Type: "CDS", Status: dashboard.Synced, Resources: 6}, {Type: "EDS", Status: dashboard.Synced, Resources: 4},
				{Type: "LDS", Status: dashboard.Synced, Resources: 3}, {Type: "RDS", Status: dashboard.Synced, Resources: 2},
			},
		})
	}
	return w
}

func (w *world) write(text string) {
	w.t.Helper()
	if err := os.WriteFile(w.path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	w.read()
}

// read does what the file source does after a change.
func (w *world) read() {
	data, err := os.ReadFile(w.path)
	if err != nil {
		w.t.Error(err)
		return
	}
	objects, problems := file.Parse(w.path, data)
	var changes []discovery.Change
	for _, o := range objects {
		changes = append(changes, discovery.Change{Object: o})
	}
	w.store.Replace("file", changes, problems)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.problems = append([]config.Problem(nil), problems...)
}

func (w *world) text() string {
	w.t.Helper()
	b, err := os.ReadFile(w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

// WriteWeights edits the file for real, has it read, and lets the change reach
// the proxies.
func (w *world) WriteWeights(ctx context.Context, e weightfile.Edit) error {
	if err := w.files.WriteWeights(ctx, e); err != nil {
		return err
	}
	w.read()
	w.arrive(e.Object, time.Now())
	return nil
}

func (w *world) arrive(object config.Key, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes = append(w.changes, dashboard.Change{
		ID: uint64(len(w.changes) + 1), At: at, Objects: []config.Key{object}, ObjectCount: 1,
		Proxies: 3, Reached: 3, Last: 41 * time.Millisecond,
		Arrivals: []dashboard.Arrival{
			{Proxy: "ingressgateway.default", After: 12 * time.Millisecond},
			{Proxy: "myapp-v1.default", After: 27 * time.Millisecond},
			{Proxy: "myapp-v2.default", After: 41 * time.Millisecond},
		},
	})
}

func (w *world) Mesh() *config.Mesh { return w.store.Mesh() }

func (w *world) Proxies() []dashboard.Proxy {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]dashboard.Proxy(nil), w.proxies...)
}

func (w *world) Changes() []dashboard.Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]dashboard.Change(nil), w.changes...)
}

func (w *world) Problems() []config.Problem {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.problems
}

func (w *world) Seconds(from time.Time) []dashboard.Second {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []dashboard.Second
	for _, s := range w.seconds {
		if !s.Start.Before(from) {
			out = append(out, s)
		}
	}
	return out
}

// load adds a second that ends at end, in which each of 120 requests went to
// v2 with that probability in percent.
func (w *world) load(end time.Time, toV2 int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v2 := 0
	for range 120 {
		if w.rand.Int32N(100) < toV2 {
			v2++
		}
	}
	answers := []dashboard.Answers{
		{Namespace: "default", Workload: "myapp-v1", Requests: 120 - v2, P50: 1800 * time.Microsecond, P99: 4 * time.Millisecond},
		{Namespace: "default", Workload: "myapp-v2", Requests: v2, P50: 1700 * time.Microsecond, P99: 5 * time.Millisecond},
	}
	w.seconds = append(w.seconds, dashboard.Second{Start: end.Add(-time.Second), End: end, Answers: answers})
}

func (w *world) options() dashboard.Options {
	return dashboard.Options{
		Title: "examples/canary", Meshes: w, Proxies: w, Changes: w, Problems: w, Traffic: w, Weights: w,
	}
}

// site serves a page until the test ends or stop is called.
func site(t *testing.T, o dashboard.Options) (url string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := dashboard.New(o)
	var running sync.WaitGroup
	running.Go(func() { p.Run(ctx) })
	server := httptest.NewServer(p)
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		server.Close() // waits for requests in flight, streams included
	})
	t.Cleanup(stop)
	return server.URL, stop
}

// sse is one server-sent event.
type sse struct{ name, id, data string }

// stream opens the page's stream and returns its events; the channel is closed
// when the server ends the stream.
func stream(t *testing.T, url, lastID string) <-chan sse {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("stream: %s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	events := make(chan sse, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(events)
		defer func() { _ = resp.Body.Close() }()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		var e sse
		for lines.Scan() {
			key, value, _ := strings.Cut(lines.Text(), ": ")
			switch key {
			case "event":
				e.name = value
			case "id":
				e.id = value
			case "data":
				e.data = value
			case "":
				if e.name != "" {
					events <- e
				}
				e = sse{}
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return events
}

// until reads events until one has the name and passes.
func until(t *testing.T, events <-chan sse, name string, passes func(data string) bool) sse {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case e, open := <-events:
			if !open {
				t.Fatalf("the stream ended before the event %s", name)
			}
			if e.name == name && (passes == nil || passes(e.data)) {
				return e
			}
		case <-deadline:
			t.Fatalf("no fitting event %s in 20 s", name)
		}
	}
}

type traffic struct {
	Reset   bool
	Seconds []struct {
		At       float64
		Requests int
		By       map[string]struct{ N int }
	}
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}
