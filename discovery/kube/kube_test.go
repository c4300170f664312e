package kube_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"k8s.io/client-go/rest"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/kube"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

// patience bounds every wait of these tests.
const patience = time.Minute

var installCRDs sync.Once

// cluster returns the package's API server, with Istio's CRDs.
func cluster(t testing.TB) (*kubetest.Server, *kubetest.Client) {
	t.Helper()
	s := kubetest.Shared(t)
	c := s.Client(t)
	installCRDs.Do(func() { c.InstallCRDs(t) })
	return s, c
}

// apply creates objects that end with the test.
func apply(t testing.TB, c *kubetest.Client, text string) {
	t.Helper()
	t.Cleanup(func() { c.Delete(t, text) })
	c.Apply(t, text)
}

// watching is a running Source and its Store.
type watching struct {
	source *kube.Source
	store  *discovery.Store
	logs   *observer.ObservedLogs
	wrote  chan struct{} // capacity 1: a log line was written
	stop   func()
}

// watch starts a Source that ends with the test.
func watch(t testing.TB, cfg *rest.Config) *watching {
	t.Helper()
	return watchWith(t, cfg, kube.Options{})
}

func watchWith(t testing.TB, cfg *rest.Config, o kube.Options) *watching {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	w := &watching{store: discovery.NewStore(nil, kube.Name), logs: logs, wrote: make(chan struct{}, 1)}
	log := zap.New(core, zap.Hooks(func(zapcore.Entry) error {
		select {
		case w.wrote <- struct{}{}:
		default:
		}
		return nil
	}))
	o.Log = log
	source, err := kube.New(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	w.source = source
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- source.Run(ctx, w.store) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(w.stop)
	return w
}

// until waits for a Mesh that done accepts.
func (w *watching) until(t testing.TB, what string, done func(*config.Mesh) bool) *config.Mesh {
	t.Helper()
	late := time.After(patience)
	for {
		if m := w.store.Mesh(); m != nil && done(m) {
			return m
		}
		select {
		case <-w.store.Changed():
		case <-late:
			t.Fatalf("never saw %s; log:\n%s", what, w.logText())
		}
	}
}

func (w *watching) synced(t testing.TB) *config.Mesh {
	t.Helper()
	return w.until(t, "a first Mesh", func(*config.Mesh) bool { return true })
}

// logged waits until a line was logged n times.
func (w *watching) logged(t testing.TB, line string, n int) {
	t.Helper()
	late := time.After(patience)
	for len(w.lines(line)) < n {
		select {
		case <-w.wrote:
		case <-late:
			t.Fatalf("log lacks %q; it is:\n%s", line, w.logText())
		}
	}
}

func (w *watching) lines(containing string) []string {
	var out []string
	for _, e := range w.logs.All() {
		if strings.Contains(e.Message, containing) {
			out = append(out, e.Message)
		}
	}
	return out
}

func (w *watching) logText() string {
	var b strings.Builder
	for _, e := range w.logs.All() {
		b.WriteString(e.Level.String() + " " + e.Message + "\n")
	}
	return b.String()
}

// fence makes a change and waits for it: whatever happened before it on the
// same resource, Namespaces, has been taken then.
func (w *watching) fence(t testing.TB, c *kubetest.Client, name string) *config.Mesh {
	t.Helper()
	apply(t, c, "{apiVersion: v1, kind: Namespace, metadata: {name: fence, labels: {fence: "+name+"}}}")
	return w.until(t, "fence "+name, func(m *config.Mesh) bool {
		ns, ok := m.Namespaces.Get("", "fence")
		return ok && ns.Labels["fence"] == name
	})
}
