package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pilotfish-mesh/pilotfish/meshtest"
)

// Each known mistake is found on its line, under its codes and those of other
// tools, and nothing else is: "# finds: CODE ALIAS... [| CODE...]".
func TestLintFindsKnownMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/mistakes/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	known := map[string]bool{}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			var want []string
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for line := range strings.Lines(string(text)) {
				n++
				_, marks, _ := strings.Cut(strings.TrimSpace(line), "# finds: ")
				for mark := range strings.SplitSeq(marks, " | ") {
					if mark != "" {
						want = append(want, fmt.Sprintf("%03d %s", n, mark))
					}
					for _, code := range strings.Fields(mark) {
						known[code] = true
					}
				}
			}
			if diff := cmp.Diff(want, found(t, file)); diff != "" {
				t.Errorf("want - got +\n%s", diff)
			}
		})
	}
	for _, code := range meshtest.OtherCodes() {
		if !known[code] {
			t.Errorf("no mistake is found as %s", code)
		}
	}
}

// found are lines and codes of the findings about a file.
func found(t *testing.T, paths ...string) []string {
	t.Helper()
	var out []string
	for _, f := range findingsOf(t, paths...) {
		out = append(out, fmt.Sprintf("%03d %s", f.Line, strings.Join(append([]string{f.Code}, f.Aliases...), " ")))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

var otherCode = regexp.MustCompile(`\b(IST|KIA)\d{4}\b`)

// The page about the codes of other tools names each of istioctl's, and says
// the same of each as the findings do.
func TestLintPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/lint.md")
	if err != nil {
		t.Fatal(err)
	}
	reported := map[string]bool{} // by code that the page names
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		here := strings.TrimSpace(cells[2])
		none := strings.HasPrefix(here, "do not apply") || strings.HasPrefix(here, "does not apply") || strings.HasPrefix(here, "not reported") ||
			strings.Contains(here, "(no alias)")
		for _, code := range otherCode.FindAllString(cells[1], -1) {
			reported[code] = !none
		}
	}
	for _, code := range meshtest.OtherCodes() {
		if !reported[code] {
			t.Errorf("the page does not say that lint reports %s", code)
		}
	}
	for code, is := range reported {
		if is && !slices.Contains(meshtest.OtherCodes(), code) {
			t.Errorf("the page says that lint reports %s", code)
		}
	}
	messages, err := os.ReadFile(filepath.Join(istioModule(t), "pkg/config/analysis/msg/messages.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, m := range regexp.MustCompile(`(?m)^\s*code: (IST\d{4})`).FindAllStringSubmatch(string(messages), -1) {
		codes = append(codes, m[1])
	}
	if len(codes) < 50 {
		t.Fatalf("istioctl has %d codes", len(codes))
	}
	for code := range strings.FieldsSeq(kialiCodes) {
		codes = append(codes, "KIA"+code)
	}
	for _, code := range codes {
		if _, ok := reported[code]; !ok {
			t.Errorf("the page does not name %s", code)
		}
	}
}

// kialiCodes are those of models/istio_validation.go in Kiali's repository at
// commit d733a09 (of August 2026), and KIA1201 of versions before.
const kialiCodes = `
0002 0003 0004 0005 0101 0102 0104 0105 0106 0107 0108 0109 0110 0201 0202 0203 0204 0205 0206 0207 0208 0209 0210 0211 0212
0301 0302 0401 0501 0505 0506 0601 0602 0701 1004 1006 1007 1101 1102 1104 1105 1106 1107 1108 1109 1110 1111 1112 1113 1114
1115 1116 1117 1201 1211 1212 1301 1311 1312 1313 1314 1315 1316 1317 1401 1402 1501 1502 1503 1504 1601 1701 1702`
