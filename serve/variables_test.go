package serve_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/dashboard/report"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/serve"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

const tokenMesh = `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: otel
      opentelemetry:
        service: collector.example.com
        port: 4318
        http: {path: v1/traces, headers: [{name: x-token, envName: TOKEN}, {name: x-none, envName: NONE}]}
    defaultProviders: {tracing: [otel]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: collector, namespace: shop}
spec:
  hosts: [collector.example.com]
  addresses: [10.9.9.9]
  resolution: STATIC
  ports: [{number: 4318, name: http, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1}]
`

// A variable that MeshConfig names goes to the proxies, and to nobody else: not
// into a page, an answer to a tool, a metric, a problem or a log, also when a
// proxy writes it into what it says about a listener that it rejects. No other
// variable is looked at.
func TestVariablesAreHidden(t *testing.T) {
	const secret, onTheWire = `Bearer 100%"s3cr3t`, `Bearer 100%%"s3cr3t`
	const inText = `Bearer 100%%\"s3cr3t` // as protobuf writes it
	ours := newAuthority(t)
	servingCert, servingKey := ours.issue("istiod.istio-system.svc", 10)
	authority, err := serve.NewAuthority(servingCert, servingKey, ours.root())
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "mesh.yaml"), []byte(tokenMesh), 0o600); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var asked []string
	log, logs := observer.New(zap.DebugLevel)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- serve.Run(ctx, serve.Options{
			Config: []string{folder}, XDSAddress: "127.0.0.1:0", SecureXDSAddress: "127.0.0.1:0", Authority: authority, MonitoringAddress: "127.0.0.1:0", HTTPAddress: "127.0.0.1:0", OpenDebug: true, Log: zap.New(log),
			Page: func(mesh func() *config.Mesh) http.Handler {
				live := report.NewLive("control plane", mesh, nil)
				go live.Run(ctx)
				return live
			},
			Environment: func(name string) (string, bool) {
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, name)
				return secret, name == "TOKEN"
			},
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	at := map[string]string{}
	envoytest.Eventually(t, 20*time.Second, func() string {
		for _, l := range logs.All() {
			if addr, ok := l.ContextMap()["address"].(string); ok {
				at[l.Message] = addr
			}
			if strings.HasPrefix(l.Message, "ready: ") {
				return ""
			}
		}
		return "not ready"
	})
	dial := func(address string, creds credentials.TransportCredentials) discoveryv3.AggregatedDiscoveryServiceClient {
		t.Helper()
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
	}
	plaintext := dial(at["serving ADS in plaintext"], insecure.NewCredentials())
	connect := func(client discoveryv3.AggregatedDiscoveryServiceClient, id, with, saying string) {
		t.Helper()
		stream, err := client.DeltaAggregatedResources(t.Context())
		if err == nil {
			err = rejectListeners(stream, id, with, saying)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const id, id2 = "sidecar~10.0.0.9~web.shop~shop.svc.cluster.local", "sidecar~10.0.0.8~web.other~other.svc.cluster.local"
	connect(dial(at["serving ADS over TLS"], ours.client("spiffe://cluster.local/ns/other/sa/web")), id2, "nothing", "")
	connect(dial(at["serving ADS over TLS"], ours.client("spiffe://cluster.local/ns/shop/sa/web")), id, onTheWire, "Proto constraint validation failed: value: \""+inText+"\" and "+onTheWire)
	envoytest.Eventually(t, 20*time.Second, func() string {
		_, problems := get(t, "http://"+at["serving metrics and debug pages"]+"/debug/problems")
		if !strings.Contains(problems, "ProxyRejected") {
			return problems
		}
		_, dump := get(t, "http://"+at["serving metrics and debug pages"]+"/debug/config_dump?proxyID="+id2)
		if !strings.Contains(dump, "x-token") {
			return "the other proxy has no listeners yet"
		}
		return ""
	})

	said := map[string]string{}
	for _, base := range []string{at["serving metrics and debug pages"], at["serving readiness"]} {
		if base == "" {
			t.Fatalf("addresses are %v", at)
		}
		get := func(path string) string {
			t.Helper()
			resp, err := http.Get("http://" + base + path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			said[base+path] = string(b)
			return string(b)
		}
		var pages []string
		if err := json.Unmarshal([]byte(get("/debug/list")), &pages); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{id, id2} {
			for _, page := range pages {
				get("/debug/" + page)
				get("/debug/" + page + "?proxyID=" + id)
				said["ADS "+base+page+id] = inquireOpen(t, plaintext, "istio.io/debug", page+"?proxyID="+id)
			}
			for _, types := range []string{"lds", "cds,rds,eds,lds,ecds,sds,nds", translate.ListenerType} {
				get("/debug/config_dump?proxyID=" + id + "&types=" + types)
			}
		}
		get("/metrics")
		get("/config/")
	}
	said["ADS config_dump"] = inquireOpen(t, plaintext, "istio.io/debug/config_dump", id2)
	said["ADS syncz"] = inquireOpen(t, plaintext, "istio.io/debug/syncz", "")
	for _, l := range logs.All() {
		b, err := json.Marshal(l.ContextMap())
		if err != nil {
			t.Fatal(err)
		}
		said["log: "+l.Message] += l.Message + string(b)
	}
	hiddenForms := []string{"s3cr3t"}
	for shift := range 3 { // in base64 wherever it begins
		form := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + "s3cr3t"))
		hiddenForms = append(hiddenForms, form[2:len(form)-3])
	}
	for where, text := range said {
		for _, form := range hiddenForms {
			if strings.Contains(text, form) {
				t.Errorf("%s shows the value:\n%s", where, text)
			}
		}
	}
	if dump := said[at["serving metrics and debug pages"]+"/debug/config_dump?proxyID="+id2+"&types=lds"]; !strings.Contains(dump, `"x-token"`) || !strings.Contains(dump, "[redacted]") {
		t.Errorf("the dump does not show the header:\n%s", dump)
	}
	if problems := said[at["serving metrics and debug pages"]+"/debug/problems"]; !strings.Contains(problems, "value: \\\"[redacted]\\\" and [redacted]") || !strings.Contains(problems, `is \"NONE\" of provider \"otel\"`) {
		t.Errorf("the problems are:\n%s", problems)
	}
	if got := listenersOf(t, plaintext); !bytes.Contains(got, []byte("collector.example.com")) || bytes.Contains(got, []byte("x-token")) {
		t.Errorf("a proxy that has proven nothing is sent\n%q", got)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, name := range asked {
		if !slices.Contains([]string{"TOKEN", "NONE"}, name) {
			t.Errorf("variable %s was looked up, which nothing names", name)
		}
	}
}

// rejectListeners is a proxy that takes all but listeners with a text in them.
// It ends with its stream.
func rejectListeners(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, id, with, saying string) error {
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &core.Node{Id: id}, TypeUrl: translate.ClusterType}); err != nil {
		return err
	}
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: translate.ListenerType}); err != nil {
		return err
	}
	go func() {
		for {
			got, err := stream.Recv()
			if err != nil {
				return
			}
			answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: got.GetTypeUrl(), ResponseNonce: got.GetNonce()}
			if slices.ContainsFunc(got.GetResources(), func(r *discoveryv3.Resource) bool { return bytes.Contains(r.GetResource().GetValue(), []byte(with)) }) {
				answer.ErrorDetail = &rpc.Status{Code: 3, Message: saying}
			}
			if stream.Send(answer) != nil {
				return
			}
		}
	}()
	return nil
}

// inquireOpen asks as a tool does where everybody may.
func inquireOpen(t *testing.T, client discoveryv3.AggregatedDiscoveryServiceClient, kind, name string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := client.StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	tool := "sidecar~10.0.0.8~tool-" + strconv.FormatUint(uint64(config.NewHasher().Str(kind, name).Sum()), 16) + ".shop~shop.svc.cluster.local"
	r := &discoveryv3.DiscoveryRequest{TypeUrl: kind, Node: &core.Node{Id: tool}}
	if name != "" {
		r.ResourceNames = []string{name}
	}
	if err := s.Send(r); err != nil {
		t.Fatal(err)
	}
	got, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, x := range got.GetResources() {
		b.Write(x.GetValue())
	}
	return b.String()
}

// listenersOf are those of a proxy of another class than the others.
func listenersOf(t *testing.T, client discoveryv3.AggregatedDiscoveryServiceClient) []byte {
	t.Helper()
	s, err := client.StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id := "sidecar~10.0.0.7~web.shop~shop.svc.cluster.local"
	for _, kind := range []string{translate.ClusterType, translate.ListenerType} {
		if err := s.Send(&discoveryv3.DiscoveryRequest{TypeUrl: kind, Node: &core.Node{Id: id}}); err != nil {
			t.Fatal(err)
		}
	}
	for {
		got, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got.GetTypeUrl() != translate.ListenerType {
			if err := s.Send(&discoveryv3.DiscoveryRequest{TypeUrl: got.GetTypeUrl(), VersionInfo: got.GetVersionInfo(), ResponseNonce: got.GetNonce()}); err != nil {
				t.Fatal(err)
			}
			continue
		}
		var all []byte
		for _, r := range got.GetResources() {
			all = append(all, r.GetValue()...)
		}
		return all
	}
}
