package serve_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// faulty has one of each fault that istiod has a metric for.
const faulty = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: raw, namespace: default}
spec: {clusterIP: 10.96.0.2, selector: {app: web}, ports: [{name: tcp, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: default}
spec: {clusterIP: 10.96.0.3, selector: {app: nobody}, ports: [{name: http, port: 80}, {name: grpc, port: 81}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: default, labels: {app: web}}
spec: {containers: [{name: c, image: c}]}
status: {phase: Running, podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}], conditions: [{type: Ready, status: "False"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, namespace: default, labels: {app: web}} # its proxy is connected
spec: {containers: [{name: c, image: c}]}
status: {phase: Running, podIP: 10.1.0.2, podIPs: [{ip: 10.1.0.2}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: default}
spec: {containers: [{name: c, image: c}]}
status: {phase: Running, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: one, namespace: default}
spec: {hosts: [twice.example.com], http: [{directResponse: {status: 200}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: other, namespace: default}
spec: {hosts: [twice.example.com], http: [{directResponse: {status: 200}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: one, namespace: default}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: other, namespace: default}
spec: {host: web, subsets: [{name: v1, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: one, namespace: default}
spec: {hosts: [a.example.com], addresses: [240.0.0.9], ports: [{number: 9000, name: tcp, protocol: TCP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: other, namespace: default}
spec: {hosts: [b.example.com], addresses: [240.0.0.9], ports: [{number: 9000, name: tcp, protocol: TCP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: wrong, namespace: default}
spec: {hosts: [web], http: [{timeout: never, route: [{destination: {host: web}}]}]}
`

// TestMetricsOfFaults: metrics by istiod's names count what is wrong at
// present, and what came into effect.
func TestMetricsOfFaults(t *testing.T) {
	dir := t.TempDir()
	stage.Write(t, filepath.Join(dir, "mesh.yaml"), faulty)
	addresses := runFolder(t, nil, dir)
	connect(t, addresses["serving ADS in plaintext"], "sidecar~10.1.0.2~web-2.default~default.svc.cluster.local")
	at := addresses["serving metrics and debug pages"]
	lines := []string{
		"pilot_vservice_dup_domain 1", "pilot_destrule_subsets 1", "pilot_conflict_inbound_listener 1",
		"pilot_conflict_outbound_listener_tcp_over_current_tcp 1", "pilot_duplicate_envoy_clusters 0",
		"pilot_eds_no_instances 2", "pilot_no_ip 1", "pilot_endpoint_not_ready 1", "pilot_total_rejected_configs 1",
		`pilot_inbound_updates{type="config"} 6`, `pilot_inbound_updates{type="svc"} 3`, `pilot_inbound_updates{type="svcdelete"} 0`, `pilot_inbound_updates{type="eds"} 5`, // three Pods, and what two Services make of them
		`pilot_k8s_cfg_events{event="add",type="DestinationRule"} 2`, `pilot_k8s_reg_events{event="add",type="Pods"} 3`, `pilot_k8s_reg_events{event="add",type="Services"} 3`,
		"pilot_services 5", "pilot_virt_services 2",
		`pilot_push_triggers{type="config"} 1`, `pilot_push_triggers{type="service"} 1`, `pilot_push_triggers{type="endpoint"} 1`, `pilot_push_triggers{type="global"} 0`,
	}
	toldBy(t, at, lines...)

	stage.Write(t, filepath.Join(dir, "mesh.yaml"), strings.Replace(faulty, "{directResponse: {status: 200}}", "{directResponse: {status: 201}}", 1))
	toldBy(t, at, `pilot_k8s_cfg_events{event="update",type="VirtualService"} 1`, `pilot_push_triggers{type="config"} 2`, `pilot_push_triggers{type="service"} 1`, `pilot_push_triggers{type="endpoint"} 1`)
}

const tokens = `
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: jwt, namespace: default}
spec: {jwtRules: [{issuer: a, jwksUri: "%[1]s/good"}, {issuer: b, jwksUri: "%[1]s/away"}]}
`

// TestMetricsOfKeys: fetches of issuers' keys are counted by how they went.
func TestMetricsOfKeys(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/good" {
			http.Error(w, "away", http.StatusBadGateway)
			return
		}
		_, _ = io.WriteString(w, `{"keys":[{"kty":"EC","kid":"k","crv":"P-256",`+
			`"x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`)
	}))
	defer s.Close()
	dir := t.TempDir()
	stage.Write(t, filepath.Join(dir, "jwt.yaml"), fmt.Sprintf(tokens, s.URL))
	at := runFolder(t, nil, dir)["serving metrics and debug pages"]
	toldBy(t, at, "pilot_jwks_resolver_network_fetch_success_total 1", "pilot_jwks_resolver_network_fetch_fail_total 1")
}

// toldBy waits until the metrics at an address have these lines.
func toldBy(t *testing.T, at string, lines ...string) {
	t.Helper()
	envoytest.Eventually(t, 20*time.Second, func() string {
		_, text := get(t, "http://"+at+"/metrics")
		for _, line := range lines {
			if !strings.Contains(text, "\n"+line+"\n") {
				name, _, _ := strings.Cut(line, " ")
				got := "nothing"
				for l := range strings.Lines(text) {
					if strings.HasPrefix(l, name) {
						got = l
					}
				}
				return line + " is not there: " + got
			}
		}
		return ""
	})
}

// connect asks for listeners as a proxy and stays.
func connect(t *testing.T, address, id string) {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&discovery.DiscoveryRequest{Node: &core.Node{Id: id}, TypeUrl: translate.ListenerType}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
}
