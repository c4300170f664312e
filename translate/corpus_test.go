package translate

import (
	"io/fs"
	"path/filepath"
	"testing"

	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

// AddCases begins a fuzzing corpus with what the cases under testdata hold of a
// kind, as JSON; of ConfigMap it is the MeshConfig inside.
func AddCases(f *testing.F, kind string) {
	f.Helper()
	seen := map[string]bool{}
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".txtar" {
			return err
		}
		archive, err := txtar.ParseFile(path)
		if err != nil {
			return err
		}
		for _, in := range archive.Files {
			if filepath.Ext(in.Name) != ".yaml" {
				continue
			}
			objects, _ := file.Parse(in.Name, in.Data)
			for _, o := range objects {
				if o.Meta.Kind != kind {
					continue
				}
				if js := specJSON(o.Body); len(js) > 0 && len(js) < 4<<10 && !seen[string(js)] {
					seen[string(js)] = true
					f.Add(js)
				}
			}
		}
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
	if len(seen) == 0 {
		f.Fatalf("no case has a %s", kind)
	}
}

func specJSON(body any) []byte {
	m, ok := body.(proto.Message)
	if cm, is := body.(*corev1.ConfigMap); is {
		mc, _, err := config.ParseMeshConfig(cm.Data["mesh"])
		m, ok = mc, err == nil
	}
	if !ok {
		return nil
	}
	js, err := protojson.Marshal(m)
	if err != nil {
		return nil // some durations have no JSON form
	}
	return js
}
