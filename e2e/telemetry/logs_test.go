package telemetry

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

const accessLogs = `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: text
      envoyFileAccessLog: {path: DIR/text.log}
    - name: json
      envoyFileAccessLog: {path: DIR/json.log, logFormat: {labels: {}}}
    - name: mine
      envoyFileAccessLog: {path: DIR/mine.log, logFormat: {text: "%CEL(request.path.upperAscii() + '!')% %RESPONSE_CODE%"}}
    - name: otel
      envoyOtelAls:
        service: collector.example.com
        port: 4317
        logFormat: {text: "%REQ(:METHOD)% %REQ(:PATH)%", labels: {code: "%RESPONSE_CODE%", workload: "%CEL(xds.node.metadata['WORKLOAD_NAME'])%"}}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: default}
spec:
  accessLogging:
  - providers: [{name: text}, {name: json}, {name: mine}]
    match: {mode: SERVER}
    filter: {expression: "response.code >= 400 && !request.url_path.startsWith('/quiet')"}
  - providers: [{name: otel}]
    match: {mode: CLIENT}
`

// textEntry is Istio's documented default format.
var textEntry = regexp.MustCompile(`^\[[^\]]+\] "GET /loud\?status=503 HTTP/1\.1" 503 - via_upstream - "-" 0 \d+ \d+ \d+ "-" "[^"]+" "[^"]+" "web:8080" "[^"]+" inbound\|8080\|\| \S+ \S+ \S+ \S+ default$`)

// Logs in files, as text and JSON in Istio's formats and in one of the user's
// own, of those requests that the filter lets through; and logs at a collector.
func TestAccessLogs(t *testing.T) {
	c := startCollector(t)
	s := mesh(t, c, up.Loopback, accessLogs)
	web := s.Inside("curl", "http://web:8080")
	for _, path := range []string{"/fine", "/quiet?status=503", "/loud?status=503"} {
		web.Get(t, path)
	}
	envoytest.Eventually(t, stage.Patience, func() string {
		for _, name := range []string{"text.log", "json.log", "mine.log"} {
			if n := len(lines(t, filepath.Join(c.dir, name))); n != 1 {
				return name + ": not one entry"
			}
		}
		return ""
	})
	if got := string(lines(t, filepath.Join(c.dir, "text.log"))[0]); !textEntry.MatchString(got) {
		t.Errorf("entry %s", got)
	}
	if got := string(lines(t, filepath.Join(c.dir, "mine.log"))[0]); got != "/LOUD?STATUS=503! 503" {
		t.Errorf("entry %s", got)
	}
	var entry map[string]any
	if err := json.Unmarshal(lines(t, filepath.Join(c.dir, "json.log"))[0], &entry); err != nil {
		t.Fatal(err)
	}
	if entry["method"] != "GET" || entry["path"] != "/loud?status=503" || entry["response_code"] != 503.0 || entry["authority"] != "web:8080" || len(entry) != 24 {
		t.Errorf("%d fields: %v", len(entry), entry)
	}
	envoytest.Eventually(t, stage.Patience, func() string {
		var got []string
		for _, r := range c.records() {
			if r.log != "otel_envoy_accesslog" || r.Attributes.get("workload") != "curl" {
				t.Fatalf("%+v", r)
			}
			got = append(got, r.Body.Text+" "+r.Attributes.get("code"))
		}
		if all := strings.Join(got, ", "); all != "GET /fine 200, GET /quiet?status=503 503, GET /loud?status=503 503" {
			return all
		}
		return ""
	})
}
