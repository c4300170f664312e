package telemetry

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/promtest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/serve"
)

// review is what an API server asks a webhook about the creation of an object.
func review(group, version, kind, plural, object string) string {
	return fmt.Sprintf(`{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
		"uid": "1", "operation": "CREATE", "namespace": "default", "name": "x",
		"kind": {"group": %[1]q, "version": %[2]q, "kind": %[3]q}, "resource": {"group": %[1]q, "version": %[2]q, "resource": %[4]q}, "object": %[5]s}}`,
		group, version, kind, plural, object)
}

// TestWebhooksAreObserved: the queries about webhooks have data of a control
// plane that has been asked.
func TestWebhooksAreObserved(t *testing.T) {
	dir := stage.Copy(t, "testdata")
	hooks, monitoring := envoytest.FreePort(t), envoytest.FreePort(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- serve.Run(ctx, serve.Options{
			Config: []string{dir}, WebhookAddress: fmt.Sprintf("127.0.0.1:%d", hooks), MonitoringAddress: fmt.Sprintf("127.0.0.1:%d", monitoring),
			Log: zap.NewNop(),
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	p := prometheus{promtest.StartWith(t, fmt.Sprintf(`
global: {scrape_interval: 500ms, scrape_timeout: 500ms}
scrape_configs:
- job_name: istiod
  static_configs: [{targets: ["127.0.0.1:%d"], labels: {app: istiod, pod: istiod, namespace: istio-system}}]
`, monitoring))}
	client := &http.Client{Timeout: stage.Patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // whose certificate it is, is no matter here
	t.Cleanup(client.CloseIdleConnections)
	ask := func(path, body string) string {
		resp, err := client.Post(fmt.Sprintf("https://127.0.0.1:%d/%s", hooks, path), "application/json", strings.NewReader(body))
		if err != nil {
			return err.Error()
		}
		defer func() { _ = resp.Body.Close() }()
		var b bytes.Buffer
		_, _ = b.ReadFrom(resp.Body)
		return resp.Status + " " + b.String()
	}
	pod := review("", "v1", "Pod", "pods", `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [{"name": "a", "image": "a"}]}}`)
	service := func(spec string) string {
		return review("networking.istio.io", "v1", "VirtualService", "virtualservices",
			`{"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "x", "namespace": "default"}, "spec": `+spec+`}`)
	}
	for path, want := range map[string]string{"inject": `"patch"`, "validate": `"allowed":true`} {
		body := map[string]string{"inject": pod, "validate": service(`{"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}}]}]}`)}[path]
		envoytest.Eventually(t, stage.Patience, func() string {
			if got := ask(path, body); !strings.Contains(got, want) {
				return got
			}
			return ""
		})
	}
	if got := ask("validate", service(`{"hostz": []}`)); !strings.Contains(got, `"allowed":false`) {
		t.Error(got)
	}
	n := 0
	for _, file := range append(boards(t, filepath.Join(chartFiles, "grafana")), filepath.Join(istioDashboards(t), "pilot-dashboard.gen.json")) {
		readBoard(t, file).each(func(panel *panel) {
			for _, target := range panel.Targets {
				expr := fill(target.Expr, map[string]string{"pod": ".*"})
				if !strings.Contains(expr, "sidecar_injection_") && !strings.Contains(expr, "galley_validation_") {
					continue
				}
				n++
				envoytest.Eventually(t, stage.Patience, func() string { return p.lacks(expr) })
			}
		})
	}
	if n < 10 {
		t.Errorf("%d queries", n)
	}
	// What was counted is counted as what it was.
	for expr, want := range map[string]float64{
		"sum(sidecar_injection_success_total)": 1, "sum(galley_validation_passed)": 1, `sum(galley_validation_failed{reason="invalid_resource"})`: 1,
	} {
		if got, err := p.query(expr); err != nil || len(got) != 1 || got[0].number() < want {
			t.Errorf("%s: %v %v", expr, got, err)
		}
	}
}
