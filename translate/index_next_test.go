package translate_test

import (
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
