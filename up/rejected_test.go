package up_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/serve"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// A route that a real Envoy refuses is told with object, file and line; its last good
// version serves on, also from proxies that come later; other objects change.
func TestRouteRejectedByEnvoy(t *testing.T) {
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
		monitoring := monitoring(t, m)
		toldOverHTTP(t, monitoring, told)
		counted(t, monitoring, "rds", "router~")
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
		envoytest.Eventually(t, 20*time.Second, func() string { // the problem goes before the routes have come
			if got := tr.after(t, 50); share(got, "v2") != len(got) {
				return fmt.Sprintf("mended: of %d requests %d went to v2", len(got), share(got, "v2"))
			}
			return ""
		})
		all := tr.end()
		if f := failures(all); len(f) > 0 {
			t.Errorf("%d of %d requests failed:\n%s", len(f), len(all), strings.Join(f[:min(len(f), 10)], "\n"))
		}
	})
}

// An EnvoyFilter is code for Envoy, which alone can tell whether it is any good.
// What it does to a listener that others share spoils nothing of it.
func TestListenerRejectedByEnvoy(t *testing.T) {
	inModes(t, func(t *testing.T, mode up.Mode) {
		dir := canary(t)
		m, _ := start(t, up.Options{Paths: []string{dir}, Mode: mode})
		addr, err := m.Gateway("myapp-gateway", 80)
		if err != nil {
			t.Fatal(err)
		}
		c := newClient(t)
		tr := startTraffic(t, c, "http://"+addr+"/")
		write(t, dir, "lua.yaml", `
# The script does not parse.
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: script}
spec:
  workloadSelector: {labels: {istio: ingressgateway}}
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: GATEWAY, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.lua
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
          default_source_code: {inline_string: "function envoy_on_request("}
`)
		monitoring := monitoring(t, m)
		toldOverHTTP(t, monitoring, config.Problem{
			Object: config.Key{Group: "networking.istio.io", Kind: "EnvoyFilter", Namespace: "default", Name: "script"},
			Code:   "ProxyRejected", File: "lua.yaml", Line: 3, Message: "script load error",
		})
		counted(t, monitoring, "lds", "router~")

		// A gateway that comes now has never seen the good version. In namespaces
		// it is of the same class as the first one, which has.
		edit(t, dir, "gateway.yaml", "name: istio-ingressgateway\nspec:\n  replicas: 1", "name: istio-ingressgateway\nspec:\n  replicas: 2")
		want := 2
		if mode == up.Loopback {
			want = 1 // a class of its own, by its addresses
		}
		envoytest.Eventually(t, 30*time.Second, func() string {
			gateways, serving := m.Gateways(), 0
			if len(gateways) < 2 {
				return fmt.Sprintf("gateways %v", gateways)
			}
			for _, g := range gateways {
				if g.Port == 80 && get(c, "http://"+g.Address+"/").err == "" {
					serving++
				}
			}
			if serving < want {
				return fmt.Sprintf("%d gateways serve the last good listener", serving)
			}
			return ""
		})

		edit(t, dir, "lua.yaml", "function envoy_on_request(", "function envoy_on_request(h) h:headers():add('x-script', 'ran') end")
		envoytest.Eventually(t, 20*time.Second, func() string {
			if page := read(t, monitoring+"/debug/problems"); strings.Contains(page, "ProxyRejected") {
				return page
			}
			return ""
		})
		if got := tr.after(t, 200); len(got) == 0 {
			t.Error("no requests after the script was mended")
		}
		all := tr.end()
		if f := failures(all); len(f) > 0 {
			t.Errorf("%d of %d requests failed:\n%s", len(f), len(all), strings.Join(f[:min(len(f), 10)], "\n"))
		}
	})
}

// monitoring serves the pages of a mesh's control plane over HTTP.
func monitoring(t *testing.T, m *up.Mesh) string {
	t.Helper()
	s := httptest.NewServer((&serve.Pages{Plane: m.Plane()}).Monitoring())
	t.Cleanup(s.Close)
	return s.URL
}

func read(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url) //nolint:noctx // a page of this process
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return string(b)
}

// toldOverHTTP waits until /debug/problems tells a problem: of that object, at
// that line of a file with that name, whose message holds that text.
func toldOverHTTP(t *testing.T, monitoring string, want config.Problem) {
	t.Helper()
	envoytest.Eventually(t, 20*time.Second, func() string {
		page := read(t, monitoring+"/debug/problems")
		var list []config.Problem
		if err := json.Unmarshal([]byte(page), &list); err != nil {
			t.Fatalf("%v: %s", err, page)
		}
		for _, p := range list {
			if p.Code == want.Code && p.Object == want.Object && p.Line == want.Line && p.Line > 0 &&
				strings.HasSuffix(p.File, want.File) && strings.Contains(p.Message, want.Message) {
				return ""
			}
		}
		return "problems are " + page
	})
}

// counted waits until the metrics count a rejection of a type, and name a proxy
// that made it.
func counted(t *testing.T, monitoring, kind, proxy string) {
	t.Helper()
	total := regexp.MustCompile(`(?m)^pilot_total_xds_rejects\{type="` + kind + `"\} [1-9]`)
	by := regexp.MustCompile(`(?m)^pilot_xds_` + kind + `_reject\{err="[^"]+",node="` + proxy + `[^"]*"\} [1-9]`)
	envoytest.Eventually(t, 20*time.Second, func() string {
		page := read(t, monitoring+"/metrics")
		if !total.MatchString(page) || !by.MatchString(page) {
			return "no rejection of " + kind + " in the metrics:\n" + page
		}
		return ""
	})
}
