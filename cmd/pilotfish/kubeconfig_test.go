package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
)

// A live cluster is read like a folder, alone and together with one.
func TestKubeconfig(t *testing.T) {
	server := kubetest.Shared(t)
	client := server.Client(t)
	client.InstallCRDs(t)
	const objects = `apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec: {selector: {app: reviews}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http: [{name: all, route: [{destination: {host: reviews, subset: v7}}]}]
`
	client.Apply(t, objects)
	t.Cleanup(func() { client.Delete(t, objects) })
	t.Chdir(t.TempDir()) // nothing is read but the cluster
	code, stdout, stderr := run("lint", "--kubeconfig", server.Kubeconfig())
	if code != exitFailure || !strings.Contains(stdout, "VirtualService default/reviews") || !strings.Contains(stdout, "SubsetNotFound, IST0101") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	// What the folder adds mends it, and a workload of it can ask.
	const more = `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec: {host: reviews, subsets: [{name: v7, labels: {version: v7}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default, labels: {app: web}}
spec: {containers: [{name: app, image: example.com/app:1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-v7, namespace: default, labels: {app: reviews, version: v7}}
spec: {containers: [{name: app, image: example.com/app:1}]}
`
	if err := os.Mkdir("more", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("more", "more.yaml"), []byte(more), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr = run("lint", "more", "--kubeconfig", server.Kubeconfig())
	if strings.Contains(stdout, "SubsetNotFound") || code == exitUsage {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	code, stdout, stderr = run("ask", "--from", "web", "http://reviews/", "--config", "more", "--kubeconfig", server.Kubeconfig())
	if code != exitOK || !strings.Contains(stdout, "outbound|80|v7|reviews.default.svc.cluster.local 100 %") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	for _, c := range []struct{ kubeconfig, says string }{
		{"missing", "pilotfish: --kubeconfig: stat missing: no such file or directory"},
		{"more/more.yaml", "pilotfish: --kubeconfig: "},
	} {
		if code, _, stderr := run("ask", "--from", "web", "http://reviews/", "--kubeconfig", c.kubeconfig); code != exitUsage || !strings.HasPrefix(stderr, c.says) {
			t.Errorf("%s: exit code %d: %s", c.kubeconfig, code, stderr)
		}
	}
}
