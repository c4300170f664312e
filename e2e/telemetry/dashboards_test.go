package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/promtest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// observed is a mesh under traffic that a real Prometheus scrapes, as the page
// of pilotfish up tells it to, and that evaluates the chart's rules.
type observed struct {
	*stage.Stage
	prometheus
	// failing: every second request is answered with 503; else one of 50.
	failing atomic.Bool
	// more are further targets, in the form of Prometheus' HTTP discovery.
	more  atomic.Pointer[string]
	web   string    // its address
	since time.Time // the control plane was scraped first
}

// throughGateway has requests from outside come to web.
const throughGateway = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gateway}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: ["*"]
  gateways: [gateway]
  http: [{route: [{destination: {host: web, port: {number: 8080}}}]}]
`

const observedMesh = `
apiVersion: v1
kind: Service
metadata: {name: plain}
spec: {selector: {app: plain}, ports: [{name: http, port: 8080}, {name: tcp, port: 7070}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: plain}
spec:
  selector: {matchLabels: {app: plain}}
  template:
    metadata: {labels: {app: plain, sidecar.istio.io/inject: "false"}}
    spec: {containers: [{name: c, image: c}]}
---
# A problem, but no error: of two for one host, one counts.
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: one}
spec: {hosts: [twice.example.com], http: [{directResponse: {status: 200}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: other}
spec: {hosts: [twice.example.com], http: [{directResponse: {status: 200}}]}
`

func observe(t *testing.T) *observed {
	t.Helper()
	promtest.Binary(t)
	stage.NeedNamespaces(t)
	dir := stage.Copy(t, "testdata")
	b, err := os.ReadFile(filepath.Join(dir, "mesh.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("OTLP", "4317", "ZIPKIN", "9411").Replace(string(b))
	stage.Write(t, filepath.Join(dir, "mesh.yaml"), text+"---"+throughGateway+"---"+observedMesh)
	o := &observed{Stage: stage.StartWith(t, dir, up.Options{Mode: up.Namespaces, PageAddress: "127.0.0.1:0", InternalKeys: true})}
	none := "[]"
	o.more.Store(&none)
	targets := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(*o.more.Load()))
	}))
	t.Cleanup(targets.Close)
	o.prometheus = prometheus{promtest.StartWith(t, fmt.Sprintf(`
global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}
rule_files: [%q]
scrape_configs:
- job_name: pods
  http_sd_configs: [{url: %q, refresh_interval: 1s}, {url: %q, refresh_interval: 1s}]
`, readRules(t).atOnce(t), o.PageURL()+"prometheus/targets", targets.URL))}
	envoytest.Eventually(t, stage.Patience, func() string { return o.lacks("istiod_uptime_seconds") })
	o.since = time.Now()
	for _, w := range o.Workloads() {
		if w.Name == "web" {
			o.web = w.Pods[0].Address
		}
	}
	o.traffic(t)
	return o
}

// traffic goes on until the test ends: HTTP, gRPC and TCP, between sidecars,
// from a gateway, and in plaintext. The configuration changes, too.
func (o *observed) traffic(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	callers := []*stage.Caller{
		o.Inside("curl", "http://web:8080"), o.Inside("web", "http://web:8080"), o.Inside("web", "http://plain:8080"), o.Outside("gateway", 80), o.Inside("plain", "http://"+o.web+":8080"),
	}
	running.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if err := o.round(ctx, t, callers, i); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond): // a rate, not a wait
			}
		}
	})
}

func (o *observed) round(ctx context.Context, t *testing.T, callers []*stage.Caller, i int) error {
	path := "/"
	switch {
	case o.failing.Load() && i%2 == 0, i%50 == 0:
		path = "/?status=503"
	case i%10 == 5:
		path = "/?status=404"
	}
	for _, c := range callers {
		if _, err := c.Try(ctx, path); err != nil {
			return err
		}
	}
	if i%10 != 0 {
		return nil
	}
	stage.Write(t, filepath.Join(o.Dir, "moving.yaml"), strings.Replace(moving, "TIMES", strconv.Itoa(i), 1))
	for _, from := range []string{"curl", "web"} {
		if err := tryGRPC(ctx, o.Stage, from, 3); err != nil {
			return fmt.Errorf("gRPC from %s: %w", from, err)
		}
	}
	for _, way := range [][2]string{{"curl", "web"}, {"web", "web"}, {"web", "plain"}, {"plain", o.web}} {
		if err := tryTalk(ctx, o.Stage, way[0], way[1]+":7070", "12345678\n"); err != nil {
			return fmt.Errorf("TCP from %s to %s: %w", way[0], way[1], err)
		}
	}
	return nil
}

const moving = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: moving}
spec:
  hosts: [moving.example.com]
  gateways: [gateway]
  http: [{headers: {response: {add: {x-times: "TIMES"}}}, route: [{destination: {host: web, port: {number: 8080}}}]}]
`

// wished are the values of variables whose workload and service have
// everything: it calls itself.
var wished = map[string]string{
	"service": "web.default.svc.cluster.local", "namespace": "default", "workload": "web",
	"qrep": "source|destination", // the choice that Istio's dashboards have as custom variable
}

func boards(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal(folder, err)
	}
	return files
}

// TestObservability: every query of every dashboard and every recording rule
// has data under traffic, no alert fires, and then those fire whose reason is
// brought about.
func TestObservability(t *testing.T) {
	o := observe(t)
	t.Run("dashboards", o.dashboards)
	t.Run("Istio's dashboards", o.istios)
	t.Run("gateways", func(t *testing.T) {
		const from = `{source_workload="istio-ingressgateway", source_workload_namespace="istio-system", destination_workload="web"`
		for _, expr := range []string{
			`istio_requests_total` + from + `, reporter="source", destination_service="web.default.svc.cluster.local", response_code="200"}`,
			`istio_request_duration_milliseconds_count` + from + `, reporter="source"}`,
			`istio_requests_total` + from + `, reporter="destination", source_principal=~"spiffe://.+"}`,
		} {
			envoytest.Eventually(t, stage.Patience, func() string { return o.lacks(expr) })
		}
	})
	t.Run("recording rules", func(t *testing.T) {
		for _, name := range readRules(t).names("record") {
			envoytest.Eventually(t, stage.Patience, func() string { return o.lacks(name) })
		}
	})
	t.Run("no alert of a healthy mesh", func(t *testing.T) {
		envoytest.Eventually(t, stage.Patience, func() string { return o.lacks("count_over_time(istiod_uptime_seconds[1m]) > 12") })
		expr := fmt.Sprintf("count_over_time(ALERTS[%ds])", int(time.Since(o.since).Seconds())-2) // not the moment before the first scrape
		got, err := o.query(expr)
		if err != nil || len(got) > 0 {
			t.Errorf("%s: %v %v", expr, got, err)
		}
	})
	t.Run("alerts", o.alerts)
}

func (o *observed) dashboards(t *testing.T) {
	for _, file := range boards(t, filepath.Join(chartFiles, "grafana")) {
		b := readBoard(t, file)
		t.Run(b.UID, func(t *testing.T) {
			values, n := map[string]string{}, 0
			envoytest.Eventually(t, stage.Patience, func() (problem string) {
				values, problem = o.variables(b, wished)
				return problem
			})
			b.each(func(p *panel) {
				for _, target := range p.Targets {
					expr := fill(target.Expr, values)
					n++
					if left := anyVariable.FindString(expr); left != "" {
						t.Errorf("%s: %s is no variable: %s", p.Title, left, target.Expr)
						continue
					}
					if slices.ContainsFunc(ofWebhooks, func(s string) bool { return strings.Contains(expr, s) }) {
						continue // TestWebhooksAreObserved
					}
					envoytest.Eventually(t, stage.Patience, func() string {
						if lacks := o.lacks(expr); lacks != "" {
							return p.Title + ": " + lacks
						}
						return ""
					})
				}
			})
			if n < 10 {
				t.Errorf("%d queries", n)
			}
		})
	}
}

// ofWebhooks are metrics that a mesh without an API server has not.
var ofWebhooks = []string{"sidecar_injection_", "galley_validation_"}

// without are parts of the queries of Istio's dashboards that have no data
// here, and why.
var without = map[string]string{
	"container_":         "of the kubelet",
	"sidecar_injection_": "of the webhooks, see TestWebhooksAreObserved",
	"galley_validation_": "of the webhooks, see TestWebhooksAreObserved",
	"envoy_wasm_":        "of proxies with Wasm modules in Istio's Envoy",
}

// istioDashboards is the folder with those of the Istio that tools/istio pins.
func istioDashboards(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "istio.io/istio")
	cmd.Dir, cmd.Env = "../../tools/istio", append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "manifests", "addons", "dashboards")
}

// istios: Istio's own dashboards have data, too.
func (o *observed) istios(t *testing.T) {
	folder := istioDashboards(t)
	for _, file := range boards(t, folder) {
		if base := filepath.Base(file); strings.HasPrefix(base, "ztunnel") || strings.HasPrefix(base, "jsonnetfile") {
			continue
		}
		b := readBoard(t, file)
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			var values map[string]string
			envoytest.Eventually(t, stage.Patience, func() (problem string) {
				values, problem = o.variables(b, wished)
				return problem
			})
			b.each(func(p *panel) {
				for _, target := range p.Targets {
					expr := fill(target.Expr, values)
					why := ""
					for part := range without {
						if strings.Contains(expr, part) {
							why = part
						}
					}
					// At the client the policy is unknown, Istio says.
					unknown := strings.Contains(expr, `reporter="source"`) && strings.Contains(expr, `connection_security_policy="mutual_tls"`)
					if why != "" || unknown || target.Expr == "" {
						continue
					}
					envoytest.Eventually(t, stage.Patience, func() string { return o.lacks(expr) })
				}
			})
		})
	}
}

// TestDashboardsAreWhole: they are what tools/dashboards writes, can be
// imported beside others and into any Grafana, and every panel says what it
// shows, in which unit.
func TestDashboardsAreWhole(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("go", "run", ".", dir)
	cmd.Dir, cmd.Env = "../../tools/dashboards", append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	written, kept := boards(t, dir), boards(t, filepath.Join(chartFiles, "grafana"))
	if len(written) != len(kept) {
		t.Errorf("%d are written, %d are there", len(written), len(kept))
	}
	for _, file := range written {
		name := filepath.Base(file)
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(chartFiles, "grafana", name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what is written: cd tools/dashboards && go run . ../../manifests/chart/files/grafana", name)
		}
		b := readBoard(t, file)
		if want := "pilotfish-" + strings.TrimSuffix(name, ".json"); b.UID != want || b.SchemaVersion < 36 || b.Title == "" {
			t.Errorf("%s: uid %q, schema %d, title %q", name, b.UID, b.SchemaVersion, b.Title)
		}
		if v := b.Templating.List[0]; v.Name != "datasource" || v.Type != "datasource" {
			t.Errorf("%s: the first variable is %s", name, v.Name)
		}
		titles := map[string]bool{}
		row := ""
		b.each(func(p *panel) {
			if p.Type == "row" {
				row = p.Title
				return
			}
			if at := row + "/" + p.Title; titles[at] || p.Title == "" {
				t.Errorf("%s: two panels %q, or one without a title", name, at)
			}
			titles[row+"/"+p.Title] = true
			if p.FieldConfig.Defaults.Unit == "" && p.Type != "table" && p.Type != "heatmap" { // these have one for each column, or axis
				t.Errorf("%s: %s has no unit", name, p.Title)
			}
			for _, q := range p.Targets {
				if q.Datasource.UID != "${datasource}" {
					t.Errorf("%s: %s asks %q", name, p.Title, q.Datasource.UID)
				}
			}
		})
	}
}
