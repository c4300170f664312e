package serve_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/pilotfish-mesh/pilotfish/agent"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
	"github.com/pilotfish-mesh/pilotfish/serve"
)

// shopMesh has a workload with a route, so that an Envoy has something of every
// type.
const shopMesh = twoPods + `
---
{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: istio-system}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: shop}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {selector: {app: web}, ports: [{name: http, port: 80}]}}
`

// istioctl is Istio's own command line, told where a replica is.
func (r *replica) istioctl(kubeconfig string, args ...string) (string, error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, kubetest.Binary(r.t, "istioctl"), append(args, "--kubeconfig", kubeconfig)...)
	cmd.Env = append(os.Environ(), "HOME="+r.t.TempDir())
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("istioctl %s: %w: %s", strings.Join(args, " "), err, problems.String())
	}
	return out.String(), nil
}

// runEnvoy is an Envoy that takes a replica for its control plane. It returns
// its admin interface, once it has its configuration.
func runEnvoy(t *testing.T, discovery string) *http.Client {
	t.Helper()
	at, err := netip.ParseAddrPort(discovery)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "admin")
	b := agent.Bootstrap{
		Node: agent.Node{
			Type: "sidecar", IPs: []string{"127.0.0.11"}, Name: "web-1", Namespace: "shop", DomainSuffix: "cluster.local",
			ServiceAccount: "web", ClusterID: "Kubernetes", Interception: "NONE",
			Local: &agent.LocalAddresses{Outbound: "127.0.0.211", App: "127.0.0.212", PortBase: 20000},
		},
		Discovery: agent.Address{Host: at.Addr().String(), Port: uint32(at.Port())}, Admin: agent.Address{Path: socket},
	}
	js, err := b.JSON()
	if err != nil {
		t.Fatal(err)
	}
	envoytest.Start(t, js)
	admin := envoytest.Admin(t, socket)
	envoytest.Eventually(t, 30*time.Second, func() string {
		code, body, err := envoytest.Get(admin, "/ready")
		if err != nil || code != http.StatusOK {
			return fmt.Sprintf("%d %s %v", code, body, err)
		}
		return ""
	})
	return admin
}

// Istio's own command line shows how far the proxies are, and that an Envoy has
// what it was sent.
func TestIstioctl(t *testing.T) {
	s := kubetest.Shared(t)
	s.Client(t).Apply(t, shopMesh)
	r := startReplica(t, s, func(o *serve.Options) {
		o.Identity, o.Build = "pilotfish-1", serve.Build{Version: "v9.8.7", Go: "go1.99"}
	}).ready()
	admin := runEnvoy(t, r.at["serving ADS in plaintext"])
	// An Envoy with Istio's agent waits for its certificates; this one has none.
	hold(t, r.dial("shop", "127.0.0.99", nil), r.token("shop", "web", "", "istio-ca"), "shop")
	_, dump, err := envoytest.Get(admin, "/config_dump")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dump.json")
	if err := os.WriteFile(file, []byte(dump), 0o600); err != nil {
		t.Fatal(err)
	}
	id := "sidecar~127.0.0.11~web-1.shop~shop.svc.cluster.local"
	for name, c := range map[string]struct {
		args  []string
		wants []string
	}{
		"proxy-status": {[]string{"proxy-status"}, []string{id, "Kubernetes", "pilotfish-1", "(CDS,LDS,EDS,RDS)", "~held.shop~", "1.31.0"}},
		"ps, every type": {[]string{"ps", "-v", "1"}, []string{
			id, "CDS", "LDS", "EDS", "RDS", "SYNCED (",
		}},
		"ps of another namespace": {[]string{"ps", "-n", "elsewhere"}, []string{"NAME"}},
		"ps as JSON": {[]string{"ps", "-o", "json"}, []string{
			`"identifier": "{\"Component\":\"pilotfish\",\"ID\":\"pilotfish-1\"`, `"configStatus": "SYNCED"`,
		}},
		"ps of a pod": {[]string{"ps", "web-1.shop", "--file", file}, []string{"Clusters Match", "Listeners Match", "Routes Match"}},
		"version":     {[]string{"x", "version"}, []string{"control plane version: v9.8.7", "data plane version: ", "1.31.0 (1 proxies)"}},
		"syncz":       {[]string{"x", "internal-debug", "syncz"}, []string{`"proxy": "` + id + `"`, `"istio_version": "1.31.0"`}},
		"endpoints of a proxy": {[]string{"x", "internal-debug", "edsz?proxyID=web-1.shop"}, []string{
			"envoy.config.endpoint.v3.ClusterLoadAssignment", "outbound|80||web.shop.svc.cluster.local",
		}},
		"a proxy of elsewhere": {[]string{"x", "internal-debug", "config_dump?proxyID=none.shop"}, []string{
			"Proxy not connected to this Pilot instance.",
		}},
		"clusters of a dump":  {[]string{"proxy-config", "clusters", "--file", file}, []string{"web.shop.svc.cluster.local", "outbound", "EDS", "PassthroughCluster"}},
		"listeners of a dump": {[]string{"proxy-config", "listeners", "--file", file}, []string{"127.0.0.211", "Route: 80"}},
		"routes of a dump":    {[]string{"proxy-config", "routes", "--file", file}, []string{"web.shop.svc.cluster.local:80", "web.shop.svc.cluster.local., web"}},
		"pages":               {[]string{"x", "internal-debug", "--list"}, []string{`"syncz"`, `"config_dump"`, `"connections"`}},
		"an unknown page":     {[]string{"x", "internal-debug", "nonsense"}, []string{"please check all supported internal debug commands", `"syncz"`}},
	} {
		t.Run(name, func(t *testing.T) {
			args := c.args
			if args[0] != "proxy-config" {
				args = append(args, "--timeout", "10s", "--xds-address", r.at["serving ADS over TLS"])
			}
			out, err := r.istioctl(s.Kubeconfig(), args...)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range c.wants {
				if !strings.Contains(out, want) {
					t.Errorf("lacks %q:\n%s", want, out)
				}
			}
		})
	}
	t.Run("in plaintext", func(t *testing.T) {
		_, err := r.istioctl(s.Kubeconfig(), "ps", "--plaintext", "--timeout", "5s", "--xds-address", r.at["serving ADS in plaintext"])
		if err == nil || !strings.Contains(err.Error(), "Unauthenticated") {
			t.Errorf("a client that has proven nothing: %v", err)
		}
	})
}

// Debug information is for those who have proven who they are, and of other
// namespaces than the control plane's for their own proxies alone.
func TestWhoMayDebug(t *testing.T) {
	s := kubetest.Shared(t)
	s.Client(t).Apply(t, shopMesh)
	r := startReplica(t, s, nil).ready()
	conn := r.dial("shop", "127.0.0.99", nil)
	plaintext, err := grpc.NewClient(r.at["serving ADS in plaintext"], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plaintext.Close() })
	system, shop := r.token("istio-system", "default", "", "istio-ca"), r.token("shop", "web", "", "istio-ca")
	// Two proxies, of two namespaces.
	for ns, token := range map[string]string{"shop": shop, "istio-system": system} {
		hold(t, conn, token, ns)
	}
	for name, c := range map[string]struct {
		conn         *grpc.ClientConn
		token, ns    string
		kind, page   string
		want         codes.Code
		shows, hides string
	}{
		"the control plane's namespace":     {conn, system, "istio-system", "istio.io/debug", "syncz", codes.OK, "held.shop", ""},
		"its states of all proxies":         {conn, system, "istio-system", "istio.io/debug/syncz", "", codes.OK, "held.shop", ""},
		"another's states":                  {conn, shop, "shop", "istio.io/debug/syncz", "", codes.OK, "held.shop", "held.istio-system"},
		"another's page":                    {conn, shop, "shop", "istio.io/debug", "syncz", codes.PermissionDenied, "", ""},
		"another's configuration":           {conn, shop, "shop", "istio.io/debug", "configz", codes.PermissionDenied, "", ""},
		"another's own proxy":               {conn, shop, "shop", "istio.io/debug", "config_dump?proxyID=held.shop", codes.OK, "ClustersConfigDump", ""},
		"another's view of a foreign proxy": {conn, shop, "shop", "istio.io/debug", "config_dump?proxyID=held.istio-system", codes.OK, "not connected", "ClustersConfigDump"},
		"a dump of a foreign proxy":         {conn, shop, "shop", "istio.io/debug/config_dump", "held.istio-system", codes.OK, elsewhere, "Cluster"},
		"a dump of another replica's proxy": {conn, system, "istio-system", "istio.io/debug/config_dump", "gone.shop", codes.OK, elsewhere, "Cluster"},
		"with a claim that is not proven":   {conn, shop, "istio-system", "istio.io/debug", "syncz", codes.PermissionDenied, "", ""},
		"without a credential":              {conn, "", "istio-system", "istio.io/debug", "syncz", codes.Unauthenticated, "", ""},
		"in plaintext":                      {plaintext, "", "istio-system", "istio.io/debug/syncz", "", codes.Unauthenticated, "", ""},
		"no page":                           {conn, system, "istio-system", "istio.io/debug", "", codes.InvalidArgument, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			said, err := inquire(t, c.conn, c.token, c.ns, c.kind, c.page)
			if status.Code(err) != c.want {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if !strings.Contains(said, c.shows) || c.hides != "" && strings.Contains(said, c.hides) {
				t.Errorf("want %q and not %q in: %s", c.shows, c.hides, said)
			}
		})
	}
}

// elsewhere is by what istioctl knows that it has to ask the next replica.
const elsewhere = "Proxy not connected to this Pilot instance. It may be connected to another instance."

// hold keeps a proxy connected until the test ends.
func hold(t *testing.T, conn *grpc.ClientConn, token, ns string) {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	_, err := send(ctx, t, conn, ns, "held."+ns, "", &discovery.DiscoveryRequest{TypeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster"})
	if err != nil {
		t.Fatal(err)
	}
}

// inquire asks as a tool does, and returns what it is told.
func inquire(t *testing.T, conn *grpc.ClientConn, token, ns, kind, page string) (string, error) {
	t.Helper()
	req := &discovery.DiscoveryRequest{TypeUrl: kind}
	if page != "" {
		req.ResourceNames = []string{page}
	}
	resp, err := send(bearing(t, token), t, conn, ns, "test-1.default", "event", req)
	var b strings.Builder
	for _, r := range resp.GetResources() {
		b.WriteString(r.GetTypeUrl() + " " + string(r.GetValue()) + "\n")
	}
	return b.String(), err
}

func send(ctx context.Context, t *testing.T, conn *grpc.ClientConn, ns, name, generator string, req *discovery.DiscoveryRequest) (*discovery.DiscoveryResponse, error) {
	t.Helper()
	s, err := discovery.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		return nil, err
	}
	md, err := structpb.NewStruct(map[string]any{"NAMESPACE": ns, "GENERATOR": generator, "ISTIO_VERSION": "1.31.0"})
	if err != nil {
		t.Fatal(err)
	}
	req.Node = &core.Node{Id: "sidecar~127.0.0.99~" + name + "~default.svc.cluster.local", Metadata: md}
	if err := s.Send(req); err != nil {
		return nil, err
	}
	return s.Recv()
}
