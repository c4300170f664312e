package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientprometheus "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/agent/identity"
	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/pki"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
)

// fires waits until an alert does.
func (o *observed) fires(t *testing.T, alert string) {
	t.Helper()
	envoytest.Eventually(t, stage.Patience, func() string {
		return o.lacks(fmt.Sprintf("ALERTS{alertname=%q, alertstate=\"firing\"}", alert))
	})
}

// alerts brings about what real alerts are for.
func (o *observed) alerts(t *testing.T) {
	o.failing.Store(true)
	o.Write("bad.yaml", `
# What Envoy alone knows to be wrong: there is no such kind of metadata.
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bad}
spec:
  hosts: [bad.example.com]
  gateways: [gateway]
  http: [{headers: {response: {add: {x: "%METADATA(NONE:a)%"}}}, route: [{destination: {host: web, port: {number: 8080}}}]}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens}
spec:
  selector: {matchLabels: {app: nobody}}
  jwtRules: [{issuer: somebody, jwksUri: "http://127.0.0.1:1/keys"}]
---
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: away}
spec: {selector: {matchLabels: {app: web}}, match: [{mode: SERVER, ports: [{number: 9090}]}], url: "http://127.0.0.1:1/m.wasm", failStrategy: FAIL_OPEN}
`)
	o.expiring(t)
	for _, alert := range []string{
		"PilotfishProxyRejectsConfiguration", "PilotfishConfigurationInError", "PilotfishTokenKeysNotFetched", "PilotfishModuleFails",
		"PilotfishServiceFails", "PilotfishRootCertificateExpires", "PilotfishSigningCertificateExpires",
		"PilotfishWorkloadCertificateExpires", "PilotfishCertificateRequestsFail",
	} {
		t.Run(alert, func(t *testing.T) { o.fires(t, alert) })
	}
}

// expiring adds an authority whose root ends soon, and a workload whose
// certificate it does not renew, to what is scraped.
func (o *observed) expiring(t *testing.T) {
	t.Helper()
	authority := ca.NewAuthority(rootUntil(t, time.Now().Add(time.Hour)), ca.Options{})
	registry := clientprometheus.NewRegistry()
	ca.NewMetrics(authority, registry)
	source := identity.New(identity.Options{Identity: "spiffe://cluster.local/ns/default/sa/last", Signer: &once{authority: authority}})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { source.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	mux := http.NewServeMux()
	mux.Handle("/authority", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/workload", func(w http.ResponseWriter, _ *http.Request) { source.WriteMetrics(w) })
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	more := fmt.Sprintf(`[{"targets": [%[1]q], "labels": {"__metrics_path__": "/authority", "pod": "old"}},
		{"targets": [%[1]q], "labels": {"__metrics_path__": "/workload", "namespace": "default", "pod": "last"}}]`, s.Listener.Addr())
	o.more.Store(&more)
}

// once signs one certificate, of a short life.
type once struct {
	authority *ca.Authority
	done      atomic.Bool
}

func (o *once) Sign(_ context.Context, request []byte) ([]string, error) {
	if o.done.Swap(true) {
		return nil, errors.New("no more")
	}
	return o.authority.Sign(request, ca.Identity{TrustDomain: "cluster.local", Namespace: "default", ServiceAccount: "last"}, 8*time.Second)
}

// rootUntil is a root that ends at a time.
func rootUntil(t *testing.T, end time.Time) *ca.Root {
	t.Helper()
	own, err := pki.Root("old root", end)
	if err != nil {
		t.Fatal(err)
	}
	root, err := ca.ParseRoot(own.Cert, own.KeyPEM, nil, own.Cert, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// An alertCase is series, in promtool's notation for one value a minute, with
// which an alert does not fire yet at one minute, and fires at a later one.
type alertCase struct {
	series     map[string]string
	not, fires int
}

// healthy are series of a mesh in which nothing is wrong.
var healthy = map[string]string{
	`istiod_uptime_seconds{pod="istiod"}`:                                                 "0+60x60",
	`pilot_total_xds_rejects{type="cds"}`:                                                 "3x60",
	`pilotfish_problems{severity="error"}`:                                                "0x60",
	`pilotfish_problems{severity="warning",code="X"}`:                                     "4x60",
	`pilotfish_xds_unanswered_total{type="cds"}`:                                          "0x60",
	`pilotfish_xds_shed_total{limit="streams"}`:                                           "0x60",
	`pilotfish_state_stale_seconds{pod="istiod"}`:                                         "0x60",
	`pilotfish_state_save_failures_total{pod="istiod"}`:                                   "0x60",
	`sidecar_injection_failure_total`:                                                     "2x60",
	`pilot_jwks_resolver_network_fetch_fail_total`:                                        "0x60",
	`pilot_proxy_convergence_time_bucket{le="0.1"}`:                                       "0+60x60",
	`pilot_proxy_convergence_time_bucket{le="30"}`:                                        "0+60x60",
	`pilot_proxy_convergence_time_bucket{le="+Inf"}`:                                      "0+60x60",
	`citadel_server_root_cert_expiry_timestamp`:                                           "315360000x60",
	`citadel_server_cert_chain_expiry_timestamp`:                                          "315360000x60",
	`istio_agent_cert_expiry_seconds{resource_name="default",pod="a",namespace="n"}`:      "86400-60x60",
	`pilotfish_agent_cert_lifetime_seconds{pod="a",namespace="n"}`:                        "86400x60",
	`istio_agent_num_failed_outgoing_requests{request_type="csr",pod="a"}`:                "0x60",
	`envoy_cluster_upstream_cx_active{cluster_name="xds-grpc",pod="a",namespace="n"}`:     "1x60",
	`pilotfish_agent_proxy_restarts_total{pod="a"}`:                                       "0x60",
	`pilotfish_agent_module_failures_total{pod="a"}`:                                      "0x60",
	`pilotfish_agent_metrics_dropped_total{pod="a"}`:                                      "0x60",
	`istio_requests_total{reporter="source",destination_service="s",response_code="200"}`: "0+100x60",
	`istio_requests_total{reporter="source",destination_service="s",response_code="503"}`: "0+1x60",
}

// alertCases have one for each alert. What they give replaces the healthy
// mesh's.
var alertCases = map[string]alertCase{
	"PilotfishAbsent":                    {map[string]string{`istiod_uptime_seconds{pod="istiod"}`: "0+60x10 stale"}, 14, 17},
	"PilotfishProxyRejectsConfiguration": {map[string]string{`pilot_total_xds_rejects{type="cds"}`: "3x10 4x50"}, 10, 12},
	"PilotfishConfigurationInError":      {map[string]string{`pilotfish_problems{severity="error",code="Y",kind="Gateway"}`: "_x10 1x50"}, 14, 17},
	"PilotfishConvergenceSlow":           {map[string]string{`pilot_proxy_convergence_time_bucket{le="0.1"}`: "0+50x60"}, 9, 12},
	"PilotfishProxyDoesNotAnswer":        {map[string]string{`pilotfish_xds_unanswered_total{type="cds"}`: "0x10 1+1x50"}, 14, 18},
	"PilotfishStreamsShed":               {map[string]string{`pilotfish_xds_shed_total{limit="streams"}`: "0x10 7x50"}, 10, 12},
	"PilotfishStateStale":                {map[string]string{`pilotfish_state_stale_seconds{pod="istiod"}`: "0x10 60+60x50"}, 15, 17},
	"PilotfishStateNotSaved":             {map[string]string{`pilotfish_state_save_failures_total{pod="istiod"}`: "0x10 1+1x50"}, 20, 22},
	"PilotfishInjectionFails":            {map[string]string{`sidecar_injection_failure_total`: "2x10 3x50"}, 10, 12},
	"PilotfishTokenKeysNotFetched": {map[string]string{
		`pilot_jwks_resolver_network_fetch_fail_total`:                                              "0x10 1+1x50",
		`pilotfish_problems{severity="warning",code="KeysNotFetched",kind="RequestAuthentication"}`: "_x10 1x50",
	}, 20, 23},
	"PilotfishRootCertificateExpires":    {map[string]string{`citadel_server_root_cert_expiry_timestamp`: "2593800x60"}, 29, 31}, // 30 days and half an hour
	"PilotfishSigningCertificateExpires": {map[string]string{`citadel_server_cert_chain_expiry_timestamp`: "606600x60"}, 29, 31},
	"PilotfishWorkloadCertificateExpires": {map[string]string{
		`istio_agent_cert_expiry_seconds{resource_name="default",pod="a",namespace="n"}`: "3600-60x60", `pilotfish_agent_cert_lifetime_seconds{pod="a",namespace="n"}`: "3600x60",
	}, 46, 48},
	"PilotfishCertificateRequestsFail": {map[string]string{`istio_agent_num_failed_outgoing_requests{request_type="csr",pod="a"}`: "0x10 1+1x50"}, 20, 23},
	"PilotfishProxyDisconnected":       {map[string]string{`envoy_cluster_upstream_cx_active{cluster_name="xds-grpc",pod="a",namespace="n"}`: "1x10 0x50"}, 15, 17},
	"PilotfishProxyRestarts":           {map[string]string{`pilotfish_agent_proxy_restarts_total{pod="a"}`: "0x10 1x50"}, 10, 12},
	"PilotfishModuleFails":             {map[string]string{`pilotfish_agent_module_failures_total{pod="a"}`: "0x10 1+1x50"}, 15, 18},
	"PilotfishMetricsDropped":          {map[string]string{`pilotfish_agent_metrics_dropped_total{pod="a"}`: "0x10 5x50"}, 10, 12},
	"PilotfishServiceFails":            {map[string]string{`istio_requests_total{reporter="source",destination_service="s",response_code="503"}`: "0+6x60"}, 5, 8},
}

// TestAlertRules has promtool play every alert, with the times that it waits:
// none fires on a healthy mesh, each in time, and not before.
func TestAlertRules(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("needs Debian's package prometheus: %v", err)
		}
		t.Skip(err)
	}
	file, err := filepath.Abs(filepath.Join(chartFiles, "prometheus", "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "check", "rules", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	type list []any
	type object map[string]any
	firing := func(alert string, minute, count int) object {
		samples := list{}
		if count > 0 {
			samples = list{object{"labels": "{}", "value": count}}
		}
		if alert != "" {
			alert = fmt.Sprintf("alertname=%q, ", alert)
		}
		return object{"expr": "count(ALERTS{" + alert + "alertstate=\"firing\"})", "eval_time": fmt.Sprintf("%dm", minute), "exp_samples": samples}
	}
	test := func(name string, changed map[string]string, expect ...any) object {
		series := list{}
		for s, values := range healthy {
			if _, ok := changed[s]; !ok {
				series = append(series, object{"series": s, "values": values})
			}
		}
		for s, values := range changed {
			series = append(series, object{"series": s, "values": values})
		}
		return object{"name": name, "interval": "1m", "input_series": series, "promql_expr_test": expect}
	}
	tests := list{test("healthy", nil, firing("", 1, 0), firing("", 20, 0), firing("", 45, 0))}
	names := readRules(t).names("alert")
	for _, alert := range names {
		c, ok := alertCases[alert]
		if !ok {
			t.Errorf("alert %s has no case", alert)
			continue
		}
		tests = append(tests, test(alert, c.series, firing(alert, c.not, 0), firing(alert, c.fires, 1), firing("", c.fires, 1)))
	}
	for alert := range alertCases {
		if !slices.Contains(names, alert) {
			t.Errorf("there is no alert %s", alert)
		}
	}
	b, err := yaml.Marshal(object{"rule_files": list{file}, "evaluation_interval": "1m", "tests": tests})
	if err != nil {
		t.Fatal(err)
	}
	played := filepath.Join(t.TempDir(), "test.yaml")
	if err := os.WriteFile(played, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "test", "rules", played).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestAlertsAreTold: who is woken up reads what is wrong and what to do.
func TestAlertsAreTold(t *testing.T) {
	for _, g := range readRules(t).Groups {
		for _, rule := range g.Rules {
			alert, ok := rule["alert"].(string)
			if !ok {
				continue
			}
			labels, _ := rule["labels"].(map[string]any)
			notes, _ := rule["annotations"].(map[string]any)
			for _, key := range []string{"summary", "description"} {
				if text, _ := notes[key].(string); !strings.HasSuffix(text, ".") {
					t.Errorf("%s: %s %q", alert, key, text)
				}
			}
			if s := labels["severity"]; s != "warning" && s != "critical" {
				t.Errorf("%s: severity %v", alert, s)
			}
		}
	}
}
