package examples

import (
	"net/http"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/up"
)

const partner = "api.partner.example"

// inside calls as the application of a workload does.
func (s *stage) inside(workload, base string) *caller {
	s.t.Helper()
	c, err := s.mesh.Client(workload)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.CloseIdleConnections)
	return &caller{client: c, base: base}
}

func TestEgress(t *testing.T) {
	namespaces(t, func(t *testing.T, mode up.Mode) {
		s := run(t, "egress", mode, nil)
		for name, c := range map[string]*caller{
			"client": s.inside("client", "http://"+partner), "gateway": s.outside(),
		} {
			if a := c.get(t, "/", "Host", partner); a.status != http.StatusOK || a.Workload != "partner" || a.Host != partner {
				t.Errorf("%s: %v, want 200 from partner", name, a)
			}
			a := c.get(t, "/?delay=3s", "Host", partner)
			if a.status != http.StatusGatewayTimeout || a.took < time.Second-early || a.took > 2900*time.Millisecond {
				t.Errorf("%s: %v after %v, want 504 after 1 s", name, a, a.took)
			}
		}
		if a := s.outside().get(t, "/", "Host", "api.unknown.example"); a.status != http.StatusNotFound || a.Workload != "" {
			t.Errorf("an unknown host through the gateway: %v, want 404", a)
		}
		if a := s.inside("client", "http://api.unknown.example").get(t, "/"); a.status != http.StatusBadGateway || a.Workload != "" {
			t.Errorf("an unknown host from the client: %v, want 502", a)
		}
	})
}

func TestEgressGateway(t *testing.T) {
	s := run(t, "egress-gateway", up.Loopback, nil)
	for name, c := range map[string]*caller{
		"client": s.inside("client", "http://"+partner), "gateway": s.outside(),
	} {
		for range 10 {
			a := c.get(t, "/", "Host", partner)
			if a.status != http.StatusOK || a.Workload != "partner" || a.Headers.Get("X-Left-By") != "egressgateway" {
				t.Fatalf("%s: %v, want 200 from partner by way of the egress gateway", name, a)
			}
		}
	}
}
