package weightfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
)

const canary = `# kept
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: myapp}
spec:
  http:
  - route:
    - destination: {host: myapp, subset: v1}
      weight: 70 # old
    - destination: {host: myapp, subset: v2}
      weight: 30`

func canaryEdit(path string, v1, v2 int32) Edit {
	return Edit{
		File:    path,
		Object:  config.Key{Group: "networking.istio.io", Kind: "VirtualService", Namespace: "default", Name: "myapp"},
		Field:   "spec.http[0].route",
		Seen:    []Destination{{"myapp", "v1", 70}, {"myapp", "v2", 30}},
		Weights: []int32{v1, v2},
	}
}

func writeCanary(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(canary), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func refusalCode(t *testing.T, err error) string {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a refusal", err)
	}
	return r.Code
}

func TestWriteKeepsTheRest(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "real.yaml"), filepath.Join(dir, "link.yaml")
	writeCanary(t, path)
	if err := os.Symlink("real.yaml", link); err != nil {
		t.Fatal(err)
	}
	if err := Write(canaryEdit(link, 50, 50)); err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("70", "50", "30", "50").Replace(canary)
	if got := read(t, path); got != want {
		t.Errorf("file after the edit:\n%s\nwant:\n%s", got, want)
	}
	if stat, err := os.Lstat(link); err != nil || stat.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced by a file: %v, %v", stat.Mode(), err)
	}
	if stat, err := os.Stat(path); err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: want 0600", stat.Mode(), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("files left behind: %v, %v", entries, err)
	}
}

func TestWriteAddsToALastLineWithoutBreak(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mesh.yaml")
	text := strings.TrimSuffix(canary, "\n      weight: 30")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e := canaryEdit(path, 90, 10)
	e.Seen[1].Weight = 0
	if err := Write(e); err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, path), strings.Replace(text, "70", "90", 1)+"\n      weight: 10"; got != want {
		t.Errorf("file after the edit:\n%s\nwant:\n%s", got, want)
	}
}

func TestWriteRefusesOnDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "mesh.yaml")
	writeCanary(t, path)
	stale := canaryEdit(path, 50, 50)
	stale.Seen[0].Weight, stale.Seen[1].Weight = 60, 40
	for name, c := range map[string]struct {
		edit Edit
		want string
	}{
		"stale":     {stale, CodeFileChanged},
		"missing":   {canaryEdit(filepath.Join(dir, "none.yaml"), 50, 50), CodeUnreadable},
		"folder":    {canaryEdit(dir, 50, 50), CodeUnreadable},
		"wrong sum": {canaryEdit(path, 50, 60), CodeBadWeights},
	} {
		if got := refusalCode(t, Write(c.edit)); got != c.want {
			t.Errorf("%s: refused with %s, want %s", name, got, c.want)
		}
	}
	if read(t, path) != canary {
		t.Error("a refused edit changed the file")
	}
}

// Readers of the file must never see half of it, and an edit that loses a race
// says so.
func TestWriteIsAtomic(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mesh.yaml")
	writeCanary(t, path)
	var readers, writers sync.WaitGroup
	stop := make(chan struct{})
	readers.Add(1)
	go func() {
		defer readers.Done()
		for {
			select {
			case <-stop:
				return
			default:
			}
			if b, err := os.ReadFile(path); err != nil || len(b) != len(canary) {
				t.Errorf("read %d bytes of %d, %v", len(b), len(canary), err)
				return
			}
		}
	}()
	var won atomic.Int32
	for i := range int32(8) {
		writers.Add(1)
		go func() {
			defer writers.Done()
			if err := Write(canaryEdit(path, 50+i, 50-i)); err == nil {
				won.Add(1)
			} else if code := refusalCode(t, err); code != CodeFileChanged {
				t.Errorf("refused with %s, want %s", code, CodeFileChanged)
			}
		}()
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	if won.Load() < 1 {
		t.Error("no edit won")
	}
}
