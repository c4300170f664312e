package inputs_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/discovery/inputs"
)

// Why an overlay cannot be rendered is told at the file and line that are
// wrong, on the disk and in a revision.
func TestOverlayMistakes(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{
		"base/kustomization.yaml":      "resources:\n- x.yaml\n",
		"base/x.yaml":                  deployment("x"),
		"missing/kustomization.yaml":   "namePrefix: a-\nresources:\n- ../base\n- ../nowhere\n",
		"above/kustomization.yaml":     "resources: [../missing]\n",
		"cycle/kustomization.yaml":     "resources:\n- ../cycle/next\n",
		"cycle/next/kustomization.yml": "# comment\nresources: [../../cycle]\n",
		"broken/kustomization.yaml":    "resources: [bad.yaml]\n",
		"broken/bad.yaml":              "kind: Service\nmetadata:\n  name: x\n  bad\n",
		"recipe/kustomization.yaml":    "resources:\n- a\n  b: c\n",
		"unknown/kustomization.yaml":   "namePrefix: a-\nresource: [a.yaml]\n",
		"patch/kustomization.yaml":     "resources: [../base]\npatches:\n- path: p.yaml\n",
		"patch/p.yaml":                 "kind: Deployment\nmetadata: [\n",
		"nopatch/kustomization.yaml":   "resources: [../base]\npatches:\n- path: p.yaml\n",
		"inline/kustomization.yaml":    "resources: [../base]\npatches:\n- target: {kind: Deployment}\n  patch: '[{op: replace}]'\n",
		"target/kustomization.yaml":    "resources: [../base]\npatches: [{path: p.yaml}]\n",
		"target/p.yaml":                deployment("y"),
		"twice/kustomization.yaml":     "resources:\n- ../base\n- x.yaml\n",
		"twice/x.yaml":                 deployment("x"),
		"over/kustomization.yaml":      "resources: [../recipe]\n",
		"helm/kustomization.yaml":      "resources: [../base]\nhelmCharts:\n- name: a\n",
	}
	write(t, dir, files)
	t.Chdir(dir)
	commit(t)
	for path, want := range map[string]string{
		"missing": "missing/kustomization.yaml:4:3: kustomize missing: ../nowhere: no such file or directory",
		"above":   "missing/kustomization.yaml:4:3: kustomize above: ../missing: ../nowhere: no such file or directory",
		"cycle":   "cycle/next/kustomization.yml:2:13: kustomize cycle: ../cycle/next: ../../cycle: is a cycle: its recipe leads back to this one",
		"broken":  "broken/bad.yaml:4:1: kustomize broken: not valid YAML: could not find expected ':': a key needs a colon and a space after it",
		"recipe":  "recipe/kustomization.yaml:3:1: kustomize recipe: not valid YAML: mapping values are not allowed in this context: check this line's indentation, or quote a value that holds \": \"",
		"over":    "recipe/kustomization.yaml:3:1: kustomize over: ../recipe: not valid YAML: ",
		"unknown": `unknown/kustomization.yaml:2:1: kustomize unknown: unknown field "resource"`,
		"patch":   "patch/p.yaml:2:1: kustomize patch: not valid YAML: did not find expected node content",
		"nopatch": "nopatch/kustomization.yaml:3:9: kustomize nopatch: p.yaml: no such file or directory",
		"inline":  "inline/kustomization.yaml:4:10: kustomize inline: unable to parse SM or JSON patch",
		"target":  `target/kustomization.yaml: kustomize target: no resource matches strategic merge patch "Deployment.v1.apps/y.shop": `,
		"twice":   "twice/kustomization.yaml:3:3: kustomize twice: x.yaml: may not add resource with an already registered id: Deployment.v1.apps/x.shop",
		"helm":    `helm/kustomization.yaml:2:1: kustomize helm: Helm charts are not rendered: pipe what "kustomize build --enable-helm" prints into --config -`,
	} {
		for _, at := range []string{"", "main:"} {
			want := at + strings.Replace(want, "kustomize ", "kustomize "+at, 1)
			_, err := inputs.Load(context.Background(), inputs.Options{Paths: []string{at + path}})
			if err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%s%s:\n%v\nwant\n%s", at, path, err, want)
			}
		}
	}
	m := load(t, inputs.Options{Paths: []string{"base", filepath.Join(dir, "above")}})
	if len(m.Problems) != 1 || m.Problems[0].File != filepath.Join(dir, "missing", "kustomization.yaml") || m.Problems[0].Line != 4 || workloads(m) != "x" {
		t.Errorf("beside another: %v, workloads %q", m.Problems, workloads(m))
	}
}

// Nothing is downloaded, wherever a recipe names it.
func TestNothingIsDownloaded(t *testing.T) {
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("asked for %s", r.URL)
		_, _ = w.Write([]byte(deployment("x")))
	}))
	t.Cleanup(host.Close)
	at := strings.TrimPrefix(host.URL, "http://")
	for _, recipe := range []string{
		"resources: ['REF']", "components:\n- REF", "bases: ['REF']", "patches: [{path: 'REF'}]", "crds: ['REF']",
		"generators: ['REF']", "transformers: ['REF']", "configurations: ['REF']", "replacements: [{path: 'REF'}]",
		"openapi: {path: 'REF'}", "configMapGenerator: [{name: a, files: ['k=REF']}]", "patchesStrategicMerge: ['REF']",
	} {
		dir := t.TempDir()
		write(t, dir, map[string]string{
			"a/kustomization.yaml": "resources: [../b]\n",
			"b/kustomization.yaml": strings.ReplaceAll(recipe, "REF", host.URL+"/x.yaml?ref=v1"),
		})
		t.Chdir(dir)
		_, err := inputs.Load(context.Background(), inputs.Options{Paths: []string{"a"}})
		if err == nil || !strings.HasPrefix(err.Error(), "b/kustomization.yaml:") || !strings.Contains(err.Error(), host.URL+`/x.yaml?ref=v1" is elsewhere, and nothing is downloaded: vendor it`) {
			t.Errorf("%s: %v", recipe, err)
		}
	}
	for _, ref := range []string{"git::http://" + at + "/a/b", "HTTP://" + at + "/a/b.git", "git@127.0.0.1:a/b", "ssh://git@127.0.0.1/a/b", "github.com/a/b//c?ref=v1", "gh:a/b"} {
		dir := t.TempDir()
		write(t, dir, map[string]string{"kustomization.yaml": "resources:\n- " + ref + "\n"})
		_, err := inputs.Load(context.Background(), inputs.Options{Paths: []string{dir}})
		if err == nil || !strings.Contains(err.Error(), ":2:3: ") || !strings.Contains(err.Error(), "is elsewhere") {
			t.Errorf("%s: %v", ref, err)
		}
	}
	dir := t.TempDir() // what only looks like it
	write(t, dir, map[string]string{
		"kustomization.yaml":            "resources: [https.yaml, github.com]\nconfigMapGenerator: [{name: a, literals: ['u=" + host.URL + "']}]\n",
		"https.yaml":                    deployment("one"),
		"github.com/kustomization.yaml": "resources: [x.yaml]\n",
		"github.com/x.yaml":             deployment("two"),
	})
	if m := load(t, inputs.Options{Paths: []string{dir}}); workloads(m) != "one two" {
		t.Errorf("workloads %q", workloads(m))
	}
}
