package up_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/up"
	"github.com/pilotfish-mesh/pilotfish/up/echo"
)

const external = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: by-name}
spec:
  hosts: [api.example.com]
  location: MESH_EXTERNAL
  resolution: DNS
  ports:
  - {number: 8000, name: http, protocol: HTTP}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: secured}
spec:
  hosts: [secure.example.com]
  location: MESH_EXTERNAL
  resolution: DNS
  ports:
  - {number: 8001, name: http, protocol: HTTP, targetPort: 8443}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: secured}
spec:
  host: secure.example.com
  trafficPolicy:
    tls: {mode: SIMPLE, sni: secure.example.com, insecureSkipVerify: true}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: by-address}
spec:
  hosts: [static.example.com]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports:
  - {number: 8002, name: http, protocol: HTTP}
  endpoints:
  - {address: 198.51.100.7}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: alias}
spec:
  hosts: [alias.example.com]
  location: MESH_EXTERNAL
  resolution: DNS
  ports:
  - {number: 8003, name: http, protocol: HTTP, targetPort: 8080}
  endpoints:
  - {address: myapp.default.svc.cluster.local}
`

func answer(t *testing.T, c *http.Client, url string) echo.Answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	var a echo.Answer
	if err := json.Unmarshal(body, &a); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s", url, resp.Status, body)
	}
	return a
}

// Hosts of ServiceEntries that nobody in the folder serves are answered by the
// world outside, found by the mesh's own DNS.
func TestOutside(t *testing.T) {
	inModes(t, func(t *testing.T, mode up.Mode) {
		dir := canary(t)
		if err := os.WriteFile(dir+"/external.yaml", []byte(external), 0o644); err != nil {
			t.Fatal(err)
		}
		m, _ := start(t, up.Options{Paths: []string{dir}, Mode: mode})
		c, err := m.Client("myapp-v1")
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseIdleConnections()
		if a := answer(t, c, "http://api.example.com:8000/x"); a.Pod != "outside" || a.Host != "api.example.com:8000" || a.Port != 8000 || a.TLS != nil {
			t.Errorf("api.example.com is %+v", a)
		}
		if a := answer(t, c, "http://secure.example.com:8001/"); a.Pod != "outside" || a.Port != 8443 || a.TLS == nil || a.TLS.SNI != "secure.example.com" {
			t.Errorf("secure.example.com is %+v over %+v", a, a.TLS)
		}
		if a := answer(t, c, "http://alias.example.com:8003/"); a.Port != 8080 || a.Version == "" {
			t.Errorf("alias.example.com is %+v", a)
		}
		// A host that is described while the mesh runs is found as well.
		write(t, dir, "later.yaml", strings.NewReplacer("by-name", "later", "api.example.com", "later.example.com").Replace(strings.Split(external, "---")[0]))
		envoytest.Eventually(t, 10*time.Second, func() string {
			resp, err := c.Get("http://later.example.com:8000/")
			if err != nil {
				return err.Error()
			}
			_ = resp.Body.Close()
			if resp.Header.Get(echo.PodHeader) != "outside" {
				return "later.example.com: " + resp.Status
			}
			return ""
		})
		if mode == up.Loopback {
			return // needs addresses of its own
		}
		if a := answer(t, c, "http://static.example.com:8002/"); a.Pod != "outside" || a.Port != 8002 {
			t.Errorf("static.example.com is %+v", a)
		}
		// What nobody describes goes through, as outboundTrafficPolicy says.
		if a := answer(t, c, "http://unknown.example.org:8000/"); a.Pod != "outside" || a.Host != "unknown.example.org:8000" {
			t.Errorf("unknown.example.org is %+v", a)
		}
	})
}
