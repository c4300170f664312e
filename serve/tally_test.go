package serve

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// randomly changes one object of a mesh.
func randomly(rng *rand.Rand, b *config.Builder) {
	name := fmt.Sprint("n", rng.IntN(6))
	host := name + ".shop.svc.cluster.local"
	gone := rng.IntN(4) == 0
	switch rng.IntN(3) {
	case 0:
		workloads := func(m *config.Mesh) *config.Index[*config.Workload] { return &m.Workloads }
		w := &config.Workload{Meta: config.Meta{Key: config.Key{Kind: "Pod", Namespace: "shop", Name: name}}, Ready: rng.IntN(2) == 0}
		if rng.IntN(2) == 0 {
			w.IPs = []string{"10.0.0.1"}
		}
		change(b, workloads, w, gone, "shop", name)
	case 1:
		services := func(m *config.Mesh) *config.Index[*config.Service] { return &m.Services }
		s := &config.Service{
			Meta: config.Meta{Key: config.Key{Kind: "Service", Namespace: "shop", Name: name}}, Hostname: host,
			PublishNotReady: rng.IntN(4) == 0, Resolution: config.Resolution(rng.IntN(2)),
		}
		for p := range rng.IntN(3) {
			s.Ports = append(s.Ports, config.ServicePort{Name: fmt.Sprint("p", p)})
		}
		change(b, services, s, gone, "shop", host)
	default:
		endpoints := func(m *config.Mesh) *config.Index[*config.Endpoints] { return &m.Endpoints }
		ports := map[string][]config.Endpoint{}
		for p := range rng.IntN(4) {
			for range rng.IntN(3) {
				key := fmt.Sprint("p", p)
				ports[key] = append(ports[key], config.Endpoint{Health: config.Health(rng.IntN(2))})
			}
		}
		change(b, endpoints, &config.Endpoints{ID: config.ServiceID{Hostname: host, Namespace: "shop"}, ByPort: ports}, gone, "shop", host)
	}
}

func change[T config.Keyed](b *config.Builder, field func(*config.Mesh) *config.Index[T], o T, gone bool, ns, name string) {
	if gone {
		config.Remove(b, field, ns, name)
	} else {
		config.Put(b, field, o)
	}
}

// TestTallyFollowsChanges: step by step, with steps left out, a tally says what
// one that has seen nothing before says.
func TestTallyFollowsChanges(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var followed tally
		var mesh *config.Mesh
		seen := tallied{}
		for step := range 200 {
			b := config.NewBuilder(mesh)
			randomly(rng, b)
			mesh = b.Mesh()
			if rng.IntN(3) == 0 {
				continue
			}
			var fresh tally
			if got, want := followed.of(mesh), fresh.of(mesh); got != want {
				t.Fatalf("seed %d, step %d: %+v, want %+v", seed, step, got, want)
			}
			seen.noInstances, seen.noIP, seen.notReady = max(seen.noInstances, followed.counts.noInstances), max(seen.noIP, followed.counts.noIP), max(seen.notReady, followed.counts.notReady)
		}
		if seen.noInstances == 0 || seen.noIP == 0 || seen.notReady == 0 {
			t.Errorf("seed %d has seen at most %+v", seed, seen)
		}
	}
}
