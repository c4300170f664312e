package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

const tests = "testdata/tests/"

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
	// Tokens, wherever they are, of issuers whose keys are elsewhere, bare and
	// TLS connections, clients without a sidecar, and an overlay.
	code, stdout, stderr = run("test", "testdata/engines", "--engine", "both")
	if code != exitOK || !strings.Contains(stdout, "7 passed\n") {
		t.Errorf("engines: exit code %d:\n%s%s", code, stdout, stderr)
	}
	code, stdout, stderr = run("test", "testdata/engines", "--engine", "envoy", "-v")
	if code != exitOK || strings.Count(stdout, "\nok ")+strings.Count(stdout[:2], "ok") != 7 {
		t.Errorf("engine envoy alone: exit code %d:\n%s%s", code, stdout, stderr)
	}
	code, stdout, _ = run("test", tests+"failing_test.yaml", "--engine", "envoy", "--run", "must not")
	if code != exitFailure || !strings.Contains(stdout, "it is so: status 301") {
		t.Errorf("exit code %d:\n%s", code, stdout)
	}
}

// What a test file's own configuration is made of is watched, too: an overlay
// elsewhere, and its base.
func TestTestWatchesWhatIsRead(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{
		"base/kustomization.yaml":    "resources: [shop.yaml]\n",
		"overlay/kustomization.yaml": "resources: [../base]\n",
		"tests/shop_test.yaml":       "config: [../overlay]\ntests: [{name: it, from: {workload: client, namespace: shop}, request: {url: \"http://web/\"}, expect: {status: 404}}]\n",
		"base/shop.yaml":             shopAnswering(404),
	}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := startCommand(t, nil, "test", filepath.Join(dir, "tests"), "--watch")
	says(t, c, "1 passed\n")
	if err := replaceFile(filepath.Join(dir, "base", "shop.yaml"), shopAnswering(418), 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, c, "1 failed\n")
	if err := replaceFile(filepath.Join(dir, "base", "kustomization.yaml"), "resources: [tea.yaml]\n", 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, c, "tea.yaml")
	if err := replaceFile(filepath.Join(dir, "base", "tea.yaml"), shopAnswering(404), 0o600); err != nil {
		t.Fatal(err)
	}
	envoytest.Eventually(t, patience, func() string {
		if strings.Count(c.output(), "1 passed\n") < 2 {
			return "not tested again: " + c.output()
		}
		return ""
	})
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	c.wait(t, patience)
}

// shopAnswering is a mesh whose service answers with a status.
func shopAnswering(status int) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec: {hosts: [web], http: [{directResponse: {status: %d}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
spec: {containers: [{name: app, image: example.com/app:1}]}
`, status)
}

// A change is tested again at once, also when it is broken and mended, until
// an interrupt.
func TestTestWatches(t *testing.T) {
	dir := t.TempDir()
	for _, from := range []string{"shop", "tests"} {
		if err := os.CopyFS(filepath.Join(dir, from), os.DirFS(filepath.Join("testdata", from))); err != nil {
			t.Fatal(err)
		}
	}
	routing := filepath.Join(dir, "shop", "routing.yaml")
	text, err := os.ReadFile(routing)
	if err != nil {
		t.Fatal(err)
	}
	put := func(old, now string) {
		t.Helper()
		replaced := strings.Replace(string(text), old, now, 1)
		if err := replaceFile(routing, replaced, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := startCommand(t, nil, "test", dir, "--watch", "--run", "QA")
	says(t, c, "1 passed\n")
	put("timeout: 3s", "timeout: 4s")
	says(t, c, "timeout: want 3s, is 4s")
	says(t, c, "1 failed\n")
	put("timeout: 3s", "timeout: {")
	says(t, c, "could not be run\n")
	put("", "")
	envoytest.Eventually(t, patience, func() string {
		if strings.Count(c.output(), "1 passed\n") < 2 || !strings.HasSuffix(c.output(), "1 passed\n") {
			return "not tested again: " + c.output()
		}
		return ""
	})
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	code := c.wait(t, patience)
	said := regexp.MustCompile(`--- \d\d:\d\d:\d\d`).ReplaceAllString(strings.ReplaceAll(c.output(), dir, "/mesh"), "--- 15:04:05")
	golden(t, "watch.txt", fmt.Sprintf("$ pilotfish test /mesh --watch --run QA\n%s[exit code %d]\n", said, code))
}
