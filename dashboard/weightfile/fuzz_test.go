package weightfile

import (
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"
	"golang.org/x/tools/txtar"
)

// FuzzRewrite holds that no file makes the editor panic, and that what it
// does not refuse has the new weights.
func FuzzRewrite(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(archive.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		e := canaryEdit("mesh.yaml", 45, 55)
		out, err := rewrite(src, &e)
		if err != nil {
			return
		}
		again := canaryEdit("mesh.yaml", 70, 30)
		again.Seen[0].Weight, again.Seen[1].Weight = 45, 55
		doc, object, err := findObject(out, &again)
		if err != nil {
			t.Fatalf("the object is gone: %v", err)
		}
		route, err := findRoute(doc, object, &again)
		if err != nil {
			t.Fatalf("the route is not as written: %v", err)
		}
		var w int
		if n := mappingValue(route.Content[1], "weight"); n == nil || n.Kind != yaml.ScalarNode || n.Decode(&w) != nil && n.Value != "55" {
			t.Fatalf("the weight is no number: %v", n)
		}
	})
}
