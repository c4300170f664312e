package file_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// folder is a temporary folder with a running Source on it.
type folder struct {
	*testing.T
	dir   string
	store *discovery.Store
}

func serve(t *testing.T, files map[string]string, opts ...file.Option) *folder {
	t.Helper()
	f := &folder{T: t, dir: t.TempDir(), store: discovery.NewStore(nil, file.Name)}
	for name, text := range files {
		f.write(name, text)
	}
	f.run([]string{f.dir}, opts...)
	return f
}

func (f *folder) run(paths []string, opts ...file.Option) {
	f.Helper()
	f.start(file.New(paths, opts...))
}

func (f *folder) start(src *file.Source) {
	f.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- src.Run(ctx, f.store) }()
	f.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.Error(err)
		}
	})
	f.until("the first view", func(*config.Mesh) bool { return true })
}

func (f *folder) path(name string) string { return filepath.Join(f.dir, filepath.FromSlash(name)) }

func (f *folder) write(name, text string) {
	f.Helper()
	f.must(os.MkdirAll(filepath.Dir(f.path(name)), 0o755))
	f.must(os.WriteFile(f.path(name), []byte(text), 0o644))
}

func (f *folder) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// until waits for a Mesh that satisfies want.
func (f *folder) until(what string, want func(*config.Mesh) bool) *config.Mesh {
	f.Helper()
	deadline := time.After(20 * time.Second)
	for {
		if m := f.store.Mesh(); m != nil && want(m) {
			return m
		}
		select {
		case <-f.store.Changed():
		case <-deadline:
			f.Fatalf("no mesh with %s; the newest has problems %v", what, f.store.Mesh().Problems)
		}
	}
}

func hasGateway(name string) func(*config.Mesh) bool {
	return func(m *config.Mesh) bool { _, ok := m.Gateways.Get("default", name); return ok }
}

func hasNoGateway(name string) func(*config.Mesh) bool {
	return func(m *config.Mesh) bool { return !hasGateway(name)(m) }
}

func gateway(name string, port int) string {
	return strings.NewReplacer("NAME", name, "PORT", string(rune('0'+port))).Replace(`
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: NAME}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: PORT, name: http, protocol: HTTP}
    hosts: ["*"]
`)
}

func TestRunSeesEveryKindOfChange(t *testing.T) {
	f := serve(t, map[string]string{"a.yaml": gateway("a", 1)})
	steps := []struct {
		name string
		do   func()
		want func(*config.Mesh) bool
	}{
		{"a new file", func() { f.write("b.yml", gateway("b", 1)) }, hasGateway("b")},
		{"a file in new folders", func() {
			f.write("x/y/c.json", `{"apiVersion":"networking.istio.io/v1","kind":"Gateway","metadata":{"name":"c"}}`)
		}, hasGateway("c")},
		{"a file in a folder seen before", func() { f.write("x/y/d.yaml", gateway("d", 1)) }, hasGateway("d")},
		{"a file renamed over another", func() {
			f.write(".b.yml.swp", gateway("b2", 1))
			f.must(os.Rename(f.path(".b.yml.swp"), f.path("b.yml")))
		}, func(m *config.Mesh) bool { return hasGateway("b2")(m) && hasNoGateway("b")(m) }},
		{"an edit of equal length", func() { f.write("a.yaml", gateway("a", 2)) }, func(m *config.Mesh) bool {
			g, _ := m.Gateways.Get("default", "a")
			return g != nil && g.Spec.GetServers()[0].GetPort().GetNumber() == 2
		}},
		{"a file deleted", func() { f.must(os.Remove(f.path("a.yaml"))) }, hasNoGateway("a")},
		{"a folder moved away", func() { f.must(os.Rename(f.path("x"), filepath.Join(t.TempDir(), "x"))) }, hasNoGateway("c")},
		{"a folder moved in", func() {
			from := filepath.Join(t.TempDir(), "z")
			f.must(os.MkdirAll(filepath.Join(from, "deep"), 0o755))
			f.must(os.WriteFile(filepath.Join(from, "deep", "e.yaml"), []byte(gateway("e", 1)), 0o644))
			f.must(os.Rename(from, f.path("z")))
		}, hasGateway("e")},
		{"a change in the folder moved in", func() { f.write("z/deep/e.yaml", gateway("e2", 1)) }, hasGateway("e2")},
		{"a folder deleted", func() { f.must(os.RemoveAll(f.path("z"))) }, hasNoGateway("e2")},
	}
	for _, s := range steps {
		s.do()
		m := f.until(s.name, s.want)
		if len(m.Problems) > 0 {
			t.Errorf("%s: %v", s.name, m.Problems)
		}
	}
}

func TestRunFollowsSwappedLinks(t *testing.T) {
	f := &folder{T: t, dir: t.TempDir(), store: discovery.NewStore(nil, file.Name)}
	// As a kubelet mounts a ConfigMap.
	f.write("mount/..v1/a.yaml", gateway("one", 1))
	f.must(os.Symlink("..v1", f.path("mount/..data")))
	f.must(os.Symlink("..data/a.yaml", f.path("mount/a.yaml")))
	// As git-sync keeps a work tree.
	f.write("rev1/b.yaml", gateway("b-one", 1))
	f.must(os.Symlink("rev1", f.path("current")))
	f.run([]string{f.path("mount"), f.path("current")})
	f.until("both", func(m *config.Mesh) bool { return hasGateway("one")(m) && hasGateway("b-one")(m) })

	f.write("mount/..v2/a.yaml", gateway("two", 1))
	f.must(os.Symlink("..v2", f.path("mount/..tmp")))
	f.must(os.Rename(f.path("mount/..tmp"), f.path("mount/..data")))
	f.until("the new ConfigMap", func(m *config.Mesh) bool { return hasGateway("two")(m) && hasNoGateway("one")(m) })

	f.write("rev2/b.yaml", gateway("b-two", 1))
	f.must(os.Symlink("rev2", f.path("next")))
	f.must(os.Rename(f.path("next"), f.path("current")))
	f.until("the new tree", func(m *config.Mesh) bool { return hasGateway("b-two")(m) && hasNoGateway("b-one")(m) })
	f.write("rev2/c.yaml", gateway("c", 1))
	f.until("a change in the new tree", hasGateway("c"))
}

// A loaded machine can stretch a burst beyond what counts as one, so that one
// of several attempts must do.
func TestRunTakesABurstAsOneStep(t *testing.T) {
	f := serve(t, nil)
	for i := range 10 {
		before := f.store.Mesh()
		for j := range 4 {
			f.write(fmt.Sprintf("%d-%d.yaml", i, j), gateway(fmt.Sprintf("g%d-%d", i, j), 1))
		}
		m := f.until("the last file", hasGateway(fmt.Sprintf("g%d-3", i)))
		if m.Sequence == before.Sequence+1 && m.Gateways.Len() == before.Gateways.Len()+4 {
			return
		}
	}
	t.Error("no burst of four files made one step")
}

func TestBrokenDocumentKeepsItsLastGoodVersion(t *testing.T) {
	f := serve(t, map[string]string{"a.yaml": gateway("a", 1) + "---" + gateway("b", 1)})
	broken := strings.Replace(gateway("a", 2), "hosts: [", "hosts: [[", 1)
	f.write("a.yaml", broken+"---"+gateway("b", 3)+"---"+gateway("c", 1))
	m := f.until("the rest of the file", hasGateway("c"))
	a, _ := m.Gateways.Get("default", "a")
	b, _ := m.Gateways.Get("default", "b")
	if a == nil || a.Spec.GetServers()[0].GetPort().GetNumber() != 1 {
		t.Errorf("a: %v, want its last good version", a)
	}
	if b == nil || b.Spec.GetServers()[0].GetPort().GetNumber() != 3 {
		t.Errorf("b: %v, want its new version", b)
	}
	if len(m.Problems) != 1 || m.Problems[0].Line != 9 || m.Problems[0].Object.Name != "a" || m.Problems[0].File != f.path("a.yaml") {
		t.Errorf("problems %v, want one about a on line 9", m.Problems)
	}
	f.write("a.yaml", gateway("b", 3))
	m = f.until("a gone", hasNoGateway("a"))
	if len(m.Problems) != 0 {
		t.Errorf("problems %v stay after the document is gone", m.Problems)
	}
}

func TestUnnamedBrokenDocumentKeepsWhatIsMissing(t *testing.T) {
	f := serve(t, map[string]string{"a.yaml": gateway("a", 1) + "---" + gateway("b", 1), "c.yaml": gateway("c", 1)})
	f.write("a.yaml", "{broken\n---"+gateway("b", 1))
	f.must(os.Remove(f.path("c.yaml")))
	m := f.until("c gone", hasNoGateway("c"))
	if m.Gateways.Len() != 2 || len(m.Problems) != 1 {
		t.Errorf("%d gateways, problems %v: want a and b, and one problem", m.Gateways.Len(), m.Problems)
	}
}

func TestVanishedRootKeepsTheLastGoodState(t *testing.T) {
	f := &folder{T: t, dir: t.TempDir(), store: discovery.NewStore(nil, file.Name)}
	f.write("root/a.yaml", gateway("a", 1))
	f.run([]string{f.path("root")})
	f.must(os.RemoveAll(f.path("root")))
	m := f.until("a problem", func(m *config.Mesh) bool { return len(m.Problems) > 0 && m.Problems[0].Code == "Unreadable" })
	if !hasGateway("a")(m) {
		t.Error("the mesh is empty after its folder vanished")
	}
	f.write("root/b.yaml", gateway("b", 1))
	f.until("the folder that came back", func(m *config.Mesh) bool { return hasGateway("b")(m) && hasNoGateway("a")(m) && len(m.Problems) == 0 })
}

func TestLaterFileWins(t *testing.T) {
	f := serve(t, map[string]string{"a.yaml": gateway("g", 1), "b.yaml": gateway("g", 2)})
	m := f.store.Mesh()
	g, _ := m.Gateways.Get("default", "g")
	if n := g.Spec.GetServers()[0].GetPort().GetNumber(); n != 2 {
		t.Errorf("port %d, want that of b.yaml", n)
	}
	if len(m.Problems) != 1 || m.Problems[0].Code != "DefinedTwice" || m.Problems[0].File != f.path("a.yaml") {
		t.Errorf("problems %v, want one at a.yaml", m.Problems)
	}
	f.must(os.Remove(f.path("b.yaml")))
	f.until("a.yaml in effect", func(m *config.Mesh) bool {
		g, _ := m.Gateways.Get("default", "g")
		return g != nil && g.Spec.GetServers()[0].GetPort().GetNumber() == 1 && len(m.Problems) == 0
	})
}

func TestRunFailsWithoutItsPath(t *testing.T) {
	err := file.New([]string{filepath.Join(t.TempDir(), "none")}).Run(context.Background(), discovery.NewStore(nil, file.Name))
	if err == nil {
		t.Error("no error for a path that does not exist")
	}
	if _, _, err := file.Load(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("no error for a path that does not exist")
	}
}

func TestWithNamespaceIsThatOfObjectsThatNameNone(t *testing.T) {
	f := serve(t, map[string]string{
		"a.yaml": gateway("a", 1),
		"b.yaml": strings.Replace(gateway("b", 1), "name: b", "name: b, namespace: other", 1),
	}, file.WithNamespace("shop"))
	m := f.store.Mesh()
	if _, ok := m.Gateways.Get("shop", "a"); !ok {
		t.Error("a is not in the given namespace")
	}
	if _, ok := m.Gateways.Get("other", "b"); !ok {
		t.Error("b is not in its own namespace")
	}
}

func TestFilesGivenByNameAreFollowed(t *testing.T) {
	f := &folder{T: t, dir: t.TempDir(), store: discovery.NewStore(nil, file.Name)}
	f.write("mesh.conf", gateway("a", 1))
	f.write("other.yaml", gateway("other", 1))
	f.run([]string{f.path("mesh.conf")})
	f.write("mesh.tmp", gateway("b", 1))
	f.must(os.Rename(f.path("mesh.tmp"), f.path("mesh.conf")))
	m := f.until("the file that replaced it", hasGateway("b"))
	if m.Gateways.Len() != 1 {
		t.Errorf("%d gateways, want that of the one file", m.Gateways.Len())
	}
}

func TestAddressesAreAskedForAgain(t *testing.T) {
	dir := t.TempDir()
	text := "{apiVersion: v1, kind: Pod, metadata: {name: p}}"
	if err := os.WriteFile(filepath.Join(dir, "p.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var ready atomic.Bool
	src := file.New([]string{dir}, file.WithAddresses(func(config.Key, map[string]string) []string {
		if ready.Load() {
			return []string{"10.0.0.1"}
		}
		return nil
	}))
	f := &folder{T: t, dir: dir, store: discovery.NewStore(nil, file.Name)}
	f.start(src)
	ready.Store(true)
	src.Refresh()
	f.until("the address", func(m *config.Mesh) bool {
		p, _ := m.Workloads.Get("default", "p")
		return p != nil && len(p.IPs) == 1
	})
}
