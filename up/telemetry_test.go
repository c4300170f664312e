package up_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// A Prometheus finds the pods on the page's address, and the gateway and the
// sidecar behind it tell of one request from both sides.
func TestStandardMetrics(t *testing.T) {
	inModes(t, func(t *testing.T, mode up.Mode) {
		m, _ := start(t, up.Options{Paths: []string{canary(t)}, Mode: mode, PageAddress: "127.0.0.1:0"})
		gateway := m.Gateways()[0]
		resp, err := http.Get(gateway.URL())
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", gateway.URL(), resp.Status)
		}
		service := `,destination_service="myapp.default.svc.cluster.local",destination_service_name="myapp",destination_service_namespace="default",request_protocol="http",response_code="200",grpc_response_status="",response_flags="-",`
		source := `istio_requests_total{reporter="source",source_workload="istio-ingressgateway"`
		envoytest.Eventually(t, 15*time.Second, func() string {
			all := scrapeAll(t, m)
			for _, want := range []string{source, service + `connection_security_policy="unknown"} 1`, service + `connection_security_policy="mutual_tls"} 1`} {
				if !strings.Contains(all, want) {
					return "no " + want + " in\n" + onlyLines(all, "istio_requests_total")
				}
			}
			return ""
		})
		if all := scrapeAll(t, m); !strings.Contains(all, "envoy_server_live") {
			t.Error("the statistics of Envoy are missing")
		}
		resp, err = http.Get(m.PageURL() + "prometheus/default/nobody")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("a pod that does not exist: %s", resp.Status)
		}
	})
}

// scrapeAll is what all targets of the page answer.
func scrapeAll(t *testing.T, m *up.Mesh) string {
	t.Helper()
	var groups []struct {
		Targets []string
		Labels  map[string]string
	}
	if err := json.Unmarshal([]byte(body(t, m.PageURL()+"prometheus/targets")), &groups); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, g := range groups {
		all.WriteString(body(t, fmt.Sprintf("http://%s%s", g.Targets[0], g.Labels["__metrics_path__"])))
	}
	return all.String()
}

func body(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v: %s", url, resp.Status, err, b)
	}
	return string(b)
}

func onlyLines(text, prefix string) string {
	var out []string
	for _, l := range strings.Split(text, "\n") {
		if strings.HasPrefix(l, prefix) {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}
