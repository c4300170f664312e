package examples

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/up"
)

// TestTelemetryAddons: each addon is at its name over TLS, plain HTTP leads
// there, and one of them is for some addresses only.
func TestTelemetryAddons(t *testing.T) {
	needOpenSSL(t)
	s := run(t, "telemetry-addons", up.Loopback, func(dir string) {
		if out, err := exec.Command(filepath.Join(dir, "make-secret.sh")).CombinedOutput(); err != nil {
			t.Fatalf("make-secret.sh: %v\n%s", err, out)
		}
	})
	plain := s.Outside("istio-system/addons", 80)
	if a := plain.Get(t, "/x", "Host", "grafana.example.com"); a.Status != http.StatusMovedPermanently || a.Header.Get("Location") != "https://grafana.example.com/x" {
		t.Errorf("plain HTTP: %v to %q, want 301 to https", a, a.Header.Get("Location"))
	}
	gateway := to(s.At("istio-system/addons", 443))
	const office, elsewhere = "203.0.113.7", "198.51.100.1"
	for _, c := range []struct {
		addon, from string
		status      int
	}{
		{"grafana", elsewhere, 200}, {"tracing", elsewhere, 200}, {"prometheus", office, 200}, {"prometheus", elsewhere, 403}, {"kiali", office, 404},
	} {
		a := overTLS(t, c.addon+".example.com", gateway).Get(t, "/", "X-Forwarded-For", c.from)
		if a.Status != c.status || c.status == 200 && a.Echo.Workload != c.addon {
			t.Errorf("%s from %s: %v, want %d", c.addon, c.from, a, c.status)
		}
	}
}
