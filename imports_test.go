// Package pilotfish holds the tests of the rules that span packages.
package pilotfish

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/pilotfish-mesh/pilotfish"

// mayImport is the import table of docs/design: what each package may use of
// ours. "*" is everything. A directory stands for the packages below it
// unless they have a line of their own.
var mayImport = map[string][]string{
	"config":              {},
	"discovery":           {"config"},
	"discovery/kube":      {"config", "discovery"},
	"discovery/file":      {"config", "discovery"},
	"discovery/jwks":      {"config"},
	"discovery/inputs":    {"config", "discovery", "discovery/file", "discovery/kube"},
	"translate":           {"config"},
	"snapshot":            {"translate", "config"},
	"ca":                  {"config"},
	"webhook":             {"translate", "config"},
	"registration":        {"config"},
	"agent":               {},
	"simulate":            {"translate", "config"},
	"meshtest":            {"simulate", "translate", "config"},
	"meshtest/live":       {"config", "discovery/file", "meshtest", "simulate", "up", "up/echo"},
	"dashboard":           {"snapshot", "translate", "config"},
	"dashboard/report":    {"meshtest", "simulate", "config"},
	"serve":               {"discovery", "discovery/file", "discovery/jwks", "discovery/kube", "translate", "snapshot", "ca", "registration", "replicas/held", "webhook", "config"},
	"up":                  {"serve", "up/echo", "discovery", "discovery/file", "discovery/jwks", "translate", "snapshot", "agent", "ca", "dashboard", "dashboard/report", "meshtest", "config"},
	"up/echo":             {},
	"manifests":           {},
	"install":             {"manifests"},
	"replicas":            {"replicas/held", "config"},
	"replicas/held":       {"config"},
	"rollout":             {"replicas"},
	"e2e":                 {"*"},
	"cmd/pilotfish":       {"*"},
	"cmd/pilotfish-agent": {"agent"},
}

// TestImportTable holds the direction of the architecture: a package that
// reaches against it makes every later change wider.
func TestImportTable(t *testing.T) {
	for dir, files := range goPackages(t) {
		allowed, rule := allowedFor(dir)
		if rule == "" {
			t.Errorf("package %s has no line in the import table: add it here and in docs/design", dir)
			continue
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue // tests may bring the parts together
			}
			for _, imp := range importsOf(t, f) {
				ours, ok := strings.CutPrefix(imp, module+"/")
				_, imported := allowedFor(ours)
				if !ok || slices.Contains(allowed, "*") || slices.Contains(allowed, imported) || imported == rule {
					continue
				}
				t.Errorf("%s imports %s; %s may import only %v", f, ours, rule, allowed)
			}
		}
	}
}

// TestOneDocComment requires one doc comment a package, so that there is one
// place that says what it is for.
func TestOneDocComment(t *testing.T) {
	for dir, files := range goPackages(t) {
		docs := 0
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			if parse(t, f, parser.PackageClauseOnly|parser.ParseComments).Doc != nil {
				docs++
			}
		}
		if n := len(files); n > 0 && docs != 1 && !onlyTests(files) {
			t.Errorf("package %s has %d doc comments, want one", dir, docs)
		}
	}
}

func onlyTests(files []string) bool {
	return !slices.ContainsFunc(files, func(f string) bool { return !strings.HasSuffix(f, "_test.go") })
}

func allowedFor(dir string) (allowed []string, rule string) {
	for d := dir; d != "."; d = filepath.Dir(d) {
		if a, ok := mayImport[filepath.ToSlash(d)]; ok {
			return a, filepath.ToSlash(d)
		}
	}
	return nil, ""
}

// goPackages maps each package directory of the module to its files.
func goPackages(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if skipDir(path, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) == ".go" && filepath.Dir(path) != "." {
			out[filepath.Dir(path)] = append(out[filepath.Dir(path)], path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatal("found no packages")
	}
	return out
}

func skipDir(path, name string) bool {
	if path == "." {
		return false
	}
	if strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules" {
		return true
	}
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	return err == nil // a module of its own
}

func importsOf(t *testing.T, file string) []string {
	t.Helper()
	var out []string
	for _, s := range parse(t, file, parser.ImportsOnly).Imports {
		out = append(out, strings.Trim(s.Path.Value, `"`))
	}
	return out
}

func parse(t *testing.T, file string, mode parser.Mode) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, mode)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
