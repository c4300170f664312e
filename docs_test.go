package pilotfish

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// table is the rows of the one table on a page that begins with these columns.
func table(t *testing.T, page string, columns ...string) [][]string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n| "+strings.Join(columns, " | ")+" |\n")
	if !ok {
		t.Fatalf("%s has no table of %v", page, columns)
	}
	var out [][]string
	for line := range strings.Lines(rest) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		if cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | "); !strings.HasPrefix(line, "|---") {
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			out = append(out, cells)
		}
	}
	return out
}

// testsOf is the source of a package's tests.
func testsOf(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	return b.String()
}

var (
	packageTests = regexp.MustCompile("`([a-z0-9/]+)` ((?:Test[A-Za-z0-9]+[^,;`]*(?:, )?)+)")
	exampleLink  = regexp.MustCompile(`\]\(\.\./examples/([a-z-]+)\)`)
)

// missing says which of a cell's tests are not there. Tests are written as
// `package` TestOne, TestTwo/subtest; `other` TestThree.
func missing(t *testing.T, cell string) (problems []string) {
	t.Helper()
	found := packageTests.FindAllStringSubmatch(cell, -1)
	if found == nil {
		return []string{"no test in " + cell}
	}
	for _, m := range found {
		source := testsOf(t, m[1])
		for name := range strings.SplitSeq(strings.Trim(m[2], " ,"), ", ") {
			top, sub, _ := strings.Cut(strings.TrimSpace(name), "/")
			switch {
			case !strings.Contains(source, "\nfunc "+top+"(t *testing.T)"):
				problems = append(problems, fmt.Sprintf("%s has no %s", m[1], top))
			case top == "TestCases":
				if _, err := os.Stat(filepath.Join(m[1], "testdata", sub+".txtar")); err != nil {
					problems = append(problems, err.Error())
				}
			case sub != "" && !strings.Contains(source, `"`+sub+`: `):
				problems = append(problems, fmt.Sprintf("%s has no %s/%s", m[1], top, sub))
			}
		}
	}
	return problems
}

// firsts are the first cells of rows.
func firsts(rows [][]string) []string {
	var out []string
	for _, r := range rows {
		out = append(out, r[0])
	}
	return out
}

// TestAdvisoriesHaveTests: the page names each published advisory about
// generated policy with tests that are there.
func TestAdvisoriesHaveTests(t *testing.T) {
	rows := table(t, "docs/security.md", "advisory", "about", "test")
	var want []string
	for _, n := range []string{"2019-001", "2020-001", "2020-009", "2021-001", "2021-004", "2021-005", "2021-006", "2021-007", "2021-008", "2026-001", "2026-003", "2026-006"} {
		want = append(want, "ISTIO-SECURITY-"+n)
	}
	if got := firsts(rows); !slices.Equal(got, want) {
		t.Errorf("advisories %v, want %v", got, want)
	}
	for _, r := range rows {
		for _, problem := range missing(t, r[2]) {
			t.Errorf("%s: %s", r[0], problem)
		}
	}
}

// tasks are the task pages of Istio's documentation under Security,
// Observability and Policy Enforcement.
var tasks = strings.Fields(`
security/authentication/authn-policy security/authentication/claim-to-header security/authentication/jwt-route
security/authentication/mtls-migration
security/authorization/authz-custom security/authorization/authz-deny security/authorization/authz-dry-run
security/authorization/authz-http security/authorization/authz-ingress security/authorization/authz-jwt
security/authorization/authz-tcp security/authorization/authz-td-migration
security/cert-management/custom-ca-k8s security/cert-management/istio-csr security/cert-management/plugin-ca-cert
security/tls-configuration/workload-min-tls-version
observability/distributed-tracing/jaeger observability/distributed-tracing/mesh-and-proxy-config
observability/distributed-tracing/opentelemetry observability/distributed-tracing/sampling
observability/distributed-tracing/skywalking observability/distributed-tracing/telemetry-api
observability/distributed-tracing/zipkin
observability/gateways observability/kiali
observability/logs/access-log observability/logs/otel-provider observability/logs/telemetry-api
observability/metrics/classify-metrics observability/metrics/customize-metrics observability/metrics/querying-metrics
observability/metrics/tcp-metrics observability/metrics/telemetry-api observability/metrics/using-istio-dashboard
observability/telemetry
policy-enforcement/rate-limit
`)

// withoutExample are the tasks that have none; the page says why.
var withoutExample = []string{"security/cert-management/custom-ca-k8s", "security/cert-management/istio-csr", "observability/kiali"}

// TestTasksHaveExamples: each task page has a line with examples that are
// there, and tests that are there and run them.
func TestTasksHaveExamples(t *testing.T) {
	rows := table(t, "docs/istio-tasks.md", "task", "example", "test")
	if got := firsts(rows); !slices.Equal(got, tasks) {
		t.Errorf("tasks %v, want %v", got, tasks)
	}
	for _, r := range rows {
		if slices.Contains(withoutExample, r[0]) {
			if !strings.HasPrefix(r[1], "none: ") {
				t.Errorf("%s: example %q, want the reason for none", r[0], r[1])
			}
			continue
		}
		for _, problem := range missing(t, r[2]) {
			t.Errorf("%s: %s", r[0], problem)
		}
		links := exampleLink.FindAllStringSubmatch(r[1], -1)
		if links == nil {
			t.Errorf("%s: no example in %q", r[0], r[1])
		}
		for _, m := range links {
			if files, err := filepath.Glob(filepath.Join("examples", m[1], "*.yaml")); err != nil || len(files) == 0 {
				t.Errorf("%s: no example %s", r[0], m[1])
			}
			run := packageTests.FindStringSubmatch(r[2])
			if source := ""; run != nil {
				if source = testsOf(t, run[1]); !strings.Contains(source, `"`+m[1]+`"`) && !strings.Contains(source, "examples/"+m[1]+`"`) {
					t.Errorf("%s: no test of %s names the example %s", r[0], run[1], m[1])
				}
			}
		}
	}
}
