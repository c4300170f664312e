package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
)

// worlds are what transcripts of these names need beside files. Each gives the
// variables that stand for what differs between runs.
var worlds = map[string]func(t *testing.T) map[string]string{
	"cluster": clusterWorld,
	"envoy":   envoyWorld,
	"live":    liveWorld,
	"wait":    waitWorld,
}

// clusterWorld is an API server.
func clusterWorld(t *testing.T) map[string]string {
	return map[string]string{"KUBECONFIG": kubetest.Shared(t).Kubeconfig()}
}

// liveWorld is an API server with an application.
func liveWorld(t *testing.T) map[string]string {
	server := kubetest.Shared(t)
	client := server.Client(t)
	client.InstallCRDs(t)
	objects, err := os.ReadFile("testdata/cli/files/live/cluster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	client.Apply(t, string(objects))
	t.Cleanup(func() { client.Delete(t, string(objects)) })
	return map[string]string{"KUBECONFIG": server.Kubeconfig()}
}

// envoyWorld has two versions of Envoy.
func envoyWorld(t *testing.T) map[string]string {
	return map[string]string{
		"ENVOY": envoytest.Binary(t), "ENVOYS": filepath.Dir(filepath.Dir(envoytest.Old(t))), // VERSION/envoy
	}
}

// waitWorld is a control plane with two proxies, one of which refuses routes.
func waitWorld(t *testing.T) map[string]string {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "web.yaml"), []byte(strings.Replace(waitedFor, "WAIT", "3s", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	c := startServe(t, "--config", dir)
	url, ads := "http://"+logged(c, "serving metrics and debug pages"), logged(c, "serving ADS in plaintext")
	until := func(said ...string) {
		t.Helper()
		envoytest.Eventually(t, patience, func() string {
			_, all, _ := run("wait", "vs/web", "-n", "shop", "--url", url, "--timeout", "1s")
			for _, part := range said {
				if !strings.Contains(all, part) {
					return all
				}
			}
			return ""
		})
	}
	connectProxy(t.Context(), t, ads, "a", func(string) string { return "" })
	until(": 1 of 1 proxy has it")
	connectProxy(t.Context(), t, ads, "b", func(string) string { return "no routes here" })
	until(": 1 of 2 proxies have it", "no routes here")
	return map[string]string{"URL": url}
}
