package file

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"golang.org/x/tools/txtar"
)

// corpus are the documents of the repository's YAML.
func corpus(t testing.TB) [][]byte {
	t.Helper()
	var out [][]byte
	add := func(data []byte) {
		for _, c := range split(data) {
			out = append(out, c.text)
		}
	}
	for _, dir := range []string{"testdata", "../../examples", "../../translate/testdata", "../../cmd/pilotfish/testdata"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			switch filepath.Ext(path) {
			case ".yaml", ".yml":
				add(data)
			case ".txtar":
				for _, f := range txtar.Parse(data).Files {
					add(f.Data)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// judge compares what plain makes of a document with what the library does,
// and reports whether plain read it.
func judge(t *testing.T, p *plain, text []byte) bool {
	t.Helper()
	got := p.document(text)
	if got == nil {
		return false
	}
	var want yaml.Node
	if err := yaml.Unmarshal(text, &want); err != nil {
		t.Fatalf("%v, and plain reads it:\n%s", err, text)
	}
	if a, b := dump(want.Content[0]), dump(got); a != b {
		t.Fatalf("of %q\nthe library makes\n%splain makes\n%s", text, a, b)
	}
	return true
}

// dump is all of a tree but its comments.
func dump(n *yaml.Node) string {
	var b strings.Builder
	var walk func(n *yaml.Node, indent string)
	walk = func(n *yaml.Node, indent string) {
		fmt.Fprintf(&b, "%s%d:%d kind %d style %d %s %q %q %v\n", indent, n.Line, n.Column, n.Kind, n.Style, n.Tag, n.Value, n.Anchor, n.Alias != nil)
		for _, c := range n.Content {
			walk(c, indent+" ")
		}
	}
	walk(n, "")
	return b.String()
}

// Every document that plain reads is the library's, and that is most of them.
func TestPlainIsTheLibrary(t *testing.T) {
	docs := corpus(t)
	read := 0
	var p plain
	for _, text := range docs {
		if judge(t, &p, text) {
			read++
		}
	}
	if read*10 < len(docs)*8 {
		t.Errorf("%d of %d documents are read", read, len(docs))
	}
}

// The same with documents that are a little wrong, or unusual.
func TestPlainMutations(t *testing.T) {
	const seed = 1
	random := rand.New(rand.NewPCG(seed, seed))
	var p plain
	docs := corpus(t)
	read := 0
	for range 20_000 {
		text := bytes.Clone(docs[random.IntN(len(docs))])
		for range 1 + random.IntN(3) {
			text = mutate(random, text)
		}
		if judge(t, &p, text) {
			read++
		}
	}
	if read < 2_000 {
		t.Errorf("only %d mutations were read", read)
	}
}

var pieces = []string{
	" ", "  ", "\n", "\n\n", "- ", "-", ": ", ":", "#", " # x", "'", `"`, "[", "]", "{", "}", ",", "?", "? ", "&a ", "*a", "!t ", "|", "|-", ">", "%", "@", "`",
	"---", "...", "\n---\n", "\n...\n", "~", "null", "true", "yes", "y", "N", "1", "0x1", "1e3", "2001-01-01", ".inf", "<<", "<<: ", "\t", "\r\n", "é", "\u2028", "\\", "a", "key: ", "\n  ", "\n    - ", "=", "''",
}

// mutate changes a document in one place.
func mutate(random *rand.Rand, text []byte) []byte {
	at := random.IntN(len(text) + 1)
	rest := text[at:]
	switch random.IntN(4) {
	case 0: // some bytes less
		rest = rest[min(len(rest), 1+random.IntN(4)):]
		return append(bytes.Clone(text[:at]), rest...)
	case 1: // a line less
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			rest = rest[i+1:]
		}
		return append(bytes.Clone(text[:at]), rest...)
	case 2: // the end less
		return text[:at]
	}
	return append(append(bytes.Clone(text[:at]), pieces[random.IntN(len(pieces))]...), rest...)
}

func FuzzPlain(f *testing.F) {
	for _, text := range corpus(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) { judge(t, new(plain), text) })
}
