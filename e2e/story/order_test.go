package story

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// sequence is that of the newest Mesh.
func (s *stage) sequence() uint64 { return s.mesh.Plane().Store.Mesh().Sequence }

// delivered waits until a Mesh after the given one has reached every proxy.
func (s *stage) delivered(after uint64) {
	s.t.Helper()
	envoytest.Eventually(s.t, 10*time.Second, func() string {
		plane := s.mesh.Plane()
		now := s.sequence()
		if now <= after {
			return "the change has not been noticed"
		}
		if m := plane.Cache.Mesh(); m == nil || m.Sequence != now {
			return "the change is not served yet"
		}
		for _, c := range plane.Server.Changes() {
			if c.Reached < c.Proxies {
				return "not every proxy has acknowledged the change"
			}
		}
		return ""
	})
}

// TestEveryOrder applies the objects of myapp.yaml in every order while the
// Service is called from inside the mesh: a route whose subset does not exist
// yet must not replace the one that works.
func TestEveryOrder(t *testing.T) {
	objects := map[string]string{}
	b, err := os.ReadFile("../../examples/canary/myapp.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range strings.Split(string(b), "\n---\n") {
		for _, kind := range []string{"Gateway", "VirtualService", "DestinationRule"} {
			if strings.Contains(doc, "kind: "+kind+"\n") {
				objects[kind] = doc
			}
		}
	}
	// The route applies inside the mesh as well.
	objects["VirtualService"] = strings.NewReplacer(
		`hosts: ["*"]`, `hosts: [myapp, shop.example.com]`,
		`gateways: [myapp-gateway]`, `gateways: [myapp-gateway, mesh]`).Replace(objects["VirtualService"])
	for _, order := range [][]string{
		{"Gateway", "VirtualService", "DestinationRule"}, {"Gateway", "DestinationRule", "VirtualService"},
		{"VirtualService", "Gateway", "DestinationRule"}, {"VirtualService", "DestinationRule", "Gateway"},
		{"DestinationRule", "Gateway", "VirtualService"}, {"DestinationRule", "VirtualService", "Gateway"},
	} {
		t.Run(strings.Join(order, ","), func(t *testing.T) {
			s := newStage(t, up.Loopback, func(dir string) {
				if err := os.Remove(filepath.Join(dir, "myapp.yaml")); err != nil {
					t.Fatal(err)
				}
			})
			l := start(t, s.sidecar)
			s.sidecar.count(t, 50)
			for _, kind := range order {
				before := s.sequence()
				s.write(kind+".yaml", objects[kind])
				s.delivered(before)
				s.sidecar.count(t, 50)
			}
			s.shifts(s.sidecar, 0.3)
			s.enter()
			s.shifts(s.gateway, 0.3)
			l.stop(t)
		})
	}
}
