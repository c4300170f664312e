package examples

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// overTLS calls a host at an address by TLS. Applications of the mesh sign
// their own certificates, so only the name on them is looked at.
func overTLS(t *testing.T, host string, dial up.DialFunc) *stage.Caller {
	t.Helper()
	tr := &http.Transport{
		DialContext: dial,
		TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, //nolint:gosec // VerifyConnection looks at the name
			VerifyConnection: func(state tls.ConnectionState) error {
				return state.PeerCertificates[0].VerifyHostname(host)
			},
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &stage.Caller{Client: &http.Client{Transport: tr, Timeout: stage.Patience}, Base: "https://" + host}
}

// to connects to one address, whatever is asked for.
func to(address string) up.DialFunc {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
}

func TestPassthroughGateway(t *testing.T) {
	stage.EachMode(t, func(t *testing.T, mode up.Mode) {
		s := run(t, "passthrough-gateway", mode, nil)
		gateway := to(s.At("shop", 443))
		for host, workload := range map[string]string{"shop.example.com": "shop", "pay.example.com": "pay"} {
			a := overTLS(t, host, gateway).Get(t, "/")
			if a.Status != http.StatusOK || a.Echo.Workload != workload || a.Echo.TLS == nil || a.Echo.TLS.SNI != host {
				t.Errorf("%s: %v, TLS %v; want 200 from %s over the client's TLS", host, a, a.Echo.TLS, workload)
			}
		}
		if a, err := overTLS(t, "other.example.com", gateway).Try(t.Context(), "/"); err == nil {
			t.Errorf("another name came in: %v", a)
		}
	})
}

func TestEgressTLSOrigination(t *testing.T) {
	stage.EachMode(t, func(t *testing.T, mode up.Mode) {
		s := run(t, "egress-tls-origination", mode, nil)
		for name, c := range map[string]*stage.Caller{
			"client": s.Inside("client", "http://"+partner), "gateway": outside(s),
		} {
			a := c.Get(t, "/", "Host", partner)
			if a.Status != http.StatusOK || a.Echo.Workload != "partner" || a.Echo.TLS == nil || a.Echo.TLS.SNI != partner {
				t.Errorf("%s: %v, TLS %v; want 200 from partner over TLS", name, a, a.Echo.TLS)
			}
			a = c.Get(t, "/?delay=3s", "Host", partner)
			if a.Status != http.StatusGatewayTimeout || a.Took < time.Second-stage.Early || a.Took > 2900*time.Millisecond {
				t.Errorf("%s: %v after %v, want 504 after 1 s", name, a, a.Took)
			}
		}
		dial, err := s.Dialer("client")
		if err != nil {
			t.Fatal(err)
		}
		a := overTLS(t, partner, dial).Get(t, "/?delay=1500ms")
		if a.Status != http.StatusOK || a.Echo.Workload != "partner" || a.Echo.TLS == nil || a.Echo.TLS.SNI != partner {
			t.Errorf("the client's own TLS: %v, TLS %v; want 200 from partner, with no timeout", a, a.Echo.TLS)
		}
		s.Edit("partner.yaml", "        insecureSkipVerify: true\n", "")
		envoytest.Eventually(t, 10*time.Second, func() string {
			if a := outside(s).Get(t, "/", "Host", partner); a.Status != http.StatusServiceUnavailable || a.Echo.Workload != "" {
				return fmt.Sprintf("a certificate of no known authority: %v, want 503", a)
			}
			return ""
		})
	})
}

func TestEgressWildcard(t *testing.T) {
	stage.EachMode(t, func(t *testing.T, mode up.Mode) {
		s := run(t, "egress-wildcard", mode, nil)
		dial, err := s.Dialer("client")
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{partner, "de.shop.partner.example"} {
			for name, c := range map[string]*stage.Caller{
				"client": s.Inside("client", "http://"+host), "gateway": outside(s),
			} {
				if a := c.Get(t, "/", "Host", host); a.Status != http.StatusOK || a.Echo.Workload != "outside" || a.Echo.Host != host {
					t.Errorf("%s of %s: %v, want 200 from outside", host, name, a)
				}
			}
			a := overTLS(t, host, dial).Get(t, "/")
			if a.Status != http.StatusOK || a.Echo.Workload != "outside" || a.Echo.TLS == nil || a.Echo.TLS.SNI != host {
				t.Errorf("%s over TLS: %v, TLS %v; want 200 from outside", host, a, a.Echo.TLS)
			}
		}
		const unknown = "partner.unknown.example"
		if a := outside(s).Get(t, "/", "Host", unknown); a.Status != http.StatusNotFound || a.Echo.Workload != "" {
			t.Errorf("an unknown host through the gateway: %v, want 404", a)
		}
		if a := s.Inside("client", "http://"+unknown).Get(t, "/"); a.Status != http.StatusBadGateway || a.Echo.Workload != "" {
			t.Errorf("an unknown host from the client: %v, want 502", a)
		}
		if a, err := overTLS(t, unknown, dial).Try(t.Context(), "/"); err == nil {
			t.Errorf("an unknown host over TLS: %v, want no connection", a)
		}
	})
}
