package access

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/code"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
)

// authorizer lets in whose path does not hold "refuse", and connections of
// everyone but the guest. It notes whom it was asked about.
type authorizer struct {
	auth.UnimplementedAuthorizationServer
	mu    sync.Mutex
	asked []string
}

// Check implements auth.AuthorizationServer.
func (a *authorizer) Check(_ context.Context, r *auth.CheckRequest) (*auth.CheckResponse, error) {
	path := r.GetAttributes().GetRequest().GetHttp().GetPath()
	a.mu.Lock()
	a.asked = append(a.asked, path)
	a.mu.Unlock()
	if strings.Contains(path, "refuse") || path == "" && strings.HasSuffix(r.GetAttributes().GetSource().GetPrincipal(), "/sa/guest") {
		return &auth.CheckResponse{Status: &rpc.Status{Code: int32(code.Code_PERMISSION_DENIED)}}, nil
	}
	return &auth.CheckResponse{
		Status: &rpc.Status{Code: int32(code.Code_OK)},
		HttpResponse: &auth.CheckResponse_OkResponse{OkResponse: &auth.OkHttpResponse{Headers: []*core.HeaderValueOption{{
			Header: &core.HeaderValue{Key: "x-decided-by", Value: "authorizer"},
		}}}},
	}, nil
}

func (a *authorizer) paths() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.asked...)
}

// TestAuthorizer: CUSTOM policies ask about the requests and connections that
// they name, and about no others; DENY counts besides.
func TestAuthorizer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a, server := &authorizer{}, grpc.NewServer()
	auth.RegisterAuthorizationServer(server, a)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	defer func() { server.Stop(); <-done }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	w := start(t)
	w.Delivered(func() {
		w.Write("authorizer.yaml", fmt.Sprintf(`
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: grpc
      envoyExtAuthzGrpc: {service: authorizer.example.com, port: %[1]s, timeout: 10s}
    - name: away
      envoyExtAuthzGrpc: {service: away.example.com, port: 9, timeout: 1s, statusOnError: "503"}
    - name: lenient
      envoyExtAuthzGrpc: {service: away.example.com, port: 9, timeout: 1s, failOpen: true}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: authorizer, namespace: default}
spec:
  hosts: [authorizer.example.com]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{name: grpc, number: %[1]s, protocol: GRPC}]
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: away, namespace: default}
spec:
  hosts: [away.example.com]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{name: grpc, number: 9, protocol: GRPC}]
  endpoints: [{address: 127.0.0.1}]
`, port))
	})
	custom := func(provider, rules string) string {
		return "\n---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: ask-" + provider +
			", namespace: default}\nspec:\n  selector: {matchLabels: {app: web}}\n  action: CUSTOM\n  provider: {name: " + provider + "}\n  rules: " + rules + "\n"
	}
	w.decide([]theme{
		{"requests", custom("grpc", "[{to: [{operation: {paths: ['/asked*'], ports: ['8080']}}]}]") + policy("DENY", "[{to: [{operation: {paths: ['/asked/secret'], ports: ['8080']}}]}]"), []request{
			{path: "/asked/refuse", want: denied}, {path: "/asked", want: ok}, {path: "/other/refuse", want: ok}, {path: "/asked/secret", want: denied},
		}},
		{"connections", custom("grpc", "[{to: [{operation: {ports: ['9000']}}]}]"), []request{
			{from: "other/guest", bytes: "hi", want: closed}, {bytes: "hi", want: ok}, {path: "/refuse", want: ok},
		}},
		{"nobody answers", custom("away", "[{to: [{operation: {paths: [/asked]}}]}]"), []request{{path: "/asked", want: "503"}, {path: "/", want: ok}}},
		{"nobody answers, and that is fine", custom("lenient", "[{to: [{operation: {paths: [/asked]}}]}]"), []request{{path: "/asked", want: ok}}},
		{"two of them", custom("lenient", "[{to: [{operation: {paths: ['/asked*'], ports: ['8080']}}]}]") + custom("grpc", "[{to: [{operation: {paths: ['/asked*'], ports: ['8080']}}]}]"), []request{
			{path: "/asked/refuse", want: denied}, {path: "/asked", want: ok},
		}},
	})
	for _, p := range a.paths() {
		if p != "" && !strings.HasPrefix(p, "/asked") {
			t.Errorf("asked about %q, which no policy names", p)
		}
	}
}
