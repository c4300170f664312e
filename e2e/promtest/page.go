package promtest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// Metric is a line of the page about metrics.
type Metric struct {
	Name, Labels string
	Help         string // with its unit
}

// Page holds that a part of docs/metrics.md, which stands between two comments
// that name it, lists these metrics and no others; with update it is written
// anew. root is the module's folder.
func Page(t testing.TB, root, part string, update bool, metrics []Metric) {
	t.Helper()
	slices.SortFunc(metrics, func(a, b Metric) int { return strings.Compare(a.Name, b.Name) })
	var table strings.Builder
	table.WriteString("\n| metric | labels | |\n|---|---|---|\n")
	for _, m := range metrics {
		labels := ""
		if m.Labels != "" {
			labels = "`" + m.Labels + "`"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", m.Name, labels, strings.ReplaceAll(m.Help, "|", `\|`))
	}
	file := filepath.Join(root, "docs", "metrics.md")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, begun := strings.Cut(string(b), "<!-- "+part+" -->\n")
	old, tail, ended := strings.Cut(rest, "\n<!-- end of "+part+" -->\n")
	switch {
	case !begun || !ended:
		t.Fatalf("%s has no part %q", file, part)
	case old == table.String():
	case update:
		text := head + "<!-- " + part + " -->\n" + table.String() + "\n<!-- end of " + part + " -->\n" + tail
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil { //nolint:gosec // a page of the documentation
			t.Fatal(err)
		}
	default:
		t.Errorf("docs/metrics.md, part %q, does not list what there is: -update writes it anew. Want:\n%s", part, table.String())
	}
}

// Untested are those of the metrics that no test of the module names. Tests in
// files with some names do not count, such as those that make series up.
func Untested(t testing.TB, root string, metrics []Metric, except ...string) []string {
	t.Helper()
	var tests strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, "_test.go") && !slices.Contains(except, d.Name()) {
			b, err := os.ReadFile(path)
			tests.Write(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for word := range strings.FieldsFuncSeq(strings.ReplaceAll(tests.String(), `\n`, " "), func(r rune) bool {
		return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		named[word] = true
	}
	return slices.Collect(func(yield func(string) bool) {
		for _, m := range metrics {
			is := func(suffix string) bool { return named[m.Name+suffix] }
			if !slices.ContainsFunc([]string{"", "_bucket", "_sum", "_count"}, is) && !yield(m.Name) {
				return
			}
		}
	})
}
