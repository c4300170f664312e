package access

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// authorizer decides by the path: "refuse" in it is refused with words of its
// own, "fail" is an error of its, "slow" is not answered, and all else is let
// in with changes. Connections of everyone but the guest are let in. It notes
// what it was asked.
type authorizer struct {
	auth.UnimplementedAuthorizationServer
	mu    sync.Mutex
	asked []*auth.AttributeContext
	end   chan struct{}
}

func added(key, value string) *core.HeaderValueOption {
	return &core.HeaderValueOption{
		Header: &core.HeaderValue{Key: key, Value: value}, AppendAction: core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// Check implements auth.AuthorizationServer.
func (a *authorizer) Check(ctx context.Context, r *auth.CheckRequest) (*auth.CheckResponse, error) {
	path := r.GetAttributes().GetRequest().GetHttp().GetPath()
	a.mu.Lock()
	a.asked = append(a.asked, r.GetAttributes())
	a.mu.Unlock()
	switch {
	case strings.Contains(path, "slow"):
		select {
		case <-ctx.Done():
		case <-a.end:
		}
		return nil, status.Error(codes.Unavailable, "too late")
	case strings.Contains(path, "fail"):
		return nil, status.Error(codes.Internal, "no decision")
	case strings.Contains(path, "refuse"):
		return &auth.CheckResponse{
			Status: &rpc.Status{Code: int32(codes.PermissionDenied)},
			HttpResponse: &auth.CheckResponse_DeniedResponse{DeniedResponse: &auth.DeniedHttpResponse{
				Status:  &typev3.HttpStatus{Code: typev3.StatusCode_Unauthorized},
				Headers: []*core.HeaderValueOption{added("x-why", "not-today")}, Body: "the authorizer's words",
			}},
		}, nil
	case path == "" && strings.HasSuffix(r.GetAttributes().GetSource().GetPrincipal(), "/sa/guest"):
		return &auth.CheckResponse{Status: &rpc.Status{Code: int32(codes.PermissionDenied)}}, nil
	}
	return &auth.CheckResponse{
		Status: &rpc.Status{Code: int32(codes.OK)},
		HttpResponse: &auth.CheckResponse_OkResponse{OkResponse: &auth.OkHttpResponse{
			Headers:              []*core.HeaderValueOption{added("x-decided", "by-the-authorizer"), added("x-route", "other")},
			HeadersToRemove:      []string{"x-secret"},
			ResponseHeadersToAdd: []*core.HeaderValueOption{added("x-told", "the-client")},
		}},
	}, nil
}

// told is what the authorizer was asked about a path at last, nil if it was not.
func (a *authorizer) told(path string) *auth.AttributeContext_HttpRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, asked := range slices.Backward(a.asked) {
		if r := asked.GetRequest().GetHttp(); r.GetPath() == path {
			return r
		}
	}
	return nil
}

func (a *authorizer) paths() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for _, asked := range a.asked {
		out = append(out, asked.GetRequest().GetHttp().GetPath())
	}
	return out
}

// startAuthorizer runs one until the test ends and returns its port.
func startAuthorizer(t *testing.T) (a *authorizer, port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a = &authorizer{end: make(chan struct{})}
	server := grpc.NewServer()
	auth.RegisterAuthorizationServer(server, a)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { close(a.end); server.Stop(); <-done })
	_, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return a, port
}

// TestAuthorizer: CUSTOM policies ask about the requests and connections that
// they name, and about no others; DENY counts besides.
func TestAuthorizer(t *testing.T) {
	a, port := startAuthorizer(t)
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
			{path: "/asked/refuse", want: unauthenticated}, {path: "/asked", want: ok}, {path: "/other/refuse", want: ok}, {path: "/asked/secret", want: denied},
		}},
		{"connections", custom("grpc", "[{to: [{operation: {ports: ['9000']}}]}]"), []request{
			{from: "other/guest", bytes: "hi", want: closed}, {bytes: "hi", want: ok}, {path: "/refuse", want: ok},
		}},
		{"nobody answers", custom("away", "[{to: [{operation: {paths: [/asked], ports: ['8080']}}]}]"), []request{{path: "/asked", want: "503"}, {path: "/", want: ok}, {bytes: "hi", want: ok}}},
		{"nobody answers, and that is fine", custom("lenient", "[{to: [{operation: {paths: [/asked], ports: ['8080']}}]}]"), []request{{path: "/asked", want: ok}}},
		{"nobody answers about connections", custom("away", "[{to: [{operation: {ports: ['9000']}}]}]"), []request{{bytes: "hi", want: closed}, {want: ok}}},
		{"nobody answers about connections, and that is fine", custom("lenient", "[{to: [{operation: {ports: ['9000']}}]}]"), []request{{bytes: "hi", want: ok}, {from: "other/guest", bytes: "hi", want: ok}}},
		{"two of them", custom("lenient", "[{to: [{operation: {paths: ['/asked*'], ports: ['8080']}}]}]") + custom("grpc", "[{to: [{operation: {paths: ['/asked*'], ports: ['8080']}}]}]"), []request{
			{path: "/asked/refuse", want: unauthenticated}, {path: "/asked", want: ok},
		}},
	})
	for _, p := range a.paths() {
		if p != "" && !strings.HasPrefix(p, "/asked") {
			t.Errorf("asked about %q, which no policy names", p)
		}
	}
}

// TestGRPCAuthorizer: every setting of a gRPC provider, and what its answers
// may change, seen from all three sides: the client, the authorizer, and the
// application.
func TestGRPCAuthorizer(t *testing.T) {
	a, port := startAuthorizer(t)
	about := fmt.Sprintf(askAbout, "app: web", "8080")
	w := start(t)
	with := func(settings string, requests ...request) {
		w.decide([]theme{{settings, provider("envoyExtAuthzGrpc", port, settings) + about, requests}})
	}
	const long = "0123456789abcdef"
	with("timeout: 10s",
		request{path: "/ask/1?q=1", header: "X-A: one\nX-Decided: forged\nX-Secret: mine", method: "POST", body: "hello", want: ok, seen: `"X-Decided":["by-the-authorizer"]`, unseen: "forged"},
		request{path: "/ask/2", header: "X-Secret: mine", want: ok, seen: "x-told: the-client", unseen: "X-Secret"},
		request{path: "/ask/refuse", want: unauthenticated, seen: "x-why: not-today"}, request{path: "/ask/refuse", want: unauthenticated, seen: "the authorizer's words", unseen: "x-told"},
		request{path: "/ask/fail", want: denied}, request{path: "/other/refuse", want: ok, unseen: "by-the-authorizer"}, request{bytes: "hello there", want: ok},
	)
	if r := a.told("/ask/1?q=1"); r.GetMethod() != "POST" || r.GetHost() != "web" || r.GetHeaders()["x-a"] != "one" || r.GetBody() != "" {
		t.Errorf("the authorizer was told %v", r)
	}
	if a.told("/other/refuse") != nil {
		t.Error("the authorizer was asked about what no policy names")
	}
	// Of a body so much is asked about, and all of it reaches the application.
	with("includeRequestBodyInCheck: {maxRequestBytes: 10, allowPartialMessage: true}", request{path: "/ask/partial", method: "POST", body: long, want: ok, seen: `"bodyBytes":16`})
	if r := a.told("/ask/partial"); r.GetBody() != long[:10] || r.GetHeaders()["x-envoy-auth-partial-body"] != "true" {
		t.Errorf("the authorizer was told %v", r)
	}
	with("includeRequestBodyInCheck: {maxRequestBytes: 10}", request{path: "/ask/long", method: "POST", body: long, want: "413"}, request{path: "/ask/short", method: "POST", body: long[:5], want: ok, seen: `"bodyBytes":5`})
	if r := a.told("/ask/short"); r.GetBody() != long[:5] || a.told("/ask/long") != nil {
		t.Errorf("the authorizer was told %v and %v", r, a.told("/ask/long"))
	}
	with("includeRequestBodyInCheck: {maxRequestBytes: 100, packAsBytes: true}", request{path: "/ask/bytes", method: "POST", body: "a\xff", want: ok})
	if r := a.told("/ask/bytes"); string(r.GetRawBody()) != "a\xff" || r.GetBody() != "" {
		t.Errorf("the authorizer was told %v", r)
	}
	with("timeout: 0.2s, statusOnError: '503'",
		request{path: "/ask/slow", want: "503"}, request{path: "/ask/fail", want: "503"}, request{path: "/ask/refuse", want: unauthenticated}, request{path: "/ask/3", want: ok})
	with("timeout: 0.2s, failOpen: true",
		request{path: "/ask/slow", want: ok}, request{path: "/ask/fail", want: ok}, request{path: "/ask/refuse", want: unauthenticated})
}
