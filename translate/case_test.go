package translate_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

var update = flag.Bool("update", false, "rewrite the expected sections of testdata/**/*.txtar")

// TestCases runs every case under testdata. A case is a txtar archive:
//
//	Why this matters, in a sentence or two.
//	-- config.yaml --           input; any number of *.yaml files
//	-- proxy --                 optional: type, namespace, labels, ip, interception, …
//	-- environment --           optional: the control plane's, a line NAME=value each
//	-- names clusters --        names of a type: clusters, listeners, routes, endpoints
//	-- cluster outbound|80||a.default.svc.cluster.local --
//	-- route 80 : virtualHosts.[name=a.default.svc.cluster.local:80].routes.[0] --
//	-- listener 0.0.0.0_80 --
//	-- endpoints outbound|80||a.default.svc.cluster.local --
//	-- secret kubernetes://cert --
//	-- problems --              one line each, from validation and translation
//
// Only the sections that a case names are compared. Every resource that the
// configuration yields must also pass its own protobuf validation.
func TestCases(t *testing.T) {
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".txtar" {
			return err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.ToSlash(path), "testdata/"), ".txtar")
		t.Run(name, func(t *testing.T) { runCase(t, path) })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func runCase(t *testing.T, path string) {
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, archive)
	compared, changed := 0, false
	for i := range archive.Files {
		f := &archive.Files[i]
		if isInput(f.Name) {
			continue
		}
		compared++
		got := w.section(t, f.Name)
		if want := string(f.Data); got != want {
			if *update {
				f.Data, changed = []byte(got), true
				continue
			}
			t.Errorf("section %q:\n%s", f.Name, lineDiff(want, got))
		}
	}
	if compared == 0 {
		t.Errorf("%s asserts nothing: name at least one section", path)
	}
	if changed {
		if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func isInput(name string) bool {
	return name == "proxy" || name == "environment" || strings.HasSuffix(name, ".yaml")
}

// environment finds the variables of a section; a value is quoted if need be.
func environment(text string) config.Lookup {
	values := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		name, value, _ := strings.Cut(line, "=")
		if plain, err := strconv.Unquote(value); err == nil {
			value = plain
		}
		values[name] = value
	}
	return func(name string) (string, bool) { v, ok := values[name]; return v, ok }
}

// world is one case's configuration, seen by its proxy.
type world struct {
	mesh      *config.Mesh
	index     *translate.Index
	proxy     *config.Proxy
	translate *translate.Translator
	resources []*translate.Resources
	problems  []config.Problem
}

func newWorld(t *testing.T, archive *txtar.Archive) *world {
	t.Helper()
	w := &world{translate: translate.NewTranslator(1 << 16), proxy: defaultProxy()}
	store := discovery.NewStore(translate.Check, "file")
	for _, f := range archive.Files {
		if f.Name == "environment" {
			store.ReadEnvironment(environment(string(f.Data)))
		}
	}
	var changes []discovery.Change
	var parse []config.Problem
	for _, f := range archive.Files {
		switch {
		case f.Name == "proxy":
			w.proxy = parseProxy(t, f.Data)
		case strings.HasSuffix(f.Name, ".yaml"):
			objects, problems := file.ParseChecked(f.Name, f.Data, translate.Check)
			for _, o := range objects {
				changes = append(changes, discovery.Change{Object: o})
			}
			parse = append(parse, problems...)
		}
	}
	store.Apply("file", changes)
	store.SetProblems("file", parse)
	store.Synced("file")
	w.mesh = store.Mesh()
	if w.mesh == nil {
		t.Fatal("the Store published no Mesh")
	}
	w.index = translate.NewIndex(w.mesh)
	w.problems = append(slices.Clone(w.mesh.Problems), w.index.Problems()...)
	for _, c := range w.index.Classes(w.proxy) {
		scope := w.index.Scope(c)
		r := w.translate.Translate(scope)
		if again := w.index.Scope(c); again.Key() != scope.Key() {
			t.Errorf("gathering twice gave keys %s and %s", scope.Key(), again.Key())
		}
		w.resources = append(w.resources, r)
		w.problems = append(w.problems, r.Problems...)
	}
	w.problems = append(w.problems, translate.UnmatchedPatches(w.resources)...)
	for _, kind := range []string{"cluster", "listener", "route"} {
		for _, r := range w.all(kind) {
			w.decode(t, kind, r)
		}
	}
	return w
}

// all returns the resources of a kind from all sides, by name.
func (w *world) all(kind string) []*translate.Resource {
	var out []*translate.Resource
	for _, r := range w.resources {
		switch kind {
		case "cluster":
			out = append(out, r.Clusters.Items()...)
		case "listener":
			out = append(out, r.Listeners.Items()...)
		case "route":
			out = append(out, r.Routes.Items()...)
		case "extension":
			out = append(out, r.Extensions.Items()...)
		case "endpoints":
			for i := range r.Endpoints {
				spec := &r.Endpoints[i]
				eps, _ := w.mesh.Endpoints.Get(spec.Service.Namespace, spec.Service.Hostname)
				viewer := translate.ViewerOf(w.proxy)
				out = append(out, w.translate.Endpoints(spec, eps, viewer))
			}
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// section renders one section of a case.
func (w *world) section(t *testing.T, name string) string {
	t.Helper()
	kind, rest, _ := strings.Cut(name, " ")
	switch kind {
	case "problems":
		var b strings.Builder
		for _, p := range w.problems {
			fmt.Fprintln(&b, p)
		}
		return b.String()
	case "names":
		var b strings.Builder
		for _, r := range w.all(strings.TrimSuffix(strings.Replace(rest, "endpoints", "endpointss", 1), "s")) {
			fmt.Fprintln(&b, r.Name)
		}
		return b.String()
	case "cluster", "listener", "route", "endpoints", "secret", "extension":
	default:
		t.Fatalf("section %q: want cluster, listener, route, endpoints, secret, names or problems", name)
	}
	resource, path, _ := strings.Cut(rest, " : ")
	r := w.find(kind, resource)
	if r == nil {
		return "absent\n"
	}
	v, err := selectPath(w.decode(t, kind, r), path)
	if err != nil {
		return err.Error() + "\n"
	}
	out, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func (w *world) find(kind, name string) *translate.Resource {
	if kind == "secret" {
		r, problems := w.translate.Secret(w.mesh, translate.ReaderOf(w.proxy), name)
		w.problems = append(w.problems, problems...)
		return r
	}
	for _, r := range w.all(kind) {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// decode parses a resource, runs its own validation and returns its JSON form.
func (w *world) decode(t *testing.T, kind string, r *translate.Resource) any {
	t.Helper()
	m := newMessage(kind)
	if err := proto.Unmarshal(r.Bytes(), m); err != nil {
		t.Fatalf("%s %s: %v", kind, r.Name, err)
	}
	if v, ok := m.(interface{ ValidateAll() error }); ok {
		if err := v.ValidateAll(); err != nil {
			t.Errorf("%s %s does not pass its validation: %v", kind, r.Name, err)
		}
	}
	return toJSON(t, m)
}
