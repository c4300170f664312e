package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// leftOut are codes about what an example names and leaves out.
var leftOut = map[string]bool{"HostNotFound": true, "GatewayNotFound": true, "DelegateNotFound": true, "NoEndpoints": true, "ServerWithoutRoute": true}

// reviewed are findings about the reference's examples that are right.
var reviewed = map[string]string{
	"virtual_service InvalidName":         "its namespaces nsA and nsB have letters that Kubernetes refuses",
	"envoy_filter NoEffect":               "REPLACE without the name of a filter replaces none",
	"request_authentication Missing":      "its issuers stand for others: no keys can be found for them",
	"workload_entry AddressMissing":       "without an address it is reached through its network's gateway alone",
	"traffic_extension TargetUnsupported": "it is for waypoints",
}

// The examples in the reference of Istio's API, which are parts of a
// configuration, have nothing wrong but what is reviewed above. They are read
// from the module of that API.
func TestLintIsSilentOnIstioReference(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "istio.io/api").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "*", "*", "*.proto"))
	if err != nil {
		t.Fatal(err)
	}
	examples, seen := 0, map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".proto")
		for line, example := range examplesIn(string(text)) {
			examples++
			path := filepath.Join(t.TempDir(), fmt.Sprintf("%s-%d.yaml", name, line))
			if err := os.WriteFile(path, []byte(example), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, f := range findingsOf(t, path) {
				seen[name+" "+f.Code] = true
				if f.Severity.String() != "info" && !leftOut[f.Code] && reviewed[name+" "+f.Code] == "" {
					t.Errorf("%s:%d: %s", filepath.Base(file), line+f.Line, f.Problem)
				}
			}
		}
	}
	if examples < 120 {
		t.Errorf("%d examples were read", examples)
	}
	for key := range reviewed {
		if !seen[key] {
			t.Errorf("%s is not found", key)
		}
	}
}

var (
	comment = regexp.MustCompile(`^\s*// ?(.*)$`)
	elided  = regexp.MustCompile(`(?m)^\s*\.\.\.`)
)

// examplesIn are the objects that comments of a file show, by the line before
// their first; those that leave out lines are none.
func examplesIn(text string) map[int]string {
	out := map[int]string{}
	var b strings.Builder
	start, indent := 0, 0
	for i, line := range strings.Split(text, "\n") {
		m := comment.FindStringSubmatch(line)
		switch {
		case m == nil:
			start = 0
		case start == 0:
			if rest := strings.TrimLeft(m[1], " "); strings.HasPrefix(rest, "```yaml") {
				start, indent = i+1, len(m[1])-len(rest)
				b.Reset()
			}
		case strings.TrimSpace(m[1]) == "```":
			if example := b.String(); strings.Contains(example, "kind:") && !elided.MatchString(example) {
				out[start] = example
			}
			start = 0
		default:
			b.WriteString(m[1][min(indent, len(m[1])):] + "\n")
		}
	}
	return out
}
