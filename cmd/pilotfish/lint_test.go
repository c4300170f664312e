package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// lint finds nothing wrong with what is right.
func TestLintIsSilentOnExamples(t *testing.T) {
	dirs, err := filepath.Glob("../../examples/[a-z]*")
	if err != nil || len(dirs) < 10 {
		t.Fatalf("%d examples, %v", len(dirs), err)
	}
	for _, dir := range dirs {
		if filepath.Base(dir) == "ci" { // pipelines, and no mesh
			continue
		}
		code, stdout, stderr := run("lint", dir, "--fail-on", "warning", "-o", "json")
		var found struct {
			Findings []struct{ Severity, Message string }
		}
		if err := json.Unmarshal([]byte(stdout), &found); err != nil || code != exitOK || stderr != "" {
			t.Errorf("%s: exit code %d, %v: %s%s", dir, code, err, stdout, stderr)
		}
		for _, f := range found.Findings {
			if f.Severity != "info" || !strings.Contains(f.Message, "Secret") { // the secret is made by a script
				t.Errorf("%s: %s", dir, f.Message)
			}
		}
	}
}

// Nothing is wrong with a part of a mesh but that the rest may be missing.
func TestLintIsSilentOnParts(t *testing.T) {
	files, err := filepath.Glob("testdata/correct/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		for _, f := range findingsOf(t, file) {
			if f.Severity.String() != "info" {
				t.Errorf("%s", f.Problem)
			}
		}
	}
}

// A gateway that is not among the files has the labels of Istio's chart, so that
// policies by any of them are about it.
func TestGatewayElsewhereHasItsPolicies(t *testing.T) {
	for source, want := range map[string]string{"198.51.100.7": "shop/shop", "203.0.113.7": "403: RBAC: no ALLOW policy matches"} {
		_, stdout, stderr := run("ask", "--config", "testdata/correct", "--from", "gateway/shop/front", "--source", source, "http://shop.example.com/")
		if !strings.Contains(stdout, "100 %         "+want) {
			t.Errorf("from %s: want %s: %s%s", source, want, stdout, stderr)
		}
	}
}

// The report of lint is about the whole mesh, and draws it.
func TestLintReport(t *testing.T) {
	code, stdout, stderr := run("lint", "../../examples/bookstore", "-o", "html")
	if code != exitOK || stderr != "" {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for _, want := range []string{
		"<style>", "Nothing found.", `<svg class="graph"`,
		`<g class="edge denied denied" data-from="shop/front" data-to="pci/payments:80"><title>shop/front → payments.pci:80: denied by policies
PeerAuthentication pci/strict (../../examples/bookstore/security.yaml:5)
AuthorizationPolicy pci/payments (../../examples/bookstore/security.yaml:7)`,
		`<th scope="row">gateway/istio-system/istio-ingressgateway</th>`,
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
}

func TestLintFixes(t *testing.T) {
	dir := t.TempDir()
	text := "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a.example.com]\n  htpp:\n  - rout: [{destination: {host: a.example.com}}] # rout\n"
	file := filepath.Join(dir, "a.yaml")
	if err := os.WriteFile(file, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second mistake shows after the first is mended
		_, _, _ = run("lint", dir, "--fix")
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(strings.Replace(text, "htpp:", "http:", 1), "rout:", "route:", 1)
	if string(got) != want {
		t.Errorf("the file is now\n%s", got)
	}
	if info, _ := os.Stat(file); info.Mode().Perm() != 0o640 {
		t.Errorf("its mode is now %v", info.Mode())
	}
}
