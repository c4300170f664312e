// Package stage runs a mesh on this machine for a test: real Envoys over a copy
// of a folder of YAML, which the test edits while it sends requests. Packages
// under e2e use it; it holds what they would each write again, and no tests.
package stage

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/up"
)

const (
	startLimit = 90 * time.Second
	// Patience is how long a test on a busy machine waits for what must happen.
	Patience = 20 * time.Second
	// Early is by how much Envoy's timers, which count from when its event loop
	// last looked at the clock, may seem to end before their time.
	Early = 50 * time.Millisecond
)

// Main is the body of TestMain: processes of the mesh are this test binary in
// another role, and no test may leave a goroutine.
func Main(m *testing.M) {
	if code, is := up.RunRole(os.Args); is {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}

// EachMode runs f as a subtest on loopback and, where the machine lets it, in
// network namespaces.
func EachMode(t *testing.T, f func(t *testing.T, mode up.Mode)) {
	t.Helper()
	t.Run(string(up.Namespaces), func(t *testing.T) {
		NeedNamespaces(t)
		f(t, up.Namespaces)
	})
	t.Run(string(up.Loopback), func(t *testing.T) { f(t, up.Loopback) })
}

// NeedNamespaces skips a test where network namespaces cannot be made; in CI
// that fails it.
func NeedNamespaces(t testing.TB) {
	t.Helper()
	if err := up.CanUseNamespaces(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("needs root: %v", err)
		}
		t.Skipf("needs root: %v", err)
	}
}

// Copy puts copies of folders side by side into a new one. A single folder's
// files lie in the new one itself.
func Copy(t testing.TB, folders ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, f := range folders {
		to := dir
		if len(folders) > 1 {
			to = filepath.Join(dir, filepath.Base(f))
		}
		if err := os.CopyFS(to, os.DirFS(f)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Stage is a running mesh over a folder. Its methods fail the test for which
// it was started.
type Stage struct {
	*up.Mesh
	Dir string

	t       testing.TB
	callers map[string]*Caller // by workload
}

// Start runs the mesh of a folder until the test ends. An error among its
// Problems, or a resource that an Envoy rejects, fails the test.
func Start(t testing.TB, dir string, mode up.Mode) *Stage {
	t.Helper()
	return StartWith(t, dir, up.Options{Mode: mode})
}

// StartWith is Start with further options; folder and Envoy are the
// stage's.
func StartWith(t testing.TB, dir string, o up.Options) *Stage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	o.Paths, o.Envoy = []string{dir}, envoytest.Binary(t)
	if o.Note == nil {
		o.Note = func(line string) { t.Log(line) }
	}
	mesh, err := up.Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mesh.Close)
	for _, p := range mesh.Plane().Problems() {
		if p.Severity == config.Error {
			t.Error(p)
		}
	}
	return &Stage{Mesh: mesh, Dir: dir, t: t, callers: map[string]*Caller{}}
}

// Write gives a file of the folder a new text in one step.
func (s *Stage) Write(name, text string) {
	s.t.Helper()
	Write(s.t, filepath.Join(s.Dir, name), text)
}

// Write gives a file a new text in one step: no reader sees half of it.
func Write(t testing.TB, path, text string) {
	t.Helper()
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

// Edit replaces texts, in pairs of old and new, in a file of the folder.
func (s *Stage) Edit(name string, oldnew ...string) {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.Dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	text := strings.NewReplacer(oldnew...).Replace(string(b))
	if text == string(b) {
		s.t.Fatalf("%s does not hold %q", name, oldnew)
	}
	s.Write(name, text)
}

// Remove deletes a file of the folder.
func (s *Stage) Remove(name string) {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.Dir, name)); err != nil {
		s.t.Fatal(err)
	}
}

// Delivered makes a change and waits until a Mesh that holds it has reached
// every proxy.
func (s *Stage) Delivered(change func()) {
	s.t.Helper()
	plane := s.Plane()
	before := plane.Store.Mesh().Sequence
	change()
	envoytest.Eventually(s.t, Patience, func() string {
		now := plane.Store.Mesh().Sequence
		if now <= before {
			return "the change has not been noticed"
		}
		if m := plane.Cache.Mesh(); m == nil || m.Sequence != now {
			return "the change is not served yet"
		}
		for _, c := range plane.Server.Changes() {
			if c.Reached < c.Proxies {
				return "not every proxy has acknowledged the change"
			}
		}
		return ""
	})
}
