package inputs_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery/inputs"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// commit makes a repository of the folder that it is in.
func commit(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"}, {"add", "."}, {"-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "one"},
	} {
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v %s", args, err, out)
		}
	}
}

func deployment(name string) string {
	return `apiVersion: apps/v1
kind: Deployment
metadata: {name: ` + name + `, namespace: shop}
spec:
  selector: {matchLabels: {app: ` + name + `}}
  template:
    metadata: {labels: {app: ` + name + `}}
    spec: {containers: [{name: app, image: example.com/app:1}]}
`
}

func stdin(text string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(text), nil }
}

func load(t *testing.T, o inputs.Options) *config.Mesh {
	t.Helper()
	o.Validate = translate.Check
	m, err := inputs.Load(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Problems {
		t.Log(p)
	}
	return m
}

func workloads(m *config.Mesh) string {
	var names []string
	for w := range m.Workloads.All() {
		names = append(names, w.WorkloadName())
	}
	return strings.Join(names, " ")
}

// One command reads a folder, a file, an overlay, standard input and a git
// revision at once.
func TestMixture(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"folder/one.yaml":                    deployment("one"),
		"folder/ignored_test.yaml":           deployment("ignored"),
		"two.yaml":                           deployment("two"),
		"base/kustomization.yaml":            "resources: [three.yaml]\n",
		"base/three.yaml":                    deployment("three"),
		"overlays/prod/kustomization.yaml":   "resources: [../../base]\nnamePrefix: prod-\n",
		"repository/mesh/five.yaml":          deployment("five"),
		"repository/mesh/.hidden/other.yaml": deployment("hidden"),
	})
	t.Chdir(filepath.Join(dir, "repository"))
	commit(t)
	if out, err := exec.Command("git", "rm", "-q", "-r", "mesh").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	m := load(t, inputs.Options{
		Paths: []string{filepath.Join(dir, "folder"), filepath.Join(dir, "two.yaml"), filepath.Join(dir, "overlays", "prod"), "-", "main:mesh"},
		Stdin: stdin(deployment("four")),
	})
	if got := workloads(m); got != "five four one prod-three two" {
		t.Errorf("workloads %q", got)
	}
	for w := range m.Workloads.All() {
		if len(w.IPs) != 1 || !strings.HasPrefix(w.IPs[0], "10.") {
			t.Errorf("%s has addresses %v", w.Name, w.IPs)
		}
	}
	again := load(t, inputs.Options{Paths: []string{"mesh"}, Revision: "HEAD"})
	if got := workloads(again); got != "five" {
		t.Errorf("at HEAD: workloads %q", got)
	}
	five := func(m *config.Mesh) string {
		w := m.Workloads.In("shop")[0]
		return w.IPs[0]
	}
	if five(again) != five(m) {
		t.Errorf("one pod has two addresses: %s and %s", five(again), five(m))
	}
}

// Of two definitions of one object the later one counts, and that is told.
func TestLaterWins(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a/x.yaml": deployment("one"), "b/x.yaml": deployment("one") + "# changed\n"})
	m := load(t, inputs.Options{Paths: []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}})
	if len(m.Problems) != 1 || m.Problems[0].Code != "DefinedTwice" || !strings.Contains(m.Problems[0].Message, filepath.Join(dir, "b", "x.yaml")+":1") {
		t.Errorf("problems %v", m.Problems)
	}
}

// What several paths lead to is read once, where the last of them has it.
func TestNamedTwice(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a/x.yaml": deployment("one"), "b/x.yaml": deployment("one")})
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, c := range []struct {
		paths string
		file  string // that of the definition which counts
		twice int
	}{
		{"a a", "a/x.yaml", 0},
		{"a b a", "a/x.yaml", 1},
		{"a ./a/ a/../a " + dir + "/a link a/x.yaml", "a/x.yaml", 0},
		{". a", "a/x.yaml", 1},
		{"- -", "<stdin>", 0},
		{"- a -", "<stdin>", 1},
	} {
		m := load(t, inputs.Options{Paths: strings.Fields(c.paths), Stdin: stdin(deployment("one"))})
		if w := m.Workloads.In("shop"); len(w) != 1 || w[0].File != c.file || len(m.Problems) != c.twice {
			t.Errorf("%s: %v, want %s; problems %v", c.paths, w, c.file, m.Problems)
		}
	}
}

// What Helm prints is named by the templates that it is of, with its own lines.
func TestHelmTemplates(t *testing.T) {
	text := "# of a wrapper\n---\n# Source: shop/templates/a.yaml\n" + deployment("one") +
		"---\n# Source: shop/templates/a.yaml\n" + deployment("two") + "---\n" + deployment("three") +
		"---\n# Source: shop/templates/b.yaml\nkind: [\n---\n# Source: shop/templates/a.yaml\n" + deployment("four")
	kept := inputs.Kept{}
	m := load(t, inputs.Options{Paths: []string{"-"}, Stdin: stdin(text), Kept: kept})
	var got []string
	for w := range m.Workloads.All() {
		got = append(got, fmt.Sprintf("%s:%d", w.File, w.Line))
	}
	for _, p := range m.Problems {
		got = append(got, fmt.Sprintf("%s:%d", p.File, p.Line))
	}
	want := []string{"<stdin> (shop/templates/a.yaml):36", "<stdin> (shop/templates/a.yaml):4", "<stdin>:23", "<stdin> (shop/templates/a.yaml):14", "<stdin> (shop/templates/b.yaml):33"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	all := strings.Split(text, "\n")
	for name, s := range kept {
		for _, part := range s.Texts {
			first, _, _ := strings.Cut(string(part.Data), "\n")
			if first != all[part.Above] {
				t.Errorf("%s: line %d is %q, not %q", name, part.Above+1, all[part.Above], first)
			}
		}
	}
}

func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"repo/x.yaml": deployment("x"),
	})
	t.Chdir(filepath.Join(dir, "repo"))
	if out, err := exec.Command("git", "init", "-q", "-b", "main").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	for path, want := range map[string]string{
		"nowhere":               "stat nowhere: no such file or directory",
		"nosuchrevision:x.yaml": `"nosuchrevision" is no path and no git revision`,
		"-":                     "standard input is not available",
	} {
		_, err := inputs.Load(context.Background(), inputs.Options{Paths: []string{path}})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}

// Mistakes of one object come all at once: an unknown field does not hide what
// is wrong with the rest.
func TestAllMistakesAtOnce(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"vs.yaml": `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: shop}
spec:
  hosts: [a.example.com]
  http:
  - rout: []
    timeout: -1s
`})
	m := load(t, inputs.Options{Paths: []string{dir}})
	var found []string
	for _, p := range m.Problems {
		found = append(found, fmt.Sprintf("%d %s", p.Line, p.Code))
	}
	if got := strings.Join(found, ", "); got != "7 UnknownField, 8 DurationInvalid" {
		t.Errorf("found %s", got)
	}
}

// In a folder there may be files for other programs, and charts of Helm: the
// former are passed over with a remark, a chart is an input that is not read,
// on the disk and in a revision; what a program prints is meant to be objects.
func TestFilesForOthers(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"package.json":                  `{"name": "shop", "version": "1"}`,
		"playbook.yaml":                 "- hosts: all\n",
		"mesh/x.yaml":                   deployment("x"),
		"mesh/mistyped.yaml":            "apiVersoin: v1\nkind: Service\n",
		"charts/a/Chart.yaml":           "apiVersion: v2\nname: a\n",
		"charts/a/templates/x.yaml":     "name: {{ .Values.x }}\n",
		"charts/a/charts/b/Chart.yaml":  "apiVersion: v2\nname: b\n",
		"charts/a/charts/b/values.yaml": "x: 1\n",
		"charts/a/charts/c/Chart.yaml":  "apiVersion: v2\nname: c\n",
	})
	t.Chdir(dir)
	commit(t)
	for revision, prefix := range map[string]string{"": "", "HEAD": "HEAD:"} {
		m := load(t, inputs.Options{Paths: []string{"."}, Revision: revision})
		var got []string
		for _, p := range m.Problems {
			got = append(got, p.File+" "+p.Severity.String()+" "+p.Code)
		}
		want := []string{prefix + "charts/a error HelmChart", prefix + "mesh/mistyped.yaml error NotAnObject", prefix + "package.json info NotKubernetes", prefix + "playbook.yaml info NotKubernetes"}
		if !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", revision, got, want)
		}
		if workloads(m) != "x" {
			t.Errorf("%q: workloads %q", revision, workloads(m))
		}
	}
	m := load(t, inputs.Options{Paths: []string{"-"}, Stdin: stdin("Error: no such chart\n")})
	if len(m.Problems) != 1 || m.Problems[0].Code != "NotAnObject" {
		t.Errorf("of what a program printed: %v", m.Problems)
	}
}
