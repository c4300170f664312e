package traffic

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/certs"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// TestGateway covers the way in: HTTPS of both modes, the redirect to it, and
// a certificate that is replaced while clients come and go.
func TestGateway(t *testing.T) {
	ca := certs.New(t)
	dir := copied(t, "base", "gateway")
	secret := func(name string, serial int64) {
		stage.Write(t, filepath.Join(dir, name+".yaml"), ca.Secret(name, name+".test", serial))
	}
	secret("simple", 7)
	secret("mutual", 1)
	secret("optional", 1)
	s := &theme{stage.Start(t, dir, up.Loopback)}
	anyone, known, stranger := s.outsider(t, ca.Client("")), s.outsider(t, ca.Client("someone")), ca.Client("")
	stranger.Certificates = certs.New(t).Client("someone").Certificates

	for _, c := range []struct {
		client *http.Client
		probe
	}{
		{anyone, probe{name: "redirect", url: "http://simple.test/x", status: 301, answers: headers{"location": "https://simple.test/x"}}},
		{anyone, probe{name: "SIMPLE", url: "https://simple.test/", by: "a"}},
		{anyone, probe{name: "SIMPLE, routed", url: "https://simple.test/b", by: "b"}},
		{anyone, probe{name: "OPTIONAL_MUTUAL without", url: "https://optional.test/", by: "a"}},
		{known, probe{name: "OPTIONAL_MUTUAL with", url: "https://optional.test/b", by: "b"}},
		{known, probe{name: "MUTUAL", url: "https://mutual.test/b", by: "b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := ask(t.Context(), c.client, c.probe)
			if err != nil {
				t.Fatal(err)
			}
			c.check(t, r)
			// The gateway shows the sidecar its own certificate; before that
			// stands the client's, if there was one.
			seen := strings.Split(r.Echo.Headers.Get("X-Forwarded-Client-Cert"), ",")
			if withOne := strings.Contains(seen[0], `Subject="CN=someone`); r.Status == 200 && withOne != (c.client == known) {
				t.Errorf("client certificate seen %v, want %v: %q", withOne, c.client == known, seen)
			}
		})
	}
	t.Run("OPTIONAL_MUTUAL, another authority's", func(t *testing.T) {
		if r, err := ask(t.Context(), s.outsider(t, stranger), probe{url: "https://optional.test/"}); err == nil {
			t.Errorf("came in: status %d", r.Status)
		}
	})
	for name, c := range map[string]*http.Client{"no certificate": anyone, "another authority's": s.outsider(t, stranger)} {
		t.Run("MUTUAL, "+name, func(t *testing.T) {
			if r, err := ask(t.Context(), c, probe{url: "https://mutual.test/"}); err == nil {
				t.Errorf("came in: status %d", r.Status)
			}
		})
	}
	t.Run("rotation", func(t *testing.T) {
		if got := shown(t, s.outsider(t, ca.Client(""))); got != 7 {
			t.Errorf("certificate %d, want 7", got)
		}
		secret("simple", 8)
		envoytest.Eventually(t, patience, func() string {
			if got := shown(t, anyone); got != 8 {
				return fmt.Sprintf("certificate %d, want 8", got)
			}
			return ""
		})
	})
}

// outsider comes to the gateway from outside of the mesh, by a new connection
// for each request.
func (s *theme) outsider(t *testing.T, c *tls.Config) *http.Client {
	t.Helper()
	at := map[string]string{"80": s.At("ingress", 80), "443": s.At("ingress", 443)}
	return &http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: c,
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				_, port, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				return (&net.Dialer{}).DialContext(ctx, "tcp", at[port])
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// shown is the serial number of the certificate that simple.test shows; a
// request that fails fails the test.
func shown(t *testing.T, c *http.Client) int64 {
	t.Helper()
	resp, err := c.Get("https://simple.test/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.TLS.PeerCertificates[0].SerialNumber.Int64()
}
