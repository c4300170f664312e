package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/retry"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
)

// worlds are what transcripts of these names need beside files. Each gives the
// variables that stand for what differs between runs.
var worlds = map[string]func(t *testing.T) map[string]string{
	"cluster": clusterWorld,
	"envoy":   envoyWorld,
	"install": installWorld,
	"verify":  verifyWorld,
	"live":    liveWorld,
	"running": runningWorld,
	"sources": sourcesWorld,
	"wait":    waitWorld,
}

// clusterWorld is an API server of its own: nothing is in it, not even the CRDs
// that other tests leave in the shared one.
func clusterWorld(t *testing.T) map[string]string {
	return map[string]string{"KUBECONFIG": kubetest.Start(t).Kubeconfig()}
}

// installWorld is an API server of its own, because it is installed to, with
// another's control plane of revision foreign. Nothing runs pods in it.
func installWorld(t *testing.T) map[string]string {
	server := kubetest.Start(t)
	server.Client(t).Apply(t, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: istiod-foreign, namespace: istio-system, labels: {app: istiod}}
spec:
  selector: {matchLabels: {app: istiod}}
  template:
    metadata: {labels: {app: istiod}}
    spec: {containers: [{name: discovery, image: docker.io/istio/pilot:1.27.0}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/rev: prod}}
---
apiVersion: v1
kind: Namespace
metadata: {name: web, labels: {istio.io/rev: prod}}
`)
	return map[string]string{"KUBECONFIG": server.Kubeconfig()}
}

// liveWorld is an API server with an application.
func liveWorld(t *testing.T) map[string]string { return worldOf(t, "live/cluster.yaml") }

// runningWorld is one with a Deployment's pods and what leads to them.
func runningWorld(t *testing.T) map[string]string { return worldOf(t, "running/cluster.yaml") }

// worldOf is an API server with the objects of a file.
func worldOf(t *testing.T, name string) map[string]string {
	server := kubetest.Shared(t)
	client := server.Client(t)
	client.InstallCRDs(t)
	objects, err := os.ReadFile(filepath.Join("testdata/cli/files", name))
	if err != nil {
		t.Fatal(err)
	}
	client.Apply(t, string(objects))
	t.Cleanup(func() { client.Delete(t, string(objects)) })
	return map[string]string{"KUBECONFIG": server.Kubeconfig()}
}

// sourcesWorld is that, and Helm.
func sourcesWorld(t *testing.T) map[string]string {
	world := liveWorld(t)
	world["HELM"] = kubetest.Binary(t, "helm")
	return world
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

// verifyWorld is an API server with an installation that works. What it misses
// stands in: a process for the pods, the statuses and the EndpointSlice that
// controllers and a kubelet would write, and the process's address in the
// webhooks, because nothing leads to addresses of Services.
func verifyWorld(t *testing.T) map[string]string {
	t.Setenv("HOME", t.TempDir()) // for what clients remember of an API server
	server := kubetest.Start(t)
	if code, _, stderr := run("install", "--timeout", "0s", "--kubeconfig", server.Kubeconfig()); code != exitOK {
		t.Fatal(stderr)
	}
	client := server.Client(t)
	for name, replicas := range map[string]int64{"istiod": 2, "istio-ingressgateway": 1} {
		changeObject(t, client, schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}, "istio-system", name,
			func(o map[string]any) {
				o["status"] = map[string]any{
					"observedGeneration": int64(100), "replicas": replicas, "updatedReplicas": replicas,
					"readyReplicas": replicas, "availableReplicas": replicas,
				}
			}, "status")
	}
	client.Apply(t, `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: istiod-1, namespace: istio-system, labels: {kubernetes.io/service-name: istiod}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]
`)
	webhooks := fmt.Sprintf("localhost:%d", envoytest.FreePort(t))
	for kind, name := range map[string]string{"mutatingwebhookconfigurations": "istio-sidecar-injector", "validatingwebhookconfigurations": "istio-validator-istio-system"} {
		r := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: kind}
		changeObject(t, client, r, "", name, func(o map[string]any) {
			for _, hook := range o["webhooks"].([]any) {
				config := hook.(map[string]any)["clientConfig"].(map[string]any)
				path := config["service"].(map[string]any)["path"].(string)
				config["url"] = "https://" + webhooks + path
				delete(config, "service")
			}
		})
	}
	startServe(t, "--kubeconfig", server.Kubeconfig(), "--read-only=false", "--identity", "istiod-1", "--webhook-address", webhooks)
	return map[string]string{"KUBECONFIG": server.Kubeconfig()}
}

// changeObject writes an object again until nobody has written it in between.
func changeObject(t *testing.T, client *kubetest.Client, r schema.GroupVersionResource, namespace, name string, change func(map[string]any), subresources ...string) {
	t.Helper()
	objects := client.Resource(r, namespace)
	if err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		o, err := objects.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(o.Object)
		_, err = objects.Update(t.Context(), o, metav1.UpdateOptions{}, subresources...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
