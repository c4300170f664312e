package main

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

const tests = "testdata/tests/"

// What test says in each of its ways is read as a whole: the files under
// testdata/test.
func TestTest(t *testing.T) {
	for name, c := range map[string]struct {
		code int
		args []string
	}{
		"passed":      {exitOK, []string{tests + "shop_test.yaml", "-v"}},
		"short":       {exitOK, []string{tests + "shop_test.yaml"}},
		"run":         {exitOK, []string{"testdata/tests", "--run", "^by path/", "-v"}},
		"failed":      {exitFailure, []string{tests + "failing_test.yaml"}},
		"markdown":    {exitFailure, []string{tests + "failing_test.yaml", "-o", "markdown"}},
		"github":      {exitFailure, []string{tests + "failing_test.yaml", "-o", "github"}},
		"cover":       {exitOK, []string{tests + "shop_test.yaml", "--cover"}},
		"annotate":    {exitOK, []string{"testdata/annotate", "--annotate"}},
		"under":       {exitFailure, []string{tests + "shop_test.yaml", "--run", "QA", "--fail-under", "80"}},
		"mutate":      {exitFailure, []string{tests + "shop_test.yaml", "--mutate"}},
		"broken":      {exitUsage, []string{"testdata/tests-broken"}},
		"none":        {exitUsage, []string{"testdata/shop"}},
		"validator":   {exitOK, []string{"testdata/validator", "-v"}},
		"no-such-run": {exitUsage, []string{"testdata/tests", "--run", "nothing like this"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := run(append([]string{"test"}, c.args...)...)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			golden(t, "test/"+name+".txt", "$ pilotfish test "+strings.Join(c.args, " ")+"\n"+stdout+stderr)
		})
	}
}

func TestTestReports(t *testing.T) {
	_, stdout, _ := run("test", "testdata/tests", "-o", "junit")
	var suites struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Suites   []struct {
			Name  string `xml:"name,attr"`
			Cases []struct {
				Name    string `xml:"name,attr"`
				Failure *struct {
					Message string `xml:"message,attr"`
				} `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal([]byte(stdout), &suites); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	if suites.Tests != 11 || suites.Failures != 3 || len(suites.Suites) != 2 || suites.Suites[0].Cases[0].Failure == nil {
		t.Errorf("JUnit report: %+v", suites)
	}
	_, stdout, _ = run("test", "testdata/tests", "-o", "json", "--cover")
	var data struct {
		Passed, Failed int
		Coverage       struct{ Percent float64 }
	}
	if err := json.Unmarshal([]byte(stdout), &data); err != nil {
		t.Fatal(err)
	}
	if data.Passed != 8 || data.Failed != 3 || data.Coverage.Percent < 50 {
		t.Errorf("JSON report: %+v", data)
	}
}

// Both engines agree on the shop: weights, faults, redirects, rewrites, and
// mutual TLS by real requests.
func TestTestBothEngines(t *testing.T) {
	t.Setenv("ENVOY", envoytest.Binary(t))
	code, stdout, stderr := run("test", tests+"shop_test.yaml", "--engine", "both", "-v")
	if code != exitOK || !strings.Contains(stdout, "8 passed\n") {
		t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	code, stdout, stderr = run("test", "../../examples/bookstore", "--engine", "both")
	if code != exitOK || !strings.Contains(stdout, "9 passed\n") {
		t.Errorf("bookstore: exit code %d:\n%s%s", code, stdout, stderr)
	}
	code, stdout, _ = run("test", tests+"failing_test.yaml", "--engine", "envoy", "--run", "must not")
	if code != exitFailure || !strings.Contains(stdout, "it is so: status 301") {
		t.Errorf("exit code %d:\n%s", code, stdout)
	}
}

// A change is tested again at once.
func TestTestWatches(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "shop"), os.DirFS(shop)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "tests"), os.DirFS("testdata/tests")); err != nil {
		t.Fatal(err)
	}
	c := startCommand(t, nil, "test", dir, "--watch", "--run", "QA")
	envoytest.Eventually(t, 20*time.Second, func() string {
		if !strings.Contains(c.output(), "1 passed") {
			return "not tested: " + c.output()
		}
		return ""
	})
	routing := filepath.Join(dir, "shop", "routing.yaml")
	b, err := os.ReadFile(routing)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(routing, []byte(strings.Replace(string(b), "timeout: 3s", "timeout: 4s", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	envoytest.Eventually(t, 20*time.Second, func() string {
		if !strings.Contains(c.output(), "timeout: want 3s, is 4s") {
			return "not tested again: " + c.output()
		}
		return ""
	})
}
