package telemetry

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// TestSkyWalkingExample: both sidecars report segments of one trace by
// SkyWalking's protocol, with the token, the tags, and who refers to whom.
func TestSkyWalkingExample(t *testing.T) {
	c, port := startSkyWalking(t)
	dir := stage.Copy(t, "../../examples/tracing-skywalking")
	file := filepath.Join(dir, "telemetry.yaml")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	stage.Write(t, file, strings.Replace(string(b), "grpc: 11800", fmt.Sprintf("grpc: %d", port), 1))
	s := stage.Start(t, dir, up.Loopback)
	for _, p := range s.Plane().Problems() {
		t.Errorf("the example has a problem: %v", p)
	}
	r := s.Inside("curl", "http://httpbin:8000").Get(t, "/sky")
	if r.Echo.Headers.Get("Sw8") == "" {
		t.Errorf("the application got %v, want the header sw8", r.Echo.Headers)
	}
	var client, server skySpan
	envoytest.Eventually(t, stage.Patience, func() string {
		for _, x := range c.spans("/sky") {
			switch {
			case x.service == "curl.default":
				client = x
			case x.service == "httpbin.default" && x.parentService != "":
				server = x
			}
		}
		if client.trace == "" || server.trace == "" {
			return fmt.Sprintf("spans of both sidecars are wanted: %+v", c.spans("/sky"))
		}
		return ""
	})
	if server.trace != client.trace || server.parentSegment != client.segment || server.parentService != client.service {
		t.Errorf("the server's segment does not refer to the client's:\n%+v\n%+v", client, server)
	}
	if server.tags["environment"] != "example" || client.tags["environment"] != "example" {
		t.Errorf("tags %v and %v", client.tags, server.tags)
	}
	if c.token != "example-token" {
		t.Errorf("token %q", c.token)
	}
}

// TestTracesInDatadog: both sidecars report spans of one trace by the protocol
// of Datadog's agent, and pass its headers on.
func TestTracesInDatadog(t *testing.T) {
	d, port := startDatadog(t)
	text := strings.NewReplacer("tracing: [otel]", "tracing: [dd]",
		"    - name: otel", "    - name: dd\n      datadog: {service: collector.example.com, port: 9411}\n    - name: otel").Replace(otlpTracing)
	s := mesh(t, &collector{t: t, otlp: 4317, zipkin: port}, up.Loopback, text)
	const trace, parent = "5208512171318403364", "1234567890123456789"
	r := s.Inside("curl", "http://web:8080").Get(t, "/dog", "X-User", "jane", "X-Datadog-Trace-Id", trace, "X-Datadog-Parent-Id", parent, "X-Datadog-Sampling-Priority", "1")
	var client, server datadogSpan
	envoytest.Eventually(t, stage.Patience, func() string {
		for _, x := range d.spans("/dog") {
			switch x.service {
			case "curl.default":
				client = x
			case "web.default":
				server = x
			}
		}
		if client.id == 0 || server.id == 0 {
			return fmt.Sprintf("spans of both sidecars are wanted: %+v", d.spans("/dog"))
		}
		return ""
	})
	if fmt.Sprint(client.trace) != trace || fmt.Sprint(client.parent) != parent || server.trace != client.trace || server.parent != client.id {
		t.Errorf("the spans do not go on the trace and one another:\n%+v\n%+v", client, server)
	}
	if client.meta["user"] != "jane" || server.meta["fixed"] != "always" || server.meta["http.status_code"] != "200" {
		t.Errorf("tags %v and %v", client.meta, server.meta)
	}
	if h := r.Echo.Headers; h.Get("X-Datadog-Trace-Id") != trace || h.Get("X-Datadog-Parent-Id") != fmt.Sprint(server.id) {
		t.Errorf("the application got %v, want the trace and the server's span %d", h, server.id)
	}
}

// TestSkyWalkingInCollector: OpenTelemetry's receiver of SkyWalking's protocol
// makes one trace of what both sidecars report.
func TestSkyWalkingInCollector(t *testing.T) {
	c, port, _ := startContrib(t)
	dir := stage.Copy(t, "../../examples/tracing-skywalking")
	file := filepath.Join(dir, "telemetry.yaml")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	stage.Write(t, file, strings.Replace(string(b), "grpc: 11800", fmt.Sprintf("grpc: %d", port), 1))
	s := stage.Start(t, dir, up.Loopback)
	s.Inside("curl", "http://httpbin:8000").Get(t, "/collected")
	envoytest.Eventually(t, stage.Patience, func() string {
		all := c.all("url", "/collected")
		services, traces := map[string]bool{}, map[string]bool{}
		for _, x := range all {
			services[x.service], traces[x.Trace] = true, true
			if x.Attributes.get("environment") != "example" {
				t.Errorf("%+v has no tag", x)
			}
		}
		if !services["curl.default"] || !services["httpbin.default"] || len(traces) != 1 {
			return fmt.Sprintf("spans of both sidecars in one trace are wanted: %+v", all)
		}
		return ""
	})
}

// TestDatadogInCollector: OpenTelemetry's receiver of the protocol of Datadog's
// agent makes one trace of what both sidecars report.
func TestDatadogInCollector(t *testing.T) {
	c, _, port := startContrib(t)
	text := strings.NewReplacer("tracing: [otel]", "tracing: [dd]",
		"    - name: otel", "    - name: dd\n      datadog: {service: collector.example.com, port: 9411}\n    - name: otel").Replace(otlpTracing)
	s := mesh(t, &collector{t: t, otlp: 4317, zipkin: port}, up.Loopback, text)
	s.Inside("curl", "http://web:8080").Get(t, "/collected", "X-User", "jane")
	envoytest.Eventually(t, stage.Patience, func() string {
		var client, server span
		for _, x := range c.all("url.full", "/collected") {
			switch x.service {
			case "curl.default":
				client = x
			case "web.default":
				server = x
			}
		}
		if client.ID == "" || server.Parent != client.ID || server.Trace != client.Trace || client.Attributes.get("user") != "jane" {
			return fmt.Sprintf("spans of both sidecars in one trace are wanted: %+v", c.all("url.full", "/collected"))
		}
		return ""
	})
}
