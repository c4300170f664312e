package weightfile

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/pilotfish-mesh/pilotfish/config"
)

var update = flag.Bool("update", false, "rewrite the cases' outcomes")

// TestCases runs testdata/*.txtar: a comment, "key: value" lines that describe
// the edit of VirtualService default/myapp, the file before it ("in"), and
// either the file after it ("out") or the refusal ("error"). "breaks: crlf"
// gives both files CRLF line ends, "mark: yes" a byte order mark.
func TestCases(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { runCase(t, file) })
	}
}

func runCase(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	e, wire := parseCase(t, string(archive.Comment))
	sections := map[string]string{}
	for _, f := range archive.Files {
		sections[f.Name] = string(f.Data)
	}
	got, err := rewrite([]byte(wire(sections["in"])), &e)
	if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
		check(t, file, archive, "error", refusal.Error()+"\n", sections["error"])
		return
	}
	if err != nil {
		t.Fatalf("not a refusal: %v", err)
	}
	if *update {
		check(t, file, archive, "out", strings.ReplaceAll(strings.TrimPrefix(string(got), string(utf8Mark)), "\r\n", "\n"), sections["out"])
		return
	}
	if diff := cmp.Diff(wire(sections["out"]), string(got)); diff != "" {
		t.Errorf("outcome (-want +got):\n%s", diff)
	}
}

func check(t *testing.T, file string, archive *txtar.Archive, name, got, want string) {
	if got == want {
		return
	}
	if !*update {
		t.Errorf("%s (-want +got):\n%s", name, cmp.Diff(want, got))
		return
	}
	archive.Files = append(archive.Files[:1], txtar.File{Name: name, Data: []byte(got)})
	if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// parseCase reads the lines "seen: host/subset=weight …", "weights: n …",
// "field: …", "line: n", "breaks: crlf" and "mark: yes".
func parseCase(t *testing.T, comment string) (Edit, func(string) string) {
	e := Edit{
		File:   "mesh.yaml",
		Object: config.Key{Group: "networking.istio.io", Kind: "VirtualService", Namespace: "default", Name: "myapp"},
		Field:  "spec.http[0].route",
	}
	var crlf, mark bool
	for line := range strings.Lines(comment) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		switch key {
		case "field":
			e.Field = value
		case "line":
			e.Line = number(t, value)
		case "seen":
			for _, d := range strings.Fields(value) {
				name, weight, _ := strings.Cut(d, "=")
				host, subset, _ := strings.Cut(name, "/")
				e.Seen = append(e.Seen, Destination{host, subset, int32(number(t, weight))})
			}
		case "weights":
			for _, w := range strings.Fields(value) {
				e.Weights = append(e.Weights, int32(number(t, w)))
			}
		case "breaks":
			crlf = value == "crlf"
		case "mark":
			mark = value == "yes"
		default:
			t.Fatalf("unknown key %q", key)
		}
	}
	return e, func(s string) string {
		if crlf {
			s = strings.ReplaceAll(s, "\n", "\r\n")
		}
		if mark {
			s = string(utf8Mark) + s
		}
		return s
	}
}

func number(t *testing.T, s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(fmt.Errorf("case: %w", err))
	}
	return n
}
