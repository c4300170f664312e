package translate_test

import (
	"os"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/pilotfish-mesh/pilotfish/translate"
)

// An object that only moved in its file is made anew: resources and problems
// name its new place, as those of a process that never saw the old one do.
func TestMovedObjectsAreNotRemembered(t *testing.T) {
	archive := func(before string) *txtar.Archive {
		a := &txtar.Archive{}
		for _, name := range []string{"myapp.yaml", "deployments.yaml"} {
			b, err := os.ReadFile("../examples/canary/" + name)
			if err != nil {
				t.Fatal(err)
			}
			a.Files = append(a.Files, txtar.File{Name: name, Data: append([]byte(before), b...)})
		}
		return a
	}
	old, moved := newWorld(t, archive("")), newWorld(t, archive("# one\n# two\n"))
	compared := 0
	for _, c := range moved.index.Classes(moved.proxy) {
		scope := moved.index.Scope(c)
		want, got := moved.translate.Translate(scope), old.translate.Translate(scope)
		sets := func(r *translate.Resources) []*translate.Set {
			return []*translate.Set{r.Clusters, r.Listeners, r.Routes}
		}
		for i, want := range sets(want) {
			for _, w := range want.Items() {
				g := sets(got)[i].Get(w.Name)
				if g == nil || g.Version != w.Version {
					t.Errorf("%s differs from what a new Translator makes", w.Name)
					continue
				}
				for j, m := range w.Sources {
					compared++
					if g.Sources[j].Line != m.Line {
						t.Errorf("%s: made of %s in line %d, want %d", w.Name, m.Key, g.Sources[j].Line, m.Line)
					}
				}
			}
		}
	}
	if compared == 0 {
		t.Error("no resource has a source")
	}
}
