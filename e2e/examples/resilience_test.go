package examples

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// TestCircuitBreaking: one request is under way, one waits for its connection,
// and all others are refused at once.
func TestCircuitBreaking(t *testing.T) {
	s := run(t, "circuit-breaking", up.Loopback, nil)
	c := outside(s)
	if a := c.Get(t, "/"); a.Status != http.StatusOK || a.Echo.Version != "v1" {
		t.Fatalf("alone: %v", a)
	}
	const n = 6
	type result struct {
		stage.Reply
		err error
	}
	results := make(chan result, n)
	for range n {
		go func() {
			a, err := c.Try(t.Context(), "/?delay=1s")
			results <- result{a, err}
		}()
	}
	served := 0
	for range n {
		switch r := <-results; {
		case r.err != nil:
			t.Error(r.err)
		case r.Status == http.StatusOK && r.Echo.Version == "v1":
			served++
		case r.Status != http.StatusServiceUnavailable || r.Header.Get("X-Envoy-Overloaded") != "true":
			t.Errorf("%v, headers %v; want 200, or 503 with x-envoy-overloaded", r.Reply, r.Header)
		}
	}
	if served != 2 {
		t.Errorf("%d of %d requests were served, want the one under way and the one that waits", served, n)
	}
	ejects(t, c)
}

// ejects: after five failures in a row the only instance is left out.
func ejects(t *testing.T, c *stage.Caller) {
	t.Helper()
	for range 5 {
		if a := c.Get(t, "/?status=500"); a.Status != http.StatusInternalServerError || a.Echo.Version != "v1" {
			t.Fatalf("a failure on demand: %v", a)
		}
	}
	envoytest.Eventually(t, 10*time.Second, func() string {
		if a := c.Get(t, "/"); a.Status != http.StatusServiceUnavailable || a.Echo.Workload != "" {
			return fmt.Sprintf("after five failures: %v, want 503 from the gateway", a)
		}
		return ""
	})
}

func TestLocalityLoadBalancing(t *testing.T) {
	s := run(t, "locality-load-balancing", up.Loopback, nil)
	c := outside(s)
	only := func(version string) string {
		if got := c.Versions(t, 30, "/"); got[version] != 30 {
			return fmt.Sprintf("answers from %v, want only %s", got, version)
		}
		return ""
	}
	if wrong := only("near"); wrong != "" {
		t.Fatal(wrong)
	}
	for _, step := range [][2]string{{"near", "beside"}, {"beside", "far"}} {
		s.Edit("reviews.yaml", "  name: reviews-"+step[0]+"\nspec:\n", "  name: reviews-"+step[0]+"\nspec:\n  replicas: 0\n")
		envoytest.Eventually(t, 20*time.Second, func() string { return only(step[1]) })
	}
}

func TestLocalityDistribution(t *testing.T) {
	s := run(t, "locality-distribution", up.Loopback, nil)
	c := outside(s)
	shares := func(n int, want map[string]float64) string {
		got := c.Versions(t, n, "/")
		for version, share := range want {
			if !fits(got[version], n, share) {
				return fmt.Sprintf("answers from %v, want shares of %v", got, want)
			}
		}
		return ""
	}
	if wrong := shares(500, map[string]float64{"near": 0.7, "beside": 0.2, "far": 0.1}); wrong != "" {
		t.Error(wrong)
	}
	s.Edit("locality.yaml", "west/zone-a/*: 70", "west/zone-a/*: 10", "east/*: 10", "east/*: 70")
	envoytest.Eventually(t, stage.Patience, func() string {
		return shares(200, map[string]float64{"near": 0.1, "beside": 0.2, "far": 0.7})
	})
}

func TestTCPTrafficShifting(t *testing.T) {
	s := run(t, "tcp-traffic-shifting", up.Loopback, nil)
	address := s.At("ledger", 9000)
	const n = 200
	seen := map[string]int{}
	for range n {
		seen[ledger(t, address)]++
	}
	if seen["v1"]+seen["v2"] != n || !fits(seen["v2"], n, 0.2) {
		t.Errorf("connections reached %v, want a fifth of them at v2", seen)
	}
}

// ledger says hello on a connection and returns the version that answers.
func ledger(t *testing.T, address string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"v1", "v2"} {
		if strings.Contains(string(buf[:n]), `"version":"`+v+`"`) {
			return v
		}
	}
	t.Fatalf("answer %q", buf[:n])
	return ""
}

func needOpenSSL(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("needs openssl: %v", err)
		}
		t.Skipf("needs openssl: %v", err)
	}
}

func TestSecureGateway(t *testing.T) {
	needOpenSSL(t)
	makeSecret := func(dir string) {
		if out, err := exec.Command(filepath.Join(dir, "make-secret.sh")).CombinedOutput(); err != nil {
			t.Fatalf("make-secret.sh: %v\n%s", err, out)
		}
	}
	s := run(t, "secure-gateway", up.Loopback, makeSecret)
	plain := outside(s)
	if a := plain.Get(t, "/x", "Host", "shop.example.com"); a.Status != http.StatusMovedPermanently || a.Header.Get("Location") != "https://shop.example.com/x" {
		t.Errorf("plain HTTP: %v to %q, want 301 to https", a, a.Header.Get("Location"))
	}
	first := secure(t, s)
	makeSecret(s.Dir)
	envoytest.Eventually(t, 10*time.Second, func() string {
		if secure(t, s) == first {
			return "the new certificate is not served"
		}
		return ""
	})
}

// secure makes one request over TLS and returns the certificate's serial
// number.
func secure(t *testing.T, s *stage.Stage) string {
	t.Helper()
	address := s.At("shop", 443)
	var cert *x509.Certificate
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		},
		TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, //nolint:gosec // self-signed; VerifyConnection looks at its name, the test at its number
			VerifyConnection: func(state tls.ConnectionState) error {
				cert = state.PeerCertificates[0]
				return cert.VerifyHostname("shop.example.com")
			},
		},
	}
	defer tr.CloseIdleConnections()
	c := &stage.Caller{Client: &http.Client{Transport: tr, Timeout: 10 * time.Second}, Base: "https://shop.example.com"}
	if a := c.Get(t, "/"); a.Status != http.StatusOK || a.Echo.Version != "v1" {
		t.Fatalf("over TLS: %v, want 200 from v1", a)
	}
	return cert.SerialNumber.String()
}
