package listeners

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/e2e/certs"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

const overQUIC = `
apiVersion: v1
kind: Service
metadata: {name: ingress, namespace: default}
spec:
  clusterIP: 10.0.0.1
  selector: {istio: ingressgateway}
  ports: [{name: https, port: 8443}, {name: http3, port: 8443, protocol: UDP}, {name: tcp-only, port: 9443}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 8443, name: https, protocol: HTTPS}
    hosts: [a.test]
    tls: {mode: SIMPLE, credentialName: a}
  - port: {number: 9443, name: other, protocol: HTTPS}
    hosts: [a.test]
    tls: {mode: SIMPLE, credentialName: a}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all, namespace: default}
spec:
  hosts: [a.test]
  gateways: [gw]
  http:
  - route: [{destination: {host: app.test}}]
`

// TestGatewaySpeaksHTTP3: where the gateway's Service lets UDP in on a port, a
// client reaches the same routes over QUIC, and those that come over TCP are told
// of it; on the other port they are not.
func TestGatewaySpeaksHTTP3(t *testing.T) {
	ca := certs.New(t)
	m := newMesh(t, overQUIC+service("app", 80, "HTTP", backend(t, "app", false))+"---\n"+ca.Secret("a", "a.test", 1))
	at := m.proxy(config.Router, ingress)
	for port, offered := range map[string]bool{"8443": true, "9443": false} {
		eventually(t, func() error {
			_, _, err := get(at+":"+port, "a.test", ca.Client(""))
			return err
		})
		if got := altSvc(t, at+":"+port, ca); strings.Contains(got, `h3=":8443"`) != offered {
			t.Errorf("port %s offers %q", port, got)
		}
	}
	client := quicClient(t, at, 8443, "a.test", ca)
	eventually(t, func() error {
		body, _, err := get(client, "a.test", nil)
		if err == nil && body != "app" {
			err = fmt.Errorf("answer %q", body)
		}
		return err
	})
	if body, _, err := get(quicClient(t, at, 8443, "a.test", certs.New(t)), "a.test", nil); err == nil {
		t.Errorf("a client that trusts another authority was answered %q", body)
	}
}

// altSvc is what an answer over TCP says about other ways.
func altSvc(t *testing.T, address string, ca *certs.Authority) string {
	t.Helper()
	tr := transport(address, ca.Client(""))
	resp, err := (&http.Client{Timeout: 5 * time.Second, Transport: tr}).Get("https://a.test/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.Header.Get("Alt-Svc")
}

// quicClient is an Envoy that passes what it is asked in plain HTTP on over
// HTTP/3 and nothing else. It returns the address to ask.
func quicClient(t *testing.T, host string, port int, name string, ca *certs.Authority) string {
	t.Helper()
	type o = map[string]any
	typed := func(name, typ string, v o) o {
		v["@type"] = "type.googleapis.com/envoy.extensions." + typ
		return o{"name": name, "typed_config": v}
	}
	address := func(host string, port int) o {
		return o{"socket_address": o{"address": host, "port_value": port}}
	}
	manager := typed("http", "filters.network.http_connection_manager.v3.HttpConnectionManager", o{
		"stat_prefix": "client", "scheme_header_transformation": o{"scheme_to_overwrite": "https"},
		"route_config": o{"virtual_hosts": []any{o{
			"name": "all", "domains": []string{"*"},
			"routes": []any{o{"match": o{"prefix": "/"}, "route": o{"cluster": "quic"}}},
		}}},
		"http_filters": []any{typed("envoy.filters.http.router", "filters.http.router.v3.Router", o{})},
	})
	cluster := o{
		"name": "quic", "type": "STATIC",
		"load_assignment": o{"cluster_name": "quic", "endpoints": []any{o{
			"lb_endpoints": []any{o{"endpoint": o{"address": address(host, port)}}},
		}}},
		"typed_extension_protocol_options": o{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": o{
			"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"explicit_http_config": o{"http3_protocol_options": o{}},
		}},
		"transport_socket": typed("envoy.transport_sockets.quic", "transport_sockets.quic.v3.QuicUpstreamTransport", o{"upstream_tls_context": o{
			"sni":                name,
			"common_tls_context": o{"validation_context": o{"trusted_ca": o{"inline_string": string(ca.PEM())}}},
		}}),
	}
	socket := filepath.Join(t.TempDir(), "admin")
	bootstrap, err := json.Marshal(o{
		"node":  o{"id": "client", "cluster": "client"},
		"admin": o{"address": o{"pipe": o{"path": socket}}},
		"static_resources": o{
			"clusters":  []any{cluster},
			"listeners": []any{o{"name": "in", "address": address("127.0.0.1", 0), "filter_chains": []any{o{"filters": []any{manager}}}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	envoytest.Start(t, bootstrap)
	admin := envoytest.Admin(t, socket)
	var at string
	eventually(t, func() error {
		_, body, err := envoytest.Get(admin, "/listeners")
		if err != nil {
			return err
		}
		var ok bool
		if _, at, ok = strings.Cut(strings.TrimSpace(body), "in::"); !ok {
			return fmt.Errorf("no listener yet: %q", body)
		}
		return nil
	})
	return at
}
