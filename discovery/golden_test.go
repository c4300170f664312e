package discovery_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

var update = flag.Bool("update", false, "write the results into the test cases")

// TestDerivation runs testdata/*/*.txtar. The files of a case that end in
// .yaml are applied in order, each as one step; a line "# delete KIND NS/NAME"
// deletes an object in that step. What the mesh is then is compared with the
// other sections of the case, each named after a part of it.
func TestDerivation(t *testing.T) {
	cases, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	for _, path := range cases {
		t.Run(strings.TrimSuffix(strings.TrimPrefix(path, "testdata/"), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s := discovery.NewStore(nil, "test")
			s.Synced("test")
			for i := range a.Files {
				f := &a.Files[i]
				if strings.HasSuffix(f.Name, ".yaml") {
					s.Apply("test", stepOf(t, f))
					continue
				}
				got := dump(t, s.Mesh(), f.Name)
				if *update {
					f.Data = []byte(got)
				} else if d := cmp.Diff(string(f.Data), got); d != "" {
					t.Errorf("%s (-want +got):\n%s", f.Name, d)
				}
			}
			if *update {
				if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func stepOf(t *testing.T, f *txtar.File) []discovery.Change {
	t.Helper()
	objects, problems := file.Parse(f.Name, f.Data)
	for _, p := range problems {
		t.Error(p)
	}
	var out []discovery.Change
	for _, o := range objects {
		out = append(out, discovery.Change{Object: o})
	}
	for line := range strings.Lines(string(f.Data)) {
		what, ok := strings.CutPrefix(strings.TrimSpace(line), "# delete ")
		if !ok {
			continue
		}
		kind, name, _ := strings.Cut(what, " ")
		ns, name, _ := strings.Cut(name, "/")
		key := config.Key{Kind: kind, Namespace: ns, Name: name}
		for _, k := range discovery.Kinds() {
			if k.Kind == kind {
				key.Group = k.Group
			}
		}
		if kind == "EndpointSlice" {
			key.Group = "discovery.k8s.io"
		}
		out = append(out, discovery.Change{Object: discovery.Object{Meta: config.Meta{Key: key}}, Deleted: true})
	}
	return out
}
