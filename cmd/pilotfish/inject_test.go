package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
)

const toInject = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {template: {metadata: {labels: {app: web}}, spec: {containers: [{name: app, image: a}]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: host}
spec: {hostNetwork: true, containers: [{name: app, image: a}]}
`

const injectorSettings = `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio-sidecar-injector, namespace: istio-system}
data:
  values: "global: {hub: example.com/own, tag: v5}"
`

// The command's settings are those of nothing, of a folder, or of a cluster.
func TestInject(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	input := write("deployment.yaml", toInject)
	write("mesh/settings.yaml", injectorSettings)
	for name, c := range map[string]struct {
		flags []string
		image string
	}{
		"nothing":  {nil, "docker.io/pilotfish/pilotfish-proxy:latest"},
		"a folder": {[]string{"--config", filepath.Join(dir, "mesh")}, "example.com/own/pilotfish-proxy:v5"},
	} {
		t.Run(name, func(t *testing.T) { injectsWith(t, input, c.flags, c.image) })
	}
	t.Run("a cluster", func(t *testing.T) {
		server := kubetest.Shared(t)
		client := server.Client(t)
		settings := strings.Replace(injectorSettings, "v5", "v6", 1)
		client.Apply(t, settings)
		t.Cleanup(func() { client.Delete(t, settings) })
		injectsWith(t, input, []string{"--kubeconfig", server.Kubeconfig()}, "example.com/own/pilotfish-proxy:v6")
	})
	// Twice is once.
	_, once, _ := run("inject", "-f", input)
	_, twice, _ := run("inject", "-f", write("once.yaml", once))
	if once != twice {
		t.Errorf("the second time: %s", twice)
	}
}

func injectsWith(t *testing.T, input string, flags []string, image string) {
	t.Helper()
	code, stdout, stderr := run(append([]string{"inject", "-f", input}, flags...)...)
	if code != exitOK || strings.Count(stdout, "image: "+image+"\n") != 2 {
		t.Errorf("exit code %d, wrote %s %s", code, stdout, stderr)
	}
	if want := input + ":6: Pod host is left as it is: it uses the host's network, whose traffic must not be redirected\n"; stderr != want {
		t.Errorf("said %q, want %q", stderr, want)
	}
}
