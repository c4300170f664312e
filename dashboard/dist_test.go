package dashboard_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

type packageJSON struct {
	Scripts         map[string]string
	DevDependencies map[string]string
}

func readPackageJSON(t *testing.T) packageJSON {
	t.Helper()
	b, err := os.ReadFile("web/package.json")
	if err != nil {
		t.Fatal(err)
	}
	return decode[packageJSON](t, string(b))
}

// The embedded page must be what its sources say. esbuild is written in Go and
// pinned in go.mod at the version that package.json pins, so that the build of
// `npm run build` can be repeated without Node: with the very words of its
// script.
func TestDistIsBuiltFromTheSources(t *testing.T) {
	p := readPackageJSON(t)
	words := strings.Fields(p.Scripts["build"])
	if len(words) == 0 || words[0] != "esbuild" {
		t.Fatalf("script build of package.json: %q, want a command of esbuild", words)
	}
	if out, err := exec.Command("go", "tool", "esbuild", "--version").Output(); err != nil || strings.TrimSpace(string(out)) != p.DevDependencies["esbuild"] {
		t.Fatalf("go tool esbuild --version: %q, %v; package.json pins %s", out, err, p.DevDependencies["esbuild"])
	}
	fresh := t.TempDir()
	args := []string{"tool", "esbuild", "--log-level=warning"}
	for _, w := range words[1:] {
		args = append(args, strings.Replace(w, "--outdir=dist", "--outdir="+fresh, 1))
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = "web"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("esbuild: %v\n%s", err, out)
	}
	want, got := tree(t, fresh), tree(t, "web/dist")
	if !slices.Equal(names(want), names(got)) {
		t.Errorf("web/dist holds %v, a fresh build %v: run npm run build in dashboard/web", names(got), names(want))
	}
	for name := range want {
		if !bytes.Equal(want[name], got[name]) {
			t.Errorf("web/dist/%s is not what its source says: run npm run build in dashboard/web", name)
		}
	}
}

// What comes from npm is pinned to the byte, and the lock file names no host:
// whoever installs uses the registry that is configured there.
func TestNpmPackagesArePinned(t *testing.T) {
	p := readPackageJSON(t)
	exact := regexp.MustCompile(`^\d+\.\d+\.\d+$`)
	for name, version := range p.DevDependencies {
		if !exact.MatchString(version) {
			t.Errorf("package.json: %s %s is no exact version", name, version)
		}
	}
	b, err := os.ReadFile("web/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte("://")) || bytes.Contains(b, []byte(`"resolved"`)) {
		t.Error("package-lock.json names a host")
	}
	var lock struct {
		Packages map[string]struct{ Version, Integrity string }
	}
	if err := json.Unmarshal(b, &lock); err != nil {
		t.Fatal(err)
	}
	for name, l := range lock.Packages {
		if name != "" && !strings.HasPrefix(l.Integrity, "sha512-") {
			t.Errorf("package-lock.json: %s has no integrity", name)
		}
	}
	for name, version := range p.DevDependencies {
		if l := lock.Packages["node_modules/"+name]; l.Version != version {
			t.Errorf("package-lock.json: %s %s, package.json pins %s", name, l.Version, version)
		}
	}
	uplot, err := os.ReadFile("web/vendor/uplot/uPlot.esm.js")
	if err != nil || !bytes.Contains(uplot[:500], []byte("(v"+p.DevDependencies["uplot"]+")")) {
		t.Errorf("vendor/uplot is not version %s: run npm run vendor in dashboard/web (%v)", p.DevDependencies["uplot"], err)
	}
	if licences, err := os.ReadFile("web/dist/licenses.txt"); err != nil || !bytes.Contains(licences, []byte("Leon Sorokin")) {
		t.Errorf("licenses.txt lacks uPlot's licence: %v", err)
	}
}

func tree(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[rel], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func names(files map[string][]byte) []string {
	var out []string
	for name := range files {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
