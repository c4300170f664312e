package up_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/serve"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// What a real Envoy refuses is told with object, file and line; its last good
// version serves on, also from proxies that come later; other objects change.
func TestRejectedByEnvoy(t *testing.T) {
	inModes(t, func(t *testing.T, mode up.Mode) {
		dir := canary(t)
		m, said := start(t, up.Options{Paths: []string{dir}, Mode: mode})
		addr, err := m.Gateway("myapp-gateway", 80)
		if err != nil {
			t.Fatal(err)
		}
		c := newClient(t)
		tr := startTraffic(t, c, "http://"+addr+"/")

		// Our checks do not know the kinds of metadata; Envoy does.
		const bad = "  - headers: {response: {add: {x-kind: \"%METADATA(NONE:a)%\"}}}\n    route:"
		edit(t, dir, "myapp.yaml", "  - route:", bad, "weight: 70", "weight: 0", "weight: 30", "weight: 100")
		var told config.Problem
		envoytest.Eventually(t, 20*time.Second, func() string {
			for _, p := range m.Plane().Problems() {
				if p.Code == "ProxyRejected" && p.Object.Kind == "VirtualService" {
					told = p
					return ""
				}
			}
			return "no problem is told"
		})
		if told.Object.Name != "myapp-virtualservice" || !strings.HasSuffix(told.File, "myapp.yaml") || told.Line != 13 || !strings.Contains(told.Message, "metadata") {
			t.Errorf("told %+v", told)
		}
		envoytest.Eventually(t, 20*time.Second, func() string {
			if !strings.Contains(said.text(), "myapp.yaml:13: error: VirtualService default/myapp-virtualservice: proxy router~") {
				return "not told on the terminal"
			}
			return ""
		})
		w := httptest.NewRecorder()
		pages := &serve.Pages{Plane: m.Plane()}
		pages.Monitoring().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		if !strings.Contains(w.Body.String(), `pilot_total_xds_rejects{type="rds"} `) {
			t.Error("pilot_total_xds_rejects has no rejected routes")
		}
		if got := tr.after(t, 400); !within5Sigma(share(got, "v2"), len(got), 0.3) {
			t.Errorf("of %d requests %d went to v2, want the 30%% of the last good version", len(got), share(got, "v2"))
		}

		// Another object: a new way in, and a second proxy for both.
		write(t, dir, "other.yaml", `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: other}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 9090, name: http-other, protocol: HTTP}, hosts: ["*"]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: other}
spec:
  hosts: ["*"]
  gateways: [other]
  http: [{route: [{destination: {host: myapp, subset: v1}}]}]
`)
		const replicas = "name: istio-ingressgateway\nspec:\n  replicas: "
		edit(t, dir, "gateway.yaml", replicas+"1", replicas+"2")
		envoytest.Eventually(t, 30*time.Second, func() string {
			a, err := m.Gateway("other", 9090)
			if err != nil {
				return err.Error()
			}
			if r := get(c, "http://"+a+"/"); r.err != "" || r.version != "v1" {
				return fmt.Sprintf("answer %q: %s", r.version, r.err)
			}
			return ""
		})
		want := 2
		// The second gateway never saw the good version before. On loopback
		// it is a class of its own, by its addresses: nothing of it is good yet.
		if mode == up.Loopback {
			want = 1
		}
		envoytest.Eventually(t, 30*time.Second, func() string {
			serving := 0
			for _, g := range m.Gateways() {
				if g.Port != 80 {
					continue
				}
				if r := get(c, "http://"+g.Address+"/"); r.err == "" {
					serving++
				}
			}
			if serving < want {
				return fmt.Sprintf("%d gateways serve the last good routes", serving)
			}
			return ""
		})

		edit(t, dir, "myapp.yaml", "NONE:a", "ROUTE:a")
		envoytest.Eventually(t, 20*time.Second, func() string {
			for _, p := range m.Plane().Problems() {
				if p.Code == "ProxyRejected" {
					return p.String()
				}
			}
			return ""
		})
		if got := tr.after(t, 200); share(got, "v2") != len(got) {
			t.Errorf("mended: of %d requests %d went to v2", len(got), share(got, "v2"))
		}
		all := tr.end()
		if f := failures(all); len(f) > 0 {
			t.Errorf("%d of %d requests failed:\n%s", len(f), len(all), strings.Join(f[:min(len(f), 10)], "\n"))
		}
	})
}
