package translate_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// TestIndexFollowsChanges brings the objects of every case into one mesh and out
// again, a few at a time, and holds that the Index made of the one before is that
// of a mesh without a past: the same classes, scopes and problems.
func TestIndexFollowsChanges(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 2))
	store := discovery.NewStore(translate.Check, "file")
	store.Synced("file")
	tr := translate.NewTranslator(1)
	proxies := []*config.Proxy{defaultProxy()}
	steps, compared := 0, 0
	step := func(name string, changes []discovery.Change) {
		store.Apply("file", changes)
		steps++
		if draw.IntN(8) == 0 {
			return // nobody looked at this one
		}
		ix := tr.Index(store.Mesh())
		if draw.IntN(6) > 0 {
			for _, p := range proxies { // views and scopes are made, but not compared
				for _, c := range ix.Classes(p) {
					ix.Scope(c)
				}
			}
			return
		}
		compared++
		sameIndexes(t, name, ix, translate.NewIndex(store.Mesh()), proxies)
	}
	var present []discovery.Object
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".txtar" {
			return err
		}
		objects, proxy := caseObjects(t, path)
		if proxies = append(proxies, proxy); len(proxies) > 4 {
			proxies = slices.Delete(proxies, 1, 2)
		}
		for _, o := range objects {
			step(path, []discovery.Change{{Object: o}})
		}
		present = append(present, objects...)
		draw.Shuffle(len(present), func(i, j int) { present[i], present[j] = present[j], present[i] })
		for len(present) > 30 && !t.Failed() {
			n := 1 + draw.IntN(3)
			var gone []discovery.Change
			for _, o := range present[:n] {
				gone = append(gone, discovery.Change{Object: o, Deleted: true})
			}
			present = present[n:]
			step(path, gone)
		}
		if t.Failed() {
			return fs.SkipAll
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if compared < 200 {
		t.Errorf("compared %d of %d steps", compared, steps)
	}
}

// TestIndexFollowsSmallMesh draws changes of a mesh in which a Sidecar imports two
// namespaces, so that what it reads of them changes over and over.
func TestIndexFollowsSmallMesh(t *testing.T) {
	draw := rand.New(rand.NewPCG(3, 4))
	store := discovery.NewStore(translate.Check, "file")
	store.Synced("file")
	tr := translate.NewTranslator(1)
	namespaces := []string{"default", "other", "third"}
	objects := func(ns, name string) string {
		host := draw.IntN(4)
		return []string{ // few VirtualServices lead out of their namespace: such views are not kept
			fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %[2]s, namespace: %[1]s, annotations: {networking.istio.io/exportTo: %[3]q}}\n"+
				"spec: {clusterIP: 10.0.%[4]d.%[5]d, selector: {app: %[2]s}, ports: [{name: http, port: %[6]d}]}\n",
				ns, name, []string{"*", "*", ".", "other"}[host], len(ns), len(name), 80+draw.IntN(2)),
			fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: %[2]s, namespace: %[1]s}\n"+
				"spec: {hosts: [%[2]s], exportTo: [%[3]q], http: [{route: [{destination: {host: s%[4]d.%[5]s.svc.cluster.local}}]}]}\n",
				ns, name, []string{"*", "*", ".", "default"}[host], draw.IntN(3), []string{ns, ns, ns, ns, ns, "third"}[draw.IntN(6)]),
			fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: %[2]s, namespace: %[1]s}\n"+
				"spec: {host: s%[3]d.%[4]s.svc.cluster.local, exportTo: [%[5]q], trafficPolicy: {loadBalancer: {simple: %[6]s}}}\n",
				ns, name, draw.IntN(3), namespaces[draw.IntN(3)], []string{"*", "*", ".", "default"}[host], []string{"RANDOM", "ROUND_ROBIN"}[draw.IntN(2)]),
			fmt.Sprintf("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: %[2]s, namespace: %[1]s}\n"+
				"spec: {mtls: {mode: %[3]s}}\n", ns, name, []string{"STRICT", "DISABLE"}[draw.IntN(2)]),
			fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s0, namespace: default}\n"+
				"spec: {egress: [{hosts: [%q, %q]}]}\n", "./*", []string{"other/*", "other/*", "other/s1.other.svc.cluster.local", "*/s2.other.svc.cluster.local"}[draw.IntN(4)]),
		}[[]int{0, 0, 0, 0, 1, 2, 2, 2, 2, 3, 3, 3, 4}[draw.IntN(13)]]
	}
	for range 2000 {
		parsed, problems := file.Parse("drawn.yaml", []byte(objects(namespaces[draw.IntN(3)], fmt.Sprintf("s%d", draw.IntN(3)))))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		store.Apply("file", []discovery.Change{{Object: parsed[0], Deleted: parsed[0].Meta.Kind != "Sidecar" && draw.IntN(2) == 0}})
		sameIndexes(t, "drawn", tr.Index(store.Mesh()), translate.NewIndex(store.Mesh()), []*config.Proxy{defaultProxy()})
		if t.Failed() {
			return
		}
	}
}

func caseObjects(t *testing.T, path string) ([]discovery.Object, *config.Proxy) {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []discovery.Object
	proxy := defaultProxy()
	for _, f := range archive.Files {
		switch {
		case f.Name == "proxy":
			proxy = parseProxy(t, f.Data)
		case strings.HasSuffix(f.Name, ".yaml"):
			objects, _ := file.ParseChecked(f.Name, f.Data, translate.Check)
			out = append(out, objects...)
		}
	}
	return out, proxy
}

func sameIndexes(t *testing.T, name string, got, want *translate.Index, proxies []*config.Proxy) {
	t.Helper()
	for _, p := range proxies {
		classes := got.Classes(p)
		if !slices.Equal(classes, want.Classes(p)) {
			t.Errorf("%s: classes of %s %v\nwant %v", name, p.ID, classes, want.Classes(p))
			continue
		}
		for _, c := range classes {
			a, b := got.Scope(c), want.Scope(c)
			if a.Key() != b.Key() || !slices.Equal(a.Problems(), b.Problems()) {
				t.Errorf("%s: the scope of class %v differs from that of a mesh without a past", name, c)
			}
		}
	}
	if a, b := got.Problems(), want.Problems(); !slices.Equal(a, b) {
		t.Errorf("%s: problems\n%v\nwant\n%v", name, a, b)
	}
}
