package listeners

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/e2e/certs"
)

var ingress = map[string]string{"istio": "ingressgateway"}

// service is a ServiceEntry with one endpoint on this machine.
func service(name string, port int, protocol string, backend int) string {
	return fmt.Sprintf(`---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %s, namespace: default}
spec:
  hosts: [%s.test]
  resolution: STATIC
  location: MESH_EXTERNAL
  ports: [{number: %d, name: p, protocol: %s}]
  endpoints: [{address: 127.0.0.1, ports: {p: %d}}]
`, name, name, port, protocol, backend)
}

const twoServers = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 8443, name: https-a, protocol: HTTPS}
    hosts: [a.test]
    tls: {mode: SIMPLE, credentialName: a}
  - port: {number: 8443, name: https-b, protocol: HTTPS}
    hosts: [b.test]
    tls: {mode: MUTUAL, credentialName: b}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all, namespace: default}
spec:
  hosts: [a.test, b.test]
  gateways: [gw]
  http:
  - route: [{destination: {host: app.test}}]
`

// TestGatewayServersAreIndependent: a server whose Secret is missing refuses
// its clients and no others; it works once the Secret is there, and shows the
// new certificate after a rotation.
func TestGatewayServersAreIndependent(t *testing.T) {
	ca := certs.New(t)
	m := newMesh(t, twoServers+service("app", 80, "HTTP", backend(t, "app", false))+"---\n"+ca.Secret("b", "b.test", 1))
	at := m.proxy(config.Router, ingress) + ":8443"

	eventually(t, func() error {
		body, _, err := get(at, "b.test", ca.Client("someone"))
		if err == nil && body != "app" {
			err = fmt.Errorf("answer %q", body)
		}
		return err
	})
	if _, _, err := get(at, "b.test", ca.Client("")); err == nil {
		t.Error("a client without certificate came in at a server of mode MUTUAL")
	}
	if _, _, err := get(at, "b.test", certs.New(t).Client("someone")); err == nil {
		t.Error("a client of another authority came in")
	}
	if _, _, err := get(at, "a.test", ca.Client("")); err == nil {
		t.Error("a server without certificate answered")
	}
	serials := func(want int64) func() error {
		return func() error {
			_, state, err := get(at, "a.test", ca.Client(""))
			if err != nil {
				return err
			}
			if got := state.PeerCertificates[0].SerialNumber.Int64(); got != want {
				return fmt.Errorf("certificate %d, want %d", got, want)
			}
			if state.NegotiatedProtocol != "" && state.NegotiatedProtocol != "h2" && state.NegotiatedProtocol != "http/1.1" {
				return fmt.Errorf("protocol %q", state.NegotiatedProtocol)
			}
			return nil
		}
	}
	m.apply(ca.Secret("a", "a.test", 7))
	eventually(t, serials(7))
	m.apply(ca.Secret("a", "a.test", 8))
	eventually(t, serials(8))
}

// TestGatewayForwardsBySNI: TLS that the gateway does not take off reaches
// the server that its SNI means, and no other name gets anywhere.
func TestGatewayForwardsBySNI(t *testing.T) {
	ca := certs.New(t)
	var services strings.Builder
	for _, name := range []string{"a", "b"} {
		services.WriteString(service("tls-"+name, 443, "TLS", tlsBackend(t, ca, name+".test")))
	}
	m := newMesh(t, `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 8443, name: tls, protocol: TLS}
    hosts: ["*.test"]
    tls: {mode: PASSTHROUGH}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all, namespace: default}
spec:
  hosts: ["*.test"]
  gateways: [gw]
  tls:
  - match: [{sniHosts: [a.test]}]
    route: [{destination: {host: tls-a.test}}]
  - match: [{sniHosts: [b.test]}]
    route: [{destination: {host: tls-b.test}}]
`+services.String())
	at := m.proxy(config.Router, ingress) + ":8443"
	for _, name := range []string{"a.test", "b.test"} {
		eventually(t, func() error {
			c := ca.Client("")
			c.ServerName = name
			conn, err := tls.Dial("tcp", at, c)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			got, err := io.ReadAll(conn)
			if string(got) != name {
				return errors.Join(fmt.Errorf("answer %q, want %q", got, name), err) // err is often nil
			}
			return nil
		})
	}
	c := ca.Client("")
	c.ServerName = "c.test"
	if conn, err := tls.Dial("tcp", at, c); err == nil {
		_ = conn.Close()
		t.Error("a name that no route has got through")
	}
}

func tlsBackend(t *testing.T, ca *certs.Authority, name string) (port int) {
	t.Helper()
	shown := ca.Server(name)
	l := listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				s := tls.Server(c, shown)
				_, _ = io.WriteString(s, name)
				_ = s.Close()
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// TestGatewayForwardsByWeight: TCP connections are shared by weight, within
// binomial bounds; a conflicting server on the port changes nothing.
func TestGatewayForwardsByWeight(t *testing.T) {
	m := newMesh(t, `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 9000, name: tcp, protocol: TCP}
    hosts: ["*"]
  - port: {number: 9000, name: http, protocol: HTTP}
    hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all, namespace: default}
spec:
  hosts: ["*"]
  gateways: [gw]
  tcp:
  - match: [{port: 9000}]
    route:
    - {destination: {host: one.test}, weight: 80}
    - {destination: {host: two.test}, weight: 20}
`+service("one", 9000, "TCP", backend(t, "one", true))+service("two", 9000, "TCP", backend(t, "two", true)))
	at := m.proxy(config.Router, ingress) + ":9000"
	eventually(t, func() error { _, err := ask(at, ""); return err })
	const n, share = 400, 0.2
	got := map[string]int{}
	for range n {
		who, err := ask(at, "")
		if err != nil {
			t.Fatal(err)
		}
		got[who]++
	}
	if off := math.Abs(float64(got["two"])-n*share) / math.Sqrt(n*share*(1-share)); off > 5 || got["one"]+got["two"] != n {
		t.Errorf("%v of %d connections, %.1f standard deviations off 80 to 20", got, n, off)
	}
}

// TestSecretThatGoes: a gateway keeps the certificate that it has when its
// Secret goes, by either variant of ADS: Envoy has no way to be without one. The
// problem tells. It is withdrawn by the Gateway's no longer naming it.
func TestSecretThatGoes(t *testing.T) {
	for _, sotw := range []bool{false, true} {
		t.Run(fmt.Sprintf("sotw=%v", sotw), func(t *testing.T) {
			ca := certs.New(t)
			m := newMesh(t, twoServers+service("app", 80, "HTTP", backend(t, "app", false))+"---\n"+ca.Secret("a", "a.test", 7)+"---\n"+ca.Secret("b", "b.test", 1))
			m.sotw = sotw
			at := m.proxy(config.Router, ingress) + ":8443"
			answers := func() error {
				body, _, err := get(at, "a.test", ca.Client(""))
				if err == nil && body != "app" {
					err = fmt.Errorf("answer %q", body)
				}
				return err
			}
			missing := func() error {
				for _, p := range m.server.Problems() {
					if p.Code == "SecretNotFound" && p.Object.Name == "a" {
						return nil
					}
				}
				return fmt.Errorf("no problem tells of the Secret: %v", m.server.Problems())
			}
			eventually(t, answers)
			m.remove("Secret", "a")
			eventually(t, missing)
			for range 20 { // what was sent with it has long arrived
				if err := answers(); err != nil {
					t.Fatalf("without the Secret: %v", err)
				}
			}
			m.apply(strings.ReplaceAll(twoServers, "credentialName: a", "credentialName: b"))
			eventually(t, func() error {
				if err := answers(); err == nil {
					return errors.New("it still answers")
				}
				return nil
			})
		})
	}
}
