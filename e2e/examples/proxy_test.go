package examples

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/certs"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// TestEgressProxy asks the proxy of the example, then a real one in its place,
// to connect to a server that the mesh does not know.
func TestEgressProxy(t *testing.T) {
	ca := certs.New(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Host)
	}))
	server.TLS = ca.Server(partner)
	server.StartTLS()
	t.Cleanup(server.Close)
	var asked atomic.Value
	proxy := httptest.NewServer(connects(&asked, server.Listener.Addr().String()))
	t.Cleanup(proxy.Close)

	s := run(t, "egress-proxy", up.Loopback, nil)
	dial, err := s.Dialer("client")
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]up.DialFunc{"client": dial, "gateway": to(s.At("shop", 3128))} {
		if got := connect(t, d); !strings.Contains(got, `"method":"CONNECT"`) || !strings.Contains(got, `"host":"`+partner+`:443"`) {
			t.Errorf("%s: the example's proxy says %s", name, got)
		}
	}
	s.Delivered(func() {
		s.Edit("proxy.yaml", "  workloadSelector:\n    labels: {app: proxy}\n",
			fmt.Sprintf("  endpoints:\n  - {address: 127.0.0.1, ports: {tcp: %d}}\n", proxy.Listener.Addr().(*net.TCPAddr).Port))
	})
	through := &http.Transport{
		DialContext: dial, TLSClientConfig: ca.Client(""), DisableKeepAlives: true,
		Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy.partner.example:3128"}),
	}
	c := &stage.Caller{Client: &http.Client{Transport: through, Timeout: stage.Patience}, Base: "https://" + partner}
	if a := c.Get(t, "/"); a.Status != http.StatusOK || a.Body != partner || asked.Load() != partner+":443" {
		t.Errorf("through the proxy: %v, which was asked for %v; want 200 from %s", a, asked.Load(), partner)
	}
}

// connects is a proxy for CONNECT (RFC 9110 section 9.3.6) that finds every
// host at one address, and remembers what it was asked for.
func connects(asked *atomic.Value, address string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		asked.Store(r.Host)
		far, err := net.Dial("tcp", address)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer func() { _ = far.Close() }()
		near, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = near.Close() }()
		_, _ = io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(far, near); _ = far.Close() }()
		_, _ = io.Copy(near, far)
	})
}

// connect asks the example's proxy for a connection and returns its answer.
func connect(t *testing.T, dial up.DialFunc) string {
	t.Helper()
	c, err := dial(t.Context(), "tcp", "proxy.partner.example:3128")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(stage.Patience))
	if _, err := fmt.Fprintf(c, "CONNECT %[1]s:443 HTTP/1.1\r\nHost: %[1]s:443\r\nConnection: close\r\n\r\n", partner); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}
