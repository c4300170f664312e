package agent_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/gzip/compressor/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/compressor/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/pilotfish-mesh/pilotfish/agent"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

func sidecar() agent.Node {
	return agent.Node{
		Type: "sidecar", IPs: []string{"10.1.0.5", "fd00::5"}, Name: "myapp-v1-0", Namespace: "shop",
		DomainSuffix: "cluster.local", Labels: map[string]string{"app": "myapp", "version": "v1"},
		Annotations: map[string]string{"a": "b"}, ServiceAccount: "myapp", ClusterID: "Kubernetes",
		NodeName: "node-1", Network: "net", Workload: "myapp-v1", Interception: "REDIRECT",
		Owner:    agent.Owner{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "myapp-v1"},
		Locality: agent.Locality{Region: "r", Zone: "z", Subzone: "s"}, Ports: map[string]uint32{"http": 8080},
		Local: &agent.LocalAddresses{Outbound: "127.1.0.5", App: "127.2.0.5", PortBase: 10000}, Certificates: true,
	}
}

// The keys and forms are those that Istio's proxies send (the API's
// compatibility table), and what the control plane reads of PILOTFISH_LOCAL.
func TestNodeIsThatOfIstiosProxies(t *testing.T) {
	b := agent.Bootstrap{Node: sidecar(), Discovery: agent.Address{Path: "/run/xds"}, Admin: agent.Address{Path: "/run/admin"}}
	p := message(t, &b)
	if want := "sidecar~10.1.0.5~myapp-v1-0.shop~shop.svc.cluster.local"; p.Node.Id != want {
		t.Errorf("id %s, want %s", p.Node.Id, want)
	}
	want := map[string]any{
		"NAME": "myapp-v1-0", "NAMESPACE": "shop", "LABELS": map[string]any{"app": "myapp", "version": "v1"},
		"ANNOTATIONS": map[string]any{"a": "b"}, "INSTANCE_IPS": "10.1.0.5,fd00::5", "SERVICE_ACCOUNT": "myapp",
		"CLUSTER_ID": "Kubernetes", "NODE_NAME": "node-1", "NETWORK": "net", "WORKLOAD_NAME": "myapp-v1",
		"OWNER":             "kubernetes://apis/apps/v1/namespaces/shop/deployments/myapp-v1",
		"INTERCEPTION_MODE": "REDIRECT", "MESH_ID": "cluster.local",
		"POD_PORTS":              `[{"name":"http","containerPort":8080,"protocol":"TCP"}]`,
		"PILOTFISH_LOCAL":        map[string]any{"outbound": "127.1.0.5", "app": "127.2.0.5", "portBase": 10000.0},
		"PILOTFISH_CERTIFICATES": "true",
	}
	if diff := cmp.Diff(want, p.Node.Metadata.AsMap()); diff != "" {
		t.Error(diff)
	}
	if l := p.Node.Locality; l.Region != "r" || l.Zone != "z" || l.SubZone != "s" {
		t.Errorf("locality %v", l)
	}
}

// message is a bootstrap as Envoy's own type, which must know all of it.
func message(t *testing.T, b *agent.Bootstrap) *bootstrapv3.Bootstrap {
	t.Helper()
	js, err := b.JSON()
	if err != nil {
		t.Fatal(err)
	}
	p := &bootstrapv3.Bootstrap{}
	if err := protojson.Unmarshal(js, p); err != nil {
		t.Fatal(err)
	}
	if err := p.ValidateAll(); err != nil {
		t.Fatal(err)
	}
	return p
}

// Every part of a bootstrap is of the form that Envoy's API has.
func TestBootstrapIsEnvoysMessage(t *testing.T) {
	n := sidecar()
	n.ProxyConfig, n.Metadata = []byte(`{"concurrency":2}`), map[string]any{"OWNER": "kubernetes://x", "NUMBER": 1}
	p := message(t, &agent.Bootstrap{
		Node: n, Discovery: agent.Address{Host: "istiod.istio-system.svc", Port: 15012}, DiscoveryName: "istiod.istio-system.svc",
		Secrets: agent.Address{Path: "/run/sds"}, Agent: agent.Address{Host: "127.0.0.1", Port: 15020},
		Admin: agent.Address{Host: "127.0.0.1", Port: 15000}, DNS: agent.Address{Host: "10.0.0.1", Port: 53}, StaticHost: "::",
		Stats: &agent.StatsMatcher{Prefixes: []string{"server"}, Suffixes: []string{"downstream_cx_active"}, Regexes: []string{"a.*"}},

		FlushStats: 2500 * time.Millisecond, Buckets: []agent.HistogramBuckets{{Prefix: "server.", Bounds: []float64{1, 77}}},
		OutlierLog: "/dev/stdout", CompressStats: true, Statsd: agent.Address{Host: "10.0.0.5", Port: 9125}, Runtime: map[string]any{"a.b": "7"},
		Metrics: &agent.Remote{
			Address: agent.Address{Host: "metrics.example.com", Port: 443}, Keepalive: &agent.Keepalive{Probes: 3},
			TLS: &agent.RemoteTLS{Certificate: "/c.pem", Key: "/k.pem", Authorities: "/ca.pem", Name: "metrics.example.com"},
		},
	})
	if got := p.LayeredRuntime.Layers[0].GetStaticLayer().AsMap()["a.b"]; got != "7" {
		t.Errorf("runtime a.b is %v", got)
	}
	if got := p.ClusterManager.GetOutlierDetection().GetEventLogPath(); got != "/dev/stdout" {
		t.Errorf("outlier detection is logged to %q", got)
	}
	if got := p.GetStatsFlushInterval().AsDuration(); got != 2500*time.Millisecond {
		t.Errorf("statistics are sent every %v", got)
	}
	if n := len(p.StatsSinks); n != 2 {
		t.Errorf("%d sinks of statistics", n)
	}
	md := p.Node.Metadata.AsMap()
	if md["OWNER"] != "kubernetes://x" || md["NUMBER"] != 1.0 {
		t.Errorf("further metadata: %v", md)
	}
	if diff := cmp.Diff(map[string]any{"concurrency": 2.0}, md["PROXY_CONFIG"]); diff != "" {
		t.Error(diff)
	}
	var names []string
	for _, c := range p.StaticResources.Clusters {
		names = append(names, c.Name+" "+c.GetType().String())
	}
	want := []string{"xds-grpc STRICT_DNS", "prometheus_stats STATIC", "sds-grpc STATIC", "agent STATIC", "envoy_metrics_service STRICT_DNS"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	if n := len(p.StatsConfig.StatsMatcher.GetInclusionList().GetPatterns()); n != 3 {
		t.Errorf("%d patterns of statistics", n)
	}
}

// A real Envoy must take it, wait for the control plane before it is ready,
// and answer on its admin socket meanwhile.
func TestEnvoyStartsAndWaitsForConfiguration(t *testing.T) {
	for _, sotw := range []bool{false, true} {
		t.Run(fmt.Sprintf("sotw=%v", sotw), func(t *testing.T) {
			dir, err := os.MkdirTemp("", "b") // short: a socket's path has at most 107 bytes
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			xds, err := net.Listen("unix", filepath.Join(dir, "xds"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = xds.Close() })
			b := agent.Bootstrap{
				Node: sidecar(), Discovery: agent.Address{Path: filepath.Join(dir, "xds")},
				Admin: agent.Address{Path: filepath.Join(dir, "admin")}, StaticHost: "127.77.1.2", StateOfTheWorld: sotw,
			}
			js, err := b.JSON()
			if err != nil {
				t.Fatal(err)
			}
			e := envoytest.Start(t, js)
			conn, err := accept(xds)
			if err != nil {
				t.Fatalf("Envoy did not ask the control plane: %v", err)
			}
			defer conn.Close()
			admin := envoytest.Admin(t, filepath.Join(dir, "admin"))
			envoytest.Eventually(t, 10*time.Second, func() string {
				status, body, err := envoytest.Get(admin, "/ready")
				if err != nil || status != 503 {
					return fmt.Sprintf("/ready: %d %s %v", status, body, err)
				}
				return ""
			})
			_, body, err := envoytest.Get(admin, "/config_dump?mask=bootstrap")
			if err != nil {
				t.Fatal(err)
			}
			if wantAPI := map[bool]string{false: "DELTA_GRPC", true: `"GRPC"`}[sotw]; !strings.Contains(body, wantAPI) {
				t.Errorf("no %s in %s", wantAPI, body)
			}
			if !json.Valid([]byte(body)) {
				t.Errorf("not JSON: %s", body)
			}
			if strings.Contains(e.Log(), "[warning]") || strings.Contains(e.Log(), "[error]") {
				t.Errorf("Envoy complains:\n%s", e.Log())
			}
		})
	}
}

func accept(l net.Listener) (net.Conn, error) {
	_ = l.(*net.UnixListener).SetDeadline(time.Now().Add(10 * time.Second))
	return l.Accept()
}
