package file_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

// What is remembered of one state of a configuration is what another one with
// the same documents would have come to, in other files and on other lines.
func TestMemoryIsAsReadAnew(t *testing.T) {
	before, _, err := file.ReadTexts("../../examples/bookstore")
	if err != nil {
		t.Fatal(err)
	}
	before = append(before, file.Text{Name: "broken.yaml", Data: []byte("apiVersion: networking.istio.io/v1\nkind: VirtualService\n" +
		"metadata: {name: broken}\nspec: {hosts: [a.example.com], htp: []}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: [}\n")})
	var after []file.Text
	for _, text := range before {
		after = append(after, file.Text{Name: "other/" + text.Name, Data: append([]byte("# one\n# two\n---\n"), text.Data...)})
	}
	memory := file.NewMemory(nil)
	objects := func(texts []file.Text) ([]discovery.Change, []config.Problem) {
		given, problems := memory.Given(texts)
		changes, more := file.InCluster(given, nil)
		return changes, append(problems, more...)
	}
	first, _ := objects(before)
	got, problems := objects(after)
	want, wantProblems := file.Objects(after, nil, nil)
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Errorf("objects (-anew +remembered):\n%s", d)
	}
	if d := cmp.Diff(wantProblems, problems); d != "" || len(problems) == 0 {
		t.Errorf("problems (-anew +remembered):\n%s", d)
	}
	bodies := map[config.Key]any{}
	for _, c := range first {
		bodies[c.Object.Meta.Key] = c.Object.Body
	}
	shared := map[string]int{}
	for _, c := range got {
		if bodies[c.Object.Meta.Key] == c.Object.Body {
			shared[c.Object.Meta.Kind]++
		}
	}
	if shared["DestinationRule"] == 0 || shared["AuthorizationPolicy"] == 0 {
		t.Errorf("what is shared: %v", shared)
	}
}

// Of a file in UTF-16 not only the first document would be read.
func TestUTF16(t *testing.T) {
	for _, mark := range []string{"\xff\xfe", "\xfe\xff"} {
		_, problems := file.Parse("a.yaml", []byte(mark+"a\x00:\x00"))
		if len(problems) != 1 || problems[0].String() != "a.yaml:1: error: is UTF-16: save the file as UTF-8 (MalformedYAML)" {
			t.Errorf("%x: %v", mark, problems)
		}
	}
}

// What is about a whole file names no line.
func TestUnreadableFileHasNoLine(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("x.yaml", filepath.Join(dir, "x.yaml")); err != nil {
		t.Fatal(err)
	}
	_, problems, err := file.ReadTexts(dir)
	if want := filepath.Join(dir, "x.yaml") + ": error: cannot be read: too many levels of symbolic links (Unreadable)"; err != nil || len(problems) != 1 || problems[0].String() != want {
		t.Errorf("%v %v, want %s", problems, err, want)
	}
}
