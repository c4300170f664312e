package telemetry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

const otlpTracing = `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: otel
      opentelemetry: {service: collector.example.com, port: 4317}
    - name: zipkin
      zipkin: {service: collector.example.com, port: 9411, traceContextOption: USE_B3_WITH_W3C_PROPAGATION}
    defaultProviders: {tracing: [otel]}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: default}
spec:
  tracing:
  - randomSamplingPercentage: 100
    customTags:
      fixed: {literal: {value: always}}
      user: {header: {name: x-user, defaultValue: nobody}}
      none: {environment: {name: NO_SUCH_VARIABLE, defaultValue: unset}}
      method: {formatter: {value: "%REQ(:METHOD)% %PROTOCOL%"}}
`

// pair waits for the spans of a request at both sidecars, joined in one trace.
func pair(t *testing.T, c *collector, path string) (client, server span) {
	t.Helper()
	envoytest.Eventually(t, stage.Patience, func() string {
		all := c.spans(path)
		if len(all) != 2 {
			return fmt.Sprintf("%d spans of %s, want 2: %+v", len(all), path, all)
		}
		for i, s := range all {
			if other := all[1-i]; s.Parent == other.ID {
				client, server = other, s
				return ""
			}
		}
		return fmt.Sprintf("neither span is the other's parent: %+v", all)
	})
	if client.Trace != server.Trace {
		t.Errorf("two traces: %+v, %+v", client, server)
	}
	return client, server
}

// A request's spans at the client's and the server's sidecar are one trace,
// say who they are, and carry the tags that are asked for.
func TestTracesInOTLP(t *testing.T) {
	c := startCollector(t)
	s := mesh(t, c, up.Loopback, otlpTracing)
	web := s.Inside("curl", "http://web:8080")
	r := web.Get(t, "/first", "X-User", "jane")
	client, server := pair(t, c, "/first")
	if client.service != "curl.default" || server.service != "web.default" || client.Kind != 3 || server.Kind != 2 || client.Parent != "" {
		t.Errorf("client %+v\nserver %+v", client, server)
	}
	// Both are named after the service that was called.
	if operation := "web.default.svc.cluster.local:8080/*"; client.Name != operation || server.Name != operation {
		t.Errorf("operations %q and %q, want %q", client.Name, server.Name, operation)
	}
	for key, want := range map[string]string{
		"fixed": "always", "user": "jane", "none": "unset", "method": "GET HTTP/1.1", "istio.canonical_service": "browser",
		"istio.canonical_revision": "v2", "istio.namespace": "default", "istio.cluster_id": "Kubernetes", "istio.mesh_id": "cluster.local",
	} {
		if got := client.Attributes.get(key); got != want {
			t.Errorf("client's tag %s is %q, want %q", key, got, want)
		}
	}
	if got := server.Attributes.get("istio.canonical_service"); got != "web" {
		t.Errorf("the server's service is %q", got)
	}
	// W3C's header has gone to the application.
	if got := r.Echo.Headers.Get("Traceparent"); !strings.HasPrefix(got, "00-"+server.Trace+"-"+server.ID) {
		t.Errorf("traceparent of the application is %q, want the server's span %+v", got, server)
	}
	// A trace that began outside goes on.
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	web.Get(t, "/second", "Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	if client, _ := pair(t, c, "/second"); client.Trace != trace || client.Parent != "00f067aa0ba902b7" {
		t.Errorf("%+v does not go on trace %s", client, trace)
	}
}

// A trace that begins at a gateway goes on at the sidecar behind it. The gateway
// makes two spans: of the request that it got and of the one that it sent on.
func TestTracesFromGateway(t *testing.T) {
	c := startCollector(t)
	s := mesh(t, c, up.Loopback, strings.Replace(otlpTracing, "{name: default}", "{name: default, namespace: istio-system}", 1)+"---"+throughGateway)
	s.Outside("gateway", 80).Get(t, "/outside", "X-User", "jane")
	const server, client = 2, 3
	var got, sent, web span
	envoytest.Eventually(t, stage.Patience, func() string {
		all := c.all("", "")
		for _, s := range all {
			switch {
			case s.service == "web.default" && s.Kind == server:
				web = s
			case s.service == "istio-ingressgateway.istio-system" && s.Kind == server:
				got = s
			case s.service == "istio-ingressgateway.istio-system" && s.Kind == client:
				sent = s
			}
		}
		if len(all) != 3 || web.Parent != sent.ID || sent.Parent != got.ID {
			return fmt.Sprintf("want the web's span below the one that was sent, and that one below the one that the gateway got: %+v", all)
		}
		return ""
	})
	if got.Parent != "" || got.Attributes.get("user") != "jane" || got.Trace != web.Trace || sent.Trace != web.Trace {
		t.Errorf("gateway %+v and %+v\nweb %+v", got, sent, web)
	}
	if ns := got.Attributes.get("istio.namespace"); ns != "istio-system" {
		t.Errorf("the gateway's namespace is %q", ns)
	}
}

// Without a share only requests are traced that were chosen before, and a
// workload may report no spans at all.
func TestSampling(t *testing.T) {
	c := startCollector(t)
	s := mesh(t, c, up.Loopback, strings.Replace(otlpTracing, "randomSamplingPercentage: 100", "randomSamplingPercentage: 0", 1))
	web := s.Inside("curl", "http://web:8080")
	for range 20 {
		web.Get(t, "/unchosen")
	}
	const trace = "0af7651916cd43dd8448eb211c80319c"
	web.Get(t, "/chosen", "Traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	web.Get(t, "/refused", "Traceparent", "00-"+trace+"-b7ad6b7169203331-00")
	web.Get(t, "/last", "Traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	pair(t, c, "/chosen")
	pair(t, c, "/last") // whatever came before it would have arrived
	if some := append(c.spans("/unchosen"), c.spans("/refused")...); len(some) > 0 {
		t.Errorf("spans of requests that nobody chose: %+v", some)
	}
	s.Edit("mesh.yaml", "randomSamplingPercentage: 0", "disableSpanReporting: true\n    match: {mode: SERVER}")
	envoytest.Eventually(t, stage.Patience, func() string {
		path := fmt.Sprintf("/client-only-%d", len(c.spans("/client-only")))
		web.Get(t, path, "Traceparent", "00-"+trace+"-b7ad6b7169203331-01")
		web.Get(t, path+"/end", "Traceparent", "00-"+trace+"-b7ad6b7169203331-01")
		if n := len(c.spans(path + "/end")); n != 1 {
			return fmt.Sprintf("%d spans, want the client's alone", n)
		}
		return ""
	})
}

// Zipkin's spans and B3 headers, in and out.
func TestTracesInZipkin(t *testing.T) {
	c := startCollector(t)
	s := mesh(t, c, up.Loopback, strings.Replace(otlpTracing, "tracing: [otel]", "tracing: [zipkin]", 1))
	const trace, parent = "463ac35c9f6413ad48485a3953bb6124", "a2fb4a1d1a96d312"
	r := s.Inside("curl", "http://web:8080").Get(t, "/b3", "X-B3-TraceId", trace, "X-B3-SpanId", parent, "X-B3-Sampled", "1")
	client, server := pair(t, c, "/b3")
	if client.Trace != trace || client.Parent != parent || client.service != "curl.default" || server.Attributes.get("fixed") != "always" {
		t.Errorf("client %+v\nserver %+v", client, server)
	}
	h := r.Echo.Headers
	if h.Get("X-B3-Traceid") != trace || h.Get("X-B3-Spanid") != server.ID || h.Get("X-B3-Sampled") != "1" {
		t.Errorf("the application got %v, want B3 headers of %+v", h, server)
	}
	if !strings.HasPrefix(h.Get("Traceparent"), "00-"+trace) {
		t.Errorf("traceparent of the application is %q", h.Get("Traceparent"))
	}
}

// Without a provider, ProxyConfig says where spans go.
func TestTracesByProxyConfig(t *testing.T) {
	c := startCollector(t)
	s := mesh(t, c, up.Loopback, `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    defaultConfig: {tracing: {zipkin: {address: "127.0.0.1:ZIPKIN"}, sampling: 100, customTags: {fixed: {literal: {value: always}}}}}
`)
	s.Inside("curl", "http://web:8080").Get(t, "/older")
	if client, server := pair(t, c, "/older"); client.service != "curl.default" || server.Attributes.get("fixed") != "always" {
		t.Errorf("client %+v\nserver %+v", client, server)
	}
}
