package examples

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"testing"
	"time"

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
	})
}
