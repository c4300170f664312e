package up_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/up"
	"github.com/pilotfish-mesh/pilotfish/up/echo"
)

const guarded = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: web
      containers: [{name: c, image: c, ports: [{containerPort: 8080}, {containerPort: 7070}, {name: own, containerPort: 6060}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{name: http, port: 8080}, {name: any, port: 7070}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: sleep}
spec:
  selector: {matchLabels: {app: sleep}}
  template:
    metadata: {labels: {app: sleep}}
    spec: {serviceAccountName: sleep, containers: [{name: c, image: c}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: legacy}
spec:
  selector: {matchLabels: {app: legacy}}
  template:
    metadata: {labels: {app: legacy, sidecar.istio.io/inject: "false"}}
    spec: {containers: [{name: c, image: c}]}
`

// peers are a client of the mesh and one without a sidecar.
type peers struct {
	t             *testing.T
	member, plain *http.Client
	address       string // of the server's pod
}

func newPeers(t *testing.T, m *up.Mesh) *peers {
	t.Helper()
	p := &peers{t: t}
	for name, c := range map[string]**http.Client{"sleep": &p.member, "legacy": &p.plain} {
		made, err := m.Client(name)
		if err != nil {
			t.Fatal(err)
		}
		// Each request has a connection of its own, so that none is left of
		// the policy before.
		made.Transport.(*http.Transport).DisableKeepAlives = true
		*c = made
	}
	for _, w := range m.Workloads() {
		if w.Name == "web" {
			p.address = w.Pods[0].Address
		}
	}
	return p
}

// outcome is "refused", or who the application was told that the caller is.
func outcome(c *http.Client, url string) string {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	req.Host = "web.default.svc.cluster.local"
	resp, err := c.Do(req)
	if err != nil {
		return "refused"
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Sprintf("%d %s", resp.StatusCode, body)
	}
	var a echo.Answer
	if err := json.Unmarshal(body, &a); err != nil {
		return string(body)
	}
	for _, part := range strings.Split(a.Headers.Get("X-Forwarded-Client-Cert"), ";") {
		if uri, ok := strings.CutPrefix(part, "URI="); ok {
			return uri
		}
	}
	return "nobody"
}

const sleepID = "spiffe://cluster.local/ns/default/sa/sleep"

// expect waits until the outcomes are those wanted: of the member's requests to
// a port that speaks HTTP and to one that says nothing, and of the others' to
// those and to a port that no service has.
func (p *peers) expect(member, plain string) {
	p.t.Helper()
	envoytest.Eventually(p.t, 20*time.Second, func() string {
		for url, want := range map[string]string{"http://web:8080/": member, "http://web:7070/": member} {
			if got := outcome(p.member, url); got != want {
				return fmt.Sprintf("sleep at %s: %s, want %s", url, got, want)
			}
		}
		for _, port := range []int{8080, 7070} {
			if got := outcome(p.plain, fmt.Sprintf("http://%s:%d/", p.address, port)); got != plain {
				return fmt.Sprintf("legacy at %d: %s, want %s", port, got, plain)
			}
		}
		return ""
	})
}

func policy(name, spec string) string {
	return "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: " + name + "}\nspec: " + spec + "\n"
}

// TestMutualTLS: members of the mesh know each other by certificates, PERMISSIVE
// lets in who has none, STRICT does not, and DISABLE goes without.
func TestMutualTLS(t *testing.T) {
	inModes(t, func(t *testing.T, mode up.Mode) {
		dir := t.TempDir()
		write(t, dir, "mesh.yaml", guarded)
		m, _ := start(t, up.Options{Paths: []string{dir}, Mode: mode})
		p := newPeers(t, m)
		p.expect(sleepID, "nobody")

		write(t, dir, "peers.yaml", policy("strict", "{mtls: {mode: STRICT}}"))
		p.expect(sleepID, "refused")
		if mode == up.Namespaces { // elsewhere nothing is redirected
			if got := outcome(p.plain, "http://"+p.address+":6060/"); got != "refused" {
				t.Errorf("legacy at a port without a service: %s, want refused", got)
			}
		}

		write(t, dir, "peers.yaml", policy("disabled", "{mtls: {mode: DISABLE}}"))
		p.expect("nobody", "nobody")

		write(t, dir, "peers.yaml", policy("port", "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {7070: {mode: DISABLE}}}"))
		envoytest.Eventually(t, 20*time.Second, func() string {
			for _, c := range []struct {
				client    *http.Client
				url, want string
			}{
				{p.member, "http://web:8080/", sleepID},
				{p.member, "http://web:7070/", "nobody"},
				{p.plain, "http://" + p.address + ":8080/", "refused"},
				{p.plain, "http://" + p.address + ":7070/", "nobody"},
			} {
				if got := outcome(c.client, c.url); got != c.want {
					return fmt.Sprintf("%s: %s, want %s", c.url, got, c.want)
				}
			}
			return ""
		})
	})
}

// TestServerIsWhoItShouldBe: a client takes nobody for a service but an account
// that runs behind it, also one whose certificate is good.
func TestServerIsWhoItShouldBe(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "mesh.yaml", guarded)
	m, _ := start(t, up.Options{Paths: []string{dir}, Mode: up.Loopback})
	p := newPeers(t, m)
	p.expect(sleepID, "nobody")
	for _, c := range []struct{ account, want string }{{"other", "503 "}, {"web", sleepID}} {
		write(t, dir, "rule.yaml", fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec:
  host: web
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL, subjectAltNames: ["spiffe://cluster.local/ns/default/sa/%s"]}}
`, c.account))
		envoytest.Eventually(t, 20*time.Second, func() string {
			if got := outcome(p.member, "http://web:8080/"); !strings.HasPrefix(got, c.want) {
				return fmt.Sprintf("the server must be %s: %s, want %s", c.account, got, c.want)
			}
			return ""
		})
	}
}

// TestTrustDomainChanges: identities follow the mesh's trust domain, and the one
// of before counts as long as it is an alias.
func TestTrustDomainChanges(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "mesh.yaml", guarded)
	m, _ := start(t, up.Options{Paths: []string{dir}, Mode: up.Loopback})
	newPeers(t, m).expect(sleepID, "nobody")
	write(t, dir, "istio.yaml", `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "{trustDomain: new.example.com, trustDomainAliases: [cluster.local]}"}
`)
	write(t, dir, "peers.yaml", policy("strict", "{mtls: {mode: STRICT}}"))
	envoytest.Eventually(t, 60*time.Second, func() string {
		// The pods are others by then.
		if got := outcome(newPeers(t, m).member, "http://web:8080/"); got != "spiffe://new.example.com/ns/default/sa/sleep" {
			return "sleep is " + got
		}
		return ""
	})
}

const throughEgress = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: partner}
spec:
  hosts: [partner.example.com]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{name: http, number: 80, protocol: HTTP}]
---
apiVersion: v1
kind: Service
metadata: {name: egress}
spec:
  selector: {istio: egressgateway}
  ports: [{name: https, port: 443, targetPort: 8443}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: egress}
spec:
  selector: {matchLabels: {istio: egressgateway}}
  template:
    metadata: {labels: {istio: egressgateway}, annotations: {inject.istio.io/templates: gateway}}
    spec: {serviceAccountName: egress, containers: [{name: istio-proxy, image: auto}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress}
spec:
  selector: {istio: egressgateway}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [partner.example.com]
    tls: {mode: ISTIO_MUTUAL}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: egress}
spec:
  host: egress
  subsets:
  - name: partner
    trafficPolicy: {tls: {mode: ISTIO_MUTUAL, sni: partner.example.com}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: partner}
spec:
  hosts: [partner.example.com]
  gateways: [mesh, egress]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: egress, subset: partner, port: {number: 443}}}]
  - match: [{gateways: [egress], port: 443}]
    route: [{destination: {host: partner.example.com, port: {number: 80}}}]
`

// TestGatewayTakesMutualTLS: a gateway's ISTIO_MUTUAL server takes members of the
// mesh and nobody else.
func TestGatewayTakesMutualTLS(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "mesh.yaml", guarded)
	write(t, dir, "egress.yaml", throughEgress)
	m, _ := start(t, up.Options{Paths: []string{dir}, Mode: up.Loopback})
	member, err := m.Client("sleep")
	if err != nil {
		t.Fatal(err)
	}
	defer member.CloseIdleConnections()
	envoytest.Eventually(t, 20*time.Second, func() string {
		a := answer(t, member, "http://partner.example.com/")
		// The gateway tells who came to it, by its own and the client's certificate.
		seen := a.Headers.Get("X-Forwarded-Client-Cert")
		if !strings.Contains(seen, "URI="+sleepID) {
			return "the partner was told " + seen
		}
		return ""
	})
	address, err := m.Gateway("egress", 443)
	if err != nil {
		t.Fatal(err)
	}
	c, err := tls.Dial("tcp", address, &tls.Config{ServerName: "partner.example.com", InsecureSkipVerify: true}) // it must not come to trust
	if err == nil {
		_, err = c.Write([]byte("GET / HTTP/1.1\r\nHost: partner.example.com\r\n\r\n"))
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		_ = c.Close()
	}
	if err == nil {
		t.Error("a client without a certificate was answered")
	}
}
