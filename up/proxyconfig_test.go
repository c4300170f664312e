package up_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/up"
)

const proxyConfigMesh = `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "defaultConfig: {proxyMetadata: {ISTIO_META_FROM: mesh, ISTIO_META_KEPT: mesh}}"}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: all, namespace: istio-system}
spec: {environmentVariables: {ISTIO_META_FROM: root, ISTIO_META_ROOT: root}}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: all, namespace: default}
spec: {environmentVariables: {ISTIO_META_FROM: namespace}, concurrency: 2}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: b, namespace: default}
spec: {selector: {matchLabels: {app: b}}, environmentVariables: {ISTIO_META_FROM: selector}, concurrency: 3}
---
`

func proxyConfigPod(app, annotation string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: default}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}, annotations: {proxy.istio.io/config: '%[2]s'}}
    spec: {containers: [{name: c, image: c}]}
---
`, app, annotation)
}

// TestProxyConfig: what is set for a proxy, by the mesh, ProxyConfigs and the
// annotation, and which of them goes before which. A pod whose settings change is
// another pod.
func TestProxyConfig(t *testing.T) {
	dir := t.TempDir()
	overlay := `{concurrency: 4, runtimeValues: {"a.b": "7"}, drainDuration: 3s, proxyMetadata: {ISTIO_META_FROM: annotation, ISTIO_META_NAME: other}}`
	write(t, dir, "mesh.yaml", proxyConfigMesh+proxyConfigPod("a", overlay)+proxyConfigPod("b", overlay)+proxyConfigPod("c", "{}"))
	m, said := start(t, up.Options{Paths: []string{dir}, Mode: up.Loopback})
	is := func(app, want string) {
		t.Helper()
		envoytest.Eventually(t, 30*time.Second, func() string {
			got := "no proxy"
			for _, s := range m.Plane().Server.Proxies() {
				p := s.Proxy
				if p.Labels["app"] != app {
					continue
				}
				var b bytes.Buffer
				if err := m.WriteMetrics(t.Context(), &b, p.Namespace, p.Name); err != nil {
					return err.Error()
				}
				threads := ""
				for line := range strings.Lines(b.String()) {
					if v, ok := strings.CutPrefix(line, "envoy_server_concurrency{} "); ok {
						threads = strings.TrimSpace(v)
					}
				}
				got = strings.Join([]string{threads, p.Raw["FROM"], p.Raw["ROOT"], p.Raw["KEPT"]}, " ")
			}
			if got != want {
				return fmt.Sprintf("%s has %q, want %q", app, got, want)
			}
			return ""
		})
	}
	is("a", "4 annotation root mesh")
	is("b", "3 selector root mesh")
	is("c", "2 namespace root mesh")
	edit(t, dir, "mesh.yaml", "environmentVariables: {ISTIO_META_FROM: selector}, concurrency: 3", "environmentVariables: {ISTIO_META_FROM: changed}, concurrency: 1")
	is("b", "1 changed root mesh")
	is("a", "4 annotation root mesh")
	edit(t, dir, "mesh.yaml", "annotations: {proxy.istio.io/config: '{}'}", "annotations: {proxy.istio.io/config: 'concurrency: many'}")
	envoytest.Eventually(t, 30*time.Second, func() string {
		if !strings.Contains(said.text(), "annotation proxy.istio.io/config has no effect") {
			return "not told: " + said.text()
		}
		return ""
	})
	is("c", "2 namespace root mesh")
}
