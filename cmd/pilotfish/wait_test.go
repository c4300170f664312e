package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

const waitedFor = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: shop}
spec:
  hosts: [web.example.com]
  addresses: [10.9.9.9]
  resolution: STATIC
  ports: [{name: http, number: 80, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web.example.com]
  http: [{timeout: WAIT, route: [{destination: {host: web.example.com}}]}]
`

// connectProxy is a proxy that acknowledges all but routes whose texts refuse
// says why not, until ctx ends.
func connectProxy(ctx context.Context, t *testing.T, address, name string, refuse func(routes string) string) {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*discoveryv3.DeltaDiscoveryRequest{
		{Node: &core.Node{Id: "sidecar~10.0.0.9~" + name + ".shop~shop.svc.cluster.local"}, TypeUrl: translate.ClusterType},
		{TypeUrl: translate.ListenerType}, {TypeUrl: translate.RouteType, ResourceNamesSubscribe: []string{"80"}},
	} {
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		for {
			got, err := stream.Recv()
			if err != nil {
				return
			}
			r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: got.GetTypeUrl(), ResponseNonce: got.GetNonce()}
			if why := refuse(got.String()); got.GetTypeUrl() == translate.RouteType && why != "" {
				r.ErrorDetail = &rpc.Status{Code: 3, Message: why}
			}
			if stream.Send(r) != nil {
				return
			}
		}
	}()
}

// wait ends when all proxies have acknowledged an object, and says who has not
// and why.
func TestWait(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "web.yaml")
	put := func(timeout string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(strings.Replace(waitedFor, "WAIT", timeout, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("3s")
	c := startServe(t, "--config", dir)
	at := "http://" + logged(c, "serving metrics and debug pages")
	expect := func(code int, want string, args ...string) {
		t.Helper()
		got, stdout, stderr := run(append([]string{"wait", "-n", "shop", "--url", at}, args...)...)
		if got != code || !strings.Contains(stdout+stderr, want) {
			t.Errorf("%v: exit code %d, want %d and %q:\n%s%s", args, got, code, want, stdout, stderr)
		}
	}
	expect(exitFailure, "VirtualService shop/web: 0 of 0 proxies have it; no proxy is connected\n", "vs/web", "--timeout", "1s")
	ctx, leave := context.WithCancel(t.Context())
	refuse := func(routes string) string {
		if strings.Contains(routes, "seconds:7") {
			return "seven is too long"
		}
		return ""
	}
	connectProxy(ctx, t, logged(c, "serving ADS in plaintext"), "a", refuse)
	expect(exitOK, "VirtualService shop/web: 1 of 1 proxy has it\n", "vs/web")
	expect(exitOK, "ServiceEntry shop/web: 1 of 1 proxy has it\n", "serviceentries/web", "--acked", "50%")
	put("4s")
	envoytest.Eventually(t, 20*time.Second, func() string {
		if _, body := page(t, at+"/debug/configz"); !strings.Contains(body, `"4s"`) {
			return "not read: " + body
		}
		return ""
	})
	expect(exitOK, "1 of 1 proxy has it\n", "vs/web")

	put("7s")
	envoytest.Eventually(t, 20*time.Second, func() string {
		if _, body := page(t, at+"/debug/problems"); !strings.Contains(body, "seven is too long") {
			return "not rejected: " + body
		}
		return ""
	})
	expect(exitFailure, "VirtualService shop/web: 0 of 1 proxy has it\n  a.shop: proxy sidecar~10.0.0.9~a.shop~shop.svc.cluster.local rejected the rds resource \"80\"", "vs/web", "--timeout", "1s")
	expect(exitFailure, `"done": false`, "vs/web", "--timeout", "1s", "-o", "json")
	expect(exitFailure, "VirtualService shop/other: 0 of 0 proxies have it; the control plane has not read it\n", "vs/other", "--timeout", "1s")
	leave()
	expect(exitFailure, "no proxy is connected", "vs/web", "--timeout", "2s")
	expect(exitUsage, `kind "virtualservic": did you mean "virtualservice"?`, "virtualservic/web")
	expect(exitUsage, `--acked "all": want more than 0% and at most 100%`, "vs/web", "--acked", "all")
	expect(exitUsage, "want KIND/NAME", "web")
	if code, _, stderr := run("wait", "vs/web", "--url", "http://127.0.0.1:1", "--timeout", "1s"); code != exitUsage || !strings.Contains(stderr, "connection refused") {
		t.Errorf("nobody answers: exit code %d, %s", code, stderr)
	}
}

// With a kubeconfig the generation that the API server has is waited for.
func TestWaitForGeneration(t *testing.T) {
	server := kubetest.Shared(t)
	client := server.Client(t)
	client.InstallCRDs(t)
	objects := strings.ReplaceAll(strings.Replace(waitedFor, "WAIT", "3s", 1), "namespace: shop", "namespace: default")
	client.Apply(t, objects)
	t.Cleanup(func() { client.Delete(t, objects) })
	c := startServe(t, "--kubeconfig", server.Kubeconfig())
	at := "http://" + logged(c, "serving metrics and debug pages")
	connectProxy(t.Context(), t, logged(c, "serving ADS in plaintext"), "a", func(string) string { return "" })
	for generation, timeout := range []string{"3s", "4s"} {
		client.Apply(t, strings.ReplaceAll(objects, "timeout: 3s", "timeout: "+timeout))
		code, stdout, stderr := run("wait", "vs/web", "--url", at, "--kubeconfig", server.Kubeconfig())
		want := "VirtualService default/web generation " + string(rune('1'+generation)) + ": 1 of 1 proxy has it\n"
		if code != exitOK || stdout != want {
			t.Errorf("exit code %d, want %q: %s%s", code, want, stdout, stderr)
		}
	}
	code, stdout, _ := run("wait", "vs/web", "--url", at, "--generation", "99", "--timeout", "1s")
	if code != exitFailure || !strings.Contains(stdout, "the control plane has generation 2, not 99 yet") {
		t.Errorf("exit code %d: %s", code, stdout)
	}
}
