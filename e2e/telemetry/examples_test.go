package telemetry

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/promtest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// example runs a copy of one, with the ports of a collector in place of the
// usual ones. It has no problem of any severity.
func example(t *testing.T, name string, c *collector) *stage.Stage {
	t.Helper()
	dir := stage.Copy(t, filepath.Join("../../examples", name))
	file := filepath.Join(dir, "telemetry.yaml")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if c != nil {
		text := strings.NewReplacer("grpc: 4317", fmt.Sprintf("grpc: %d", c.otlp), "http: 9411", fmt.Sprintf("http: %d", c.zipkin)).Replace(string(b))
		stage.Write(t, file, text)
	}
	s := stage.Start(t, dir, up.Loopback)
	for _, p := range s.Plane().Problems() {
		t.Errorf("the example has a problem: %v %s %s", p.Object, p.Field, p.Message)
	}
	return s
}

func TestMetricsExample(t *testing.T) {
	s := example(t, "metrics", nil)
	c := s.Inside("curl", "http://httpbin:8000")
	c.Get(t, "/books/1")
	c.Get(t, "/books/2")
	c.Get(t, "/elsewhere")
	talk(t, s, "httpbin:9000", "12345678\n")
	envoytest.Eventually(t, stage.Patience, func() string {
		all := metricsOf(t, s, "httpbin")
		for operation, want := range map[string]string{"ReadBooks": "2", "Other": "1"} {
			port := `destination_port="8000"`
			if got := value(t, all, "istio_requests_total", `request_operation="`+operation+`"`, port); got != want {
				return fmt.Sprintf("%s: %q, want %s, of\n%s", operation, got, want, strings.Join(all, "\n"))
			}
		}
		if got := value(t, all, "istio_tcp_received_bytes_total"); got != "9" {
			return "TCP: " + got
		}
		for _, l := range all {
			if strings.HasPrefix(l, "istio_requests_total") && strings.Contains(l, "response_flags") {
				return "response_flags is still a label: " + l
			}
		}
		client := strings.Join(metricsOf(t, s, "curl"), "\n")
		if !strings.Contains(client, "istio_response_bytes_count{") || strings.Contains(client, "istio_request_bytes_count{") {
			return "the client's sizes:\n" + client
		}
		return ""
	})
}

func TestAccessLogsExample(t *testing.T) {
	c := startCollector(t)
	s := example(t, "access-logs", c)
	web := s.Inside("curl", "http://httpbin:8000")
	web.Get(t, "/fine")
	web.Get(t, "/bad?status=503")
	envoytest.Eventually(t, stage.Patience, func() string {
		log, err := s.Log("curl", 100)
		if err != nil {
			return err.Error()
		}
		all := strings.Join(log, "\n")
		if !strings.Contains(all, "LOG GET /bad?status=503 503") || strings.Contains(all, "/fine") {
			return "log of curl's sidecar: " + all
		}
		var got []string
		for _, r := range c.records() {
			got = append(got, r.Attributes.get("path")+" "+r.Attributes.get("status"))
		}
		if text := strings.Join(got, ", "); text != "/fine 200, /bad?status=503 503" {
			return "at the collector: " + text
		}
		return ""
	})
	if log, _ := s.Log("httpbin", 100); strings.Contains(strings.Join(log, "\n"), "LOG GET") {
		t.Error("httpbin's sidecar writes what it serves to its standard output, too")
	}
}

// TestPrometheusExample: a Prometheus with the example's configuration, but for
// the port and the pace, answers the queries that it names.
func TestPrometheusExample(t *testing.T) {
	const dir = "../../examples/prometheus"
	b, err := os.ReadFile(filepath.Join(dir, "prometheus.conf"))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := filepath.Abs(filepath.Join(dir, "../../manifests/chart/files/prometheus/rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	promtest.Binary(t)
	s := stage.StartWith(t, stage.Copy(t, dir), up.Options{Mode: up.Loopback, PageAddress: "127.0.0.1:0"})
	for _, p := range s.Plane().Problems() {
		t.Errorf("the example has a problem: %v", p)
	}
	text := strings.NewReplacer("http://127.0.0.1:15099/", s.PageURL(), "interval: 5s", "interval: 500ms", "../../manifests/chart/files/prometheus/rules.yaml", rules).Replace(string(b))
	p := prometheus{promtest.StartWith(t, text)}
	c, asked := s.Inside("curl", "http://httpbin:8000"), 0
	for _, line := range strings.Split(string(b), "\n") {
		query, ok := strings.CutPrefix(line, "#   query: ")
		if !ok {
			continue
		}
		asked++
		envoytest.Eventually(t, stage.Patience, func() string {
			c.Get(t, "/")
			talk(t, s, "httpbin:9000", "12345678\n")
			return p.lacks(query)
		})
	}
	if asked < 8 {
		t.Errorf("%d queries", asked)
	}
}

func TestTracingByMeshConfigExample(t *testing.T) {
	c := startCollector(t)
	dir := stage.Copy(t, "../../examples/tracing-mesh-config")
	for _, name := range []string{"mesh.yaml", "workloads.yaml"} {
		file := filepath.Join(dir, name)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		stage.Write(t, file, strings.Replace(string(b), `"127.0.0.1:9411"`, fmt.Sprintf(`"127.0.0.1:%d"`, c.zipkin), 1))
	}
	s := stage.Start(t, dir, up.Loopback)
	for _, p := range s.Plane().Problems() {
		t.Errorf("the example has a problem: %v", p)
	}
	s.Inside("curl", "http://httpbin:8000").Get(t, "/mesh", "X-User", "jane")
	client, server := pair(t, c, "/mesh")
	if client.Attributes.get("user") != "jane" || client.Attributes.get("environment") != "example" {
		t.Errorf("client %+v\nserver %+v", client, server)
	}
	// The annotation of httpbin's pods counts for them alone.
	if server.Attributes.get("team") != "payments" || server.Attributes.get("environment") != "" || client.Attributes.get("team") != "" {
		t.Errorf("tags of the annotation: client %+v\nserver %+v", client, server)
	}
}

func TestTracingExample(t *testing.T) {
	c := startCollector(t)
	s := example(t, "tracing", c)
	web := s.Inside("curl", "http://httpbin:8000")
	web.Get(t, "/otlp", "X-User", "jane")
	if client, server := pair(t, c, "/otlp"); client.Attributes.get("user") != "jane" || server.Attributes.get("environment") != "example" {
		t.Errorf("client %+v\nserver %+v", client, server)
	}
	s.Edit("telemetry.yaml", "providers: [{name: otel}]", "providers: [{name: zipkin}]")
	n := 0
	envoytest.Eventually(t, stage.Patience, func() string {
		n++
		// As long as one of the sidecars has the old tracer, W3C's header is there.
		h := web.Get(t, "/zipkin/"+strconv.Itoa(n)).Echo.Headers
		if h.Get("X-B3-Traceid") == "" || h.Get("Traceparent") != "" {
			return fmt.Sprintf("headers are not yet B3's alone: %v", h)
		}
		return ""
	})
	pair(t, c, "/zipkin/"+strconv.Itoa(n))
}
