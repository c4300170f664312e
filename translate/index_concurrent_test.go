package translate

import (
	"fmt"
	"sync"
	"testing"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// TestIndexesAreSharedByGoroutines gathers from one Index and from the next at the
// same time, for the race detector.
func TestIndexesAreSharedByGoroutines(t *testing.T) {
	tr := NewTranslator(1000)
	b := config.NewBuilder(meshOf(40, 40))
	config.Put(b, func(m *config.Mesh) *config.Index[*config.SidecarScope] { return &m.Sidecars }, &config.SidecarScope{
		Meta: config.Meta{Key: config.Key{Kind: "Sidecar", Namespace: "ns-0", Name: "default"}, Hash: 1},
		Spec: &networking.Sidecar{Egress: []*networking.IstioEgressListener{{Hosts: []string{"./*"}}}},
	})
	m := b.Mesh()
	var wg sync.WaitGroup
	for round := range 10 {
		next := config.NewBuilder(m)
		putVirtualServices(next, virtualService("ns-0", "svc-1", canarySpec("svc-1", int32(round))))
		putServices(next, service("ns-1", fmt.Sprintf("new-%d", round), 80))
		m = next.Mesh()
		now := m
		for range 4 {
			wg.Go(func() {
				ix := tr.Index(now)
				for _, c := range []Class{shopClass("ns-0"), shopClass("ns-1"), {Side: Inbound, Namespace: "ns-0"}, {Side: GatewaySide, Namespace: "ns-0"}} {
					tr.Translate(ix.Scope(c))
				}
			})
		}
	}
	wg.Wait()
}
