package story

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/up"
)

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
			s := start(t, up.Loopback, func(dir string) {
				if err := os.Remove(filepath.Join(dir, "myapp.yaml")); err != nil {
					t.Fatal(err)
				}
			})
			l := load(t, s.sidecar)
			s.sidecar.Versions(t, 50, "/")
			for _, kind := range order {
				s.Delivered(func() { s.Write(kind+".yaml", objects[kind]) })
				s.sidecar.Versions(t, 50, "/")
			}
			s.shifts(s.sidecar, 0.3)
			s.enter()
			s.shifts(s.gateway, 0.3)
			l.stop(t)
		})
	}
}
