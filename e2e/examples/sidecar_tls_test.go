package examples

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

func TestSidecarTLS(t *testing.T) {
	needOpenSSL(t)
	stage.EachMode(t, func(t *testing.T, mode up.Mode) {
		known := x509.NewCertPool()
		s := run(t, "sidecar-tls", mode, func(dir string) {
			if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil { //nolint:gosec // a proxy in a namespace is another user
				t.Fatal(err)
			}
			if out, err := exec.Command(filepath.Join(dir, "make-certificate.sh")).CombinedOutput(); err != nil {
				t.Fatalf("make-certificate.sh: %v\n%s", err, out)
			}
			cert, err := os.ReadFile(filepath.Join(dir, "made", "tls.crt"))
			if err != nil || !known.AppendCertsFromPEM(cert) {
				t.Fatalf("no certificate was made: %v", err)
			}
		})
		tr := &http.Transport{DialContext: to(s.At("shop", 443)), TLSClientConfig: &tls.Config{RootCAs: known, MinVersion: tls.VersionTLS12}}
		t.Cleanup(tr.CloseIdleConnections)
		c := &stage.Caller{Client: &http.Client{Transport: tr, Timeout: stage.Patience}, Base: "https://shop.example.com"}
		if a := c.Get(t, "/"); a.Status != http.StatusOK || a.Echo.Workload != "shop" || a.Echo.Port != 8080 || a.Echo.TLS != nil {
			t.Errorf("%v, TLS %v; want 200 from shop, which sees no TLS", a, a.Echo.TLS)
		}
	})
}
