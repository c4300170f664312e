package examples

import (
	"net/http"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

const partner = "api.partner.example"

func TestEgress(t *testing.T) {
	stage.EachMode(t, func(t *testing.T, mode up.Mode) {
		s := run(t, "egress", mode, nil)
		for name, c := range map[string]*stage.Caller{
			"client": s.Inside("client", "http://"+partner), "gateway": outside(s),
		} {
			if a := c.Get(t, "/", "Host", partner); a.Status != http.StatusOK || a.Echo.Workload != "partner" || a.Echo.Host != partner {
				t.Errorf("%s: %v, want 200 from partner", name, a)
			}
			a := c.Get(t, "/?delay=3s", "Host", partner)
			if a.Status != http.StatusGatewayTimeout || a.Took < time.Second-stage.Early || a.Took > 2900*time.Millisecond {
				t.Errorf("%s: %v after %v, want 504 after 1 s", name, a, a.Took)
			}
		}
		if a := outside(s).Get(t, "/", "Host", "api.unknown.example"); a.Status != http.StatusNotFound || a.Echo.Workload != "" {
			t.Errorf("an unknown host through the gateway: %v, want 404", a)
		}
		if a := s.Inside("client", "http://api.unknown.example").Get(t, "/"); a.Status != http.StatusBadGateway || a.Echo.Workload != "" {
			t.Errorf("an unknown host from the client: %v, want 502", a)
		}
	})
}

func TestEgressGateway(t *testing.T) {
	s := run(t, "egress-gateway", up.Loopback, nil)
	for name, c := range map[string]*stage.Caller{
		"client": s.Inside("client", "http://"+partner), "gateway": outside(s),
	} {
		for range 10 {
			a := c.Get(t, "/", "Host", partner)
			if a.Status != http.StatusOK || a.Echo.Workload != "partner" || a.Echo.Headers.Get("X-Left-By") != "egressgateway" {
				t.Fatalf("%s: %v, want 200 from partner by way of the egress gateway", name, a)
			}
		}
	}
}

func TestEgressGatewayTLS(t *testing.T) {
	s := run(t, "egress-gateway-tls", up.Loopback, nil)
	for name, c := range map[string]*stage.Caller{
		"client": s.Inside("client", "http://"+partner), "gateway": outside(s),
	} {
		a := c.Get(t, "/", "Host", partner)
		if a.Status != http.StatusOK || a.Echo.Workload != "partner" || a.Echo.Headers.Get("X-Left-By") != "egressgateway" {
			t.Fatalf("%s: %v, want 200 from partner by way of the egress gateway", name, a)
		}
		if a.Echo.TLS == nil || a.Echo.TLS.SNI != partner {
			t.Errorf("%s: TLS %v, want the gateway's, for %s", name, a.Echo.TLS, partner)
		}
	}
}

func TestEgressServices(t *testing.T) {
	stage.NeedNamespaces(t)
	s := run(t, "egress-services", up.Namespaces, nil)
	for name, c := range map[string]*stage.Caller{
		"alias": s.Inside("client", "http://alias"), "listed": s.Inside("client", "http://listed"),
	} {
		if a := c.Get(t, "/"); a.Status != http.StatusOK || a.Echo.Workload != "outside" {
			t.Errorf("%s: %v, want 200 from outside", name, a)
		}
	}
	for _, host := range []string{"alias.example", "listed.example"} {
		if a := outside(s).Get(t, "/", "Host", host); a.Status != http.StatusOK || a.Echo.Workload != "outside" {
			t.Errorf("%s through the gateway: %v, want 200 from outside", host, a)
		}
	}
	if a := s.Inside("client", "http://listed").Get(t, "/?delay=3s"); a.Status != http.StatusGatewayTimeout || a.Took < time.Second-stage.Early {
		t.Errorf("listed: %v after %v, want 504 after 1 s", a, a.Took)
	}
}
