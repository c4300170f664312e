package extensions

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

const bootstrapFilter = `apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: stats, namespace: default}
spec:
  workloadSelector: {labels: {app: web}}
  configPatches:
  - applyTo: BOOTSTRAP
    patch:
      operation: MERGE
      value: {stats_config: {stats_tags: [{tag_name: team, fixed_value: blue}]}}
  - applyTo: BOOTSTRAP
    patch:
      operation: MERGE
      value: {stats_config: {stats_tags: [{tag_name: where, regex: "^(cluster)"}], histogram_bucket_settings: [{match: {prefix: cluster}, buckets: [1, 10]}]}}
`

// Beside the proxy's own Unix socket this is no address.
const brokenBootstrap = `apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: broken, namespace: default}
spec:
  workloadSelector: {labels: {app: late}}
  configPatches:
  - applyTo: BOOTSTRAP
    patch:
      operation: MERGE
      value: {admin: {address: {socket_address: {port_value: 15000}}}}
---
apiVersion: v1
kind: Service
metadata: {name: late, namespace: default}
spec: {selector: {app: late}, ports: [{name: http, port: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: late, namespace: default}
spec:
  selector: {matchLabels: {app: late}}
  template:
    metadata: {labels: {app: late}}
    spec: {containers: [{name: c, image: c}]}
`

// TestBootstrap: an EnvoyFilter's patches are in the bootstrap that Envoys of the
// selected workload start with. One whose result is not valid is left out, and
// told.
func TestBootstrap(t *testing.T) {
	dir := stage.Copy(t, "testdata")
	stage.Write(t, dir+"/f.yaml", bootstrapFilter)
	w := &world{stage.StartWith(t, dir, up.Options{Mode: up.Loopback}), t}
	tagged := map[string]bool{}
	for _, p := range w.Plane().Server.Proxies() {
		var b bytes.Buffer
		if err := w.WriteMetrics(t.Context(), &b, p.Proxy.Namespace, p.Proxy.Name); err != nil {
			t.Fatal(err)
		}
		tagged[p.Proxy.Labels["app"]] = strings.Contains(b.String(), `team="blue"`)
	}
	if !tagged["web"] || tagged["shop"] {
		t.Errorf("with the tag: %v, want web alone", tagged)
	}
	w.gives("web", "200")
	w.Write("late.yaml", brokenBootstrap)
	w.gives("late", "200")
	var told []string
	for _, p := range w.Plane().Problems() {
		if p.Code == "PatchInvalid" && p.Object == (config.Key{Group: "networking.istio.io", Kind: "EnvoyFilter", Namespace: "default", Name: "broken"}) {
			told = append(told, p.Field)
		}
	}
	if len(told) != 1 || told[0] != "spec.configPatches[0]" {
		t.Errorf("told of %q, want of spec.configPatches[0]", told)
	}
}

// TestPatchThatEnvoyRefuses: what only Envoy itself knows to be wrong is told of the
// EnvoyFilter, and proxies keep what they had.
func TestPatchThatEnvoyRefuses(t *testing.T) {
	w := start(t)
	filter := func(code string) string {
		return `apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: script, namespace: default}
spec:
  workloadSelector: {labels: {app: web}}
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: SIDECAR_INBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: script
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, default_source_code: {inline_string: "` + code + `"}}
`
	}
	w.Write("f.yaml", filter("function envoy_on_response(h) h:headers():add('x-wasm', 'patched') end"))
	w.gives("web", "200 patched")
	w.Write("f.yaml", filter("function envoy_on_response(h h:headers() end"))
	w.told("networking.istio.io", "EnvoyFilter", "script")
	w.gives("web", "200 patched") // the last good one
	w.Remove("f.yaml")
	w.gives("web", "200")
}
