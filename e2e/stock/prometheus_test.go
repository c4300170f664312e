package stock

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
	"github.com/pilotfish-mesh/pilotfish/serve"
	"github.com/pilotfish-mesh/pilotfish/webhook/inject"
)

// controlPlaneIP is the address of the control plane's pod.
const controlPlaneIP = "127.0.2.1"

// usualConfig has Prometheus find pods by the usual annotations. Debian's build
// leaves the discovery of Kubernetes out, so the test lists the pods to it (see
// pods), with the labels that discovery gives them.
const usualConfig = `
global: {scrape_interval: 1s}
scrape_configs:
- job_name: kubernetes-pods
  http_sd_configs: [{url: %q, refresh_interval: 1s}]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], action: keep, regex: true}
  - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_path], action: replace, target_label: __metrics_path__, regex: (.+)}
  - source_labels: [__address__, __meta_kubernetes_pod_annotation_prometheus_io_port]
    action: replace
    regex: ([^:]+)(?::\d+)?;(\d+)
    replacement: $1:$2
    target_label: __address__
  - {source_labels: [__meta_kubernetes_pod_name], action: replace, target_label: pod}
`

// installed are the annotations of the control plane's pods, as they are
// installed.
func installed(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../manifests/install.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range bytes.Split(text, []byte("\n---\n")) {
		d := &appsv1.Deployment{}
		if yaml.Unmarshal(doc, d) == nil && d.Kind == "Deployment" && d.Name == "istiod" {
			return d.Spec.Template.Annotations
		}
	}
	t.Fatal("no Deployment istiod")
	return nil
}

// injected are the annotations of the application's pod after injection.
func injected(t *testing.T) map[string]string {
	t.Helper()
	f := inject.NewFollower(inject.Options{})
	f.Follow(config.NewBuilder(nil).Mesh())
	in, err := f.Injector()
	if err != nil {
		t.Fatal(err)
	}
	out, _, err := in.YAML([]byte("{apiVersion: v1, kind: Pod, metadata: {name: app-1}, spec: {containers: [{name: a, image: a}]}}"), "shop")
	if err != nil {
		t.Fatal(err)
	}
	p := &corev1.Pod{}
	if err := yaml.Unmarshal(out, p); err != nil {
		t.Fatal(err)
	}
	return p.Annotations
}

func podYAML(namespace, name, ip string, annotations map[string]string) string {
	kept := map[string]string{}
	for k, v := range annotations {
		if strings.HasPrefix(k, "prometheus.io/") {
			kept[k] = v
		}
	}
	js, _ := json.Marshal(kept) // of strings
	return fmt.Sprintf(`
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: %[1]s}}
---
apiVersion: v1
kind: Pod
metadata: {name: %[2]s, namespace: %[1]s, annotations: %[4]s}
spec: {containers: [{name: a, image: a}]}
status: {phase: Running, podIP: %[3]s, podIPs: [{ip: %[3]s}], conditions: [{type: Ready, status: "True"}]}
`, namespace, name, ip, js)
}

// pods lists an API server's pods as Prometheus' discovery of role pod does
// those whose containers declare no ports.
func pods(w *world) http.HandlerFunc {
	unusual := regexp.MustCompile("[^a-zA-Z0-9_]")
	return func(rw http.ResponseWriter, r *http.Request) {
		list, err := w.kube.CoreV1().Pods("").List(r.Context(), metav1.ListOptions{})
		if err != nil {
			http.Error(rw, err.Error(), http.StatusInternalServerError)
			return
		}
		type group struct {
			Targets []string          `json:"targets"`
			Labels  map[string]string `json:"labels"`
		}
		var out []group
		for _, p := range list.Items {
			g := group{[]string{p.Status.PodIP}, map[string]string{"__meta_kubernetes_pod_name": p.Name}}
			for k, v := range p.Annotations {
				g.Labels["__meta_kubernetes_pod_annotation_"+unusual.ReplaceAllString(k, "_")] = v
			}
			out = append(out, g)
		}
		rw.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(rw).Encode(out)
	}
}

// A Prometheus with the usual configuration finds the control plane and the
// proxies, and nothing else, and scrapes them.
func TestPrometheusFindsTheMesh(t *testing.T) {
	binary, err := exec.LookPath("prometheus")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	s := kubetest.Shared(t)
	s.Client(t).Apply(t, mesh+podYAML("istio-system", "istiod-1", controlPlaneIP, installed(t))+
		podYAML("shop", "app-1-scraped", podIP, injected(t))+podYAML("shop", "plain-1", "127.0.2.9", nil))
	w := startWorld(t, s, serve.Options{MonitoringAddress: controlPlaneIP + ":15014"})
	w.agent()
	dir := t.TempDir()
	discovery := httptest.NewServer(pods(w))
	t.Cleanup(discovery.Close)
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(fmt.Sprintf(usualConfig, discovery.URL)), 0o600); err != nil {
		t.Fatal(err)
	}
	out := &log{}
	cmd := exec.Command(binary, "--config.file", file, "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", "127.0.0.1:19090")
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("Prometheus' log:\n%s", out)
		}
	})
	envoytest.Eventually(t, 60*time.Second, func() string {
		body, err := fetch("http://127.0.0.1:19090/api/v1/targets?state=active")
		if err != nil {
			return err.Error()
		}
		var found struct {
			Data struct {
				ActiveTargets []struct{ ScrapeURL, Health string }
			}
		}
		if err := json.Unmarshal([]byte(body), &found); err != nil {
			return err.Error()
		}
		got := map[string]string{}
		for _, target := range found.Data.ActiveTargets {
			got[target.ScrapeURL] = target.Health
		}
		want := fmt.Sprint(map[string]string{
			"http://" + controlPlaneIP + ":15014/metrics": "up", "http://" + podIP + ":15020/stats/prometheus": "up",
		})
		if fmt.Sprint(got) != want {
			return fmt.Sprintf("found %v, want %v", got, want)
		}
		return ""
	})
	for _, query := range []string{`pilotfish_refused_callers_total or go_goroutines{pod="istiod-1"}`, `envoy_server_live{pod="app-1-scraped"}`} {
		envoytest.Eventually(t, 60*time.Second, func() string {
			return get("http://127.0.0.1:19090/api/v1/query?query="+url.QueryEscape(query), `"metric":{`)
		})
	}
}
