package traffic

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// TestIntercepted covers what only redirected connections meet: destinations
// that the mesh does not know, resolution NONE, and a Sidecar's ways in and
// out. All hosts outside of the mesh are one server.
func TestIntercepted(t *testing.T) {
	stage.NeedNamespaces(t)
	s := &theme{stage.Start(t, copied(t, "intercepted"), up.Namespaces)}
	s.probes(t, []probe{
		{name: "ALLOW_ANY, unknown", url: "http://unknown.example.org:8000/x", by: "outside", host: "unknown.example.org:8000", path: "/x"},
		{name: "ALLOW_ANY, unknown port", url: "http://unknown.example.org:8001/", by: "outside"},
		{name: "REGISTRY_ONLY, unknown", from: "strict", url: "http://unknown.example.org:8000/", status: 502},
		{name: "REGISTRY_ONLY, known", from: "strict", url: "http://none.test:8000/", by: "outside"},
		{name: "REGISTRY_ONLY, of the mesh", from: "strict", url: "http://server/", by: "server"},
		{name: "egress proxy, unknown", from: "behind", url: "http://unknown.example.org:8000/", by: "server", host: "unknown.example.org:8000"},
		{name: "egress proxy, known", from: "behind", url: "http://none.test:8000/", by: "outside"},
		{name: "egress hosts, one of them", from: "narrow", url: "http://none.test:8000/", by: "outside", saw: headers{"x-routed": "yes"}},
		{name: "egress hosts, another", from: "narrow", url: "http://a.wild.test:8000/", status: 502},
		{name: "NONE", url: "http://none.test:8000/", by: "outside", host: "none.test:8000", saw: headers{"x-routed": "yes"}},
		{name: "NONE, wildcard", url: "http://a.wild.test:8000/", by: "outside", host: "a.wild.test:8000", saw: headers{"x-routed": ""}},
		{name: "NONE, wildcard, known", from: "strict", url: "http://a.wild.test:8000/", by: "outside"},
		{name: "DNS", from: "strict", url: "http://dns.test:8002/", by: "outside", host: "dns.test:8002"},
		{name: "DNS_ROUND_ROBIN", from: "strict", url: "http://round-robin.test:8003/", by: "outside", host: "round-robin.test:8003"},
		{name: "DYNAMIC_DNS", from: "strict", url: "http://a.dynamic.test:8004/", by: "outside", host: "a.dynamic.test:8004"},
		{name: "DYNAMIC_DNS, another", from: "strict", url: "http://b.dynamic.test:8004/", by: "outside", host: "b.dynamic.test:8004"},
	})
	t.Run("Sidecar ingress", func(t *testing.T) {
		if r := s.send(t, probe{url: "http://server/"}); r.Echo.Workload != "server" || r.Echo.Port != 8080 {
			t.Errorf("%v at port %d, want server's 8080", r, r.Echo.Port)
		}
	})
	for from, known := range map[string]bool{"client": true, "strict": false} {
		t.Run("TCP from "+from, func(t *testing.T) {
			if got := s.line(t, from, "tcp.test:8001"); !strings.Contains(got, `"workload":"outside"`) {
				t.Errorf("answered %q", got)
			}
			got := s.reaches(t, from, "192.0.2.1:8001")
			if known != strings.Contains(got, `"workload":"outside"`) {
				t.Errorf("an address that nobody knows answered %q", got)
			}
		})
	}
}

// reaches is what a connection answers to a line; empty if it is refused.
func (s *theme) reaches(t *testing.T, from, address string) string {
	t.Helper()
	dial, err := s.Dialer(from)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := dial(ctx, "tcp", address)
	if err != nil {
		return ""
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(c, "hello\n")
	b := make([]byte, 4096)
	n, _ := c.Read(b)
	return string(b[:n])
}
