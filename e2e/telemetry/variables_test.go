package telemetry

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// tokens are the values of header x-token in what collectors get, by where.
type tokens struct {
	mu sync.Mutex
	at map[string][]string
}

func (k *tokens) got(where string, values []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at[where] = values
}

func (k *tokens) of(where string) (values []string, any bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	values, any = k.at[where]
	return values, any
}

const variableMesh = `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: otlp-http
      opentelemetry: {service: collector.example.com, port: 9411, http: {path: /v1/traces, headers: [{name: x-token, envName: TOLD}]}}
    - name: otlp-grpc
      opentelemetry: {service: collector.example.com, port: 4317, grpc: {initialMetadata: [{name: x-token, envName: TOLD}]}}
    - name: zipkin
      zipkin: {service: collector.example.com, port: 9411, headers: [{name: x-token, envName: TOLD}]}
    - name: untold
      opentelemetry: {service: collector.example.com, port: 9411, http: {path: /untold, headers: [{name: x-token, envName: UNTOLD}]}}
    defaultProviders: {tracing: [PROVIDER]}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: default}
spec: {tracing: [{randomSamplingPercentage: 100}]}
`

// Collectors get a header with a variable's value as it is, by every protocol;
// of a variable that up was not told to take they get its name.
func TestHeadersOfVariables(t *testing.T) {
	const value = `Bearer 100%DOWNSTREAM_REMOTE_ADDRESS% "x"`
	t.Setenv("TOLD", value)
	t.Setenv("UNTOLD", "nobody's business")
	seen := &tokens{at: map[string][]string{}}
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen.got(r.URL.Path, r.Header["X-Token"]) }))
	defer web.Close()
	at, err := url.Parse(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(s.Context())
		method, _ := grpc.MethodFromServerStream(s)
		seen.got(method, md.Get("x-token"))
		return s.SendMsg(&[]byte{})
	}))
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	defer func() { server.Stop(); <-done }()

	dir := stage.Copy(t, "testdata")
	b, err := os.ReadFile(filepath.Join(dir, "mesh.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("OTLP", strconv.Itoa(portOf(t, l.Addr().String())), "ZIPKIN", strconv.Itoa(portOf(t, at.Host))).Replace(string(b)) + "---" + variableMesh
	write := func(provider string) {
		stage.Write(t, filepath.Join(dir, "mesh.yaml"), strings.Replace(text, "PROVIDER", provider, 1))
	}
	write("otlp-http")
	s := stage.StartWith(t, dir, up.Options{Mode: up.Loopback, Environment: []string{"TOLD"}})
	caller := s.Inside("curl", "http://web:8080")
	for _, c := range []struct{ provider, where, want string }{
		{"otlp-http", "/v1/traces", value},
		{"otlp-grpc", "/opentelemetry.proto.collector.trace.v1.TraceService/Export", value},
		{"zipkin", "/api/v2/spans", value},
		{"untold", "/untold", "[variable UNTOLD of the control plane]"},
	} {
		t.Run(c.provider, func(t *testing.T) {
			if c.provider != "otlp-http" {
				s.Delivered(func() { write(c.provider) })
			}
			envoytest.Eventually(t, stage.Patience, func() string {
				caller.Get(t, "/traced")
				got, any := seen.of(c.where)
				if !any {
					return fmt.Sprintf("nothing has come to %s", c.where)
				}
				if len(got) != 1 || got[0] != c.want {
					t.Errorf("x-token is %q, want %q", got, c.want)
				}
				return ""
			})
		})
	}
}
