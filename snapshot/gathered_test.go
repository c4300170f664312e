package snapshot_test

import (
	"sync/atomic"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// published holds the Mesh that a test publishes.
type published struct {
	mesh    atomic.Pointer[config.Mesh]
	changed chan struct{}
}

func (p *published) Mesh() *config.Mesh       { return p.mesh.Load() }
func (p *published) Changed() <-chan struct{} { return p.changed }

func (p *published) publish(f func(b *config.Builder)) {
	b := config.NewBuilder(p.mesh.Load())
	f(b)
	p.mesh.Store(b.Mesh())
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// TestEndpointsThatListenersRead: the endpoints of a headless TCP service have
// listeners, so a change of nothing but endpoints must change those.
func TestEndpointsThatListenersRead(t *testing.T) {
	meshes := &published{changed: make(chan struct{}, 1)}
	id := config.ServiceID{Hostname: "db.default.svc.cluster.local", Namespace: "default"}
	endpoints := func(addresses ...string) func(*config.Builder) {
		return func(b *config.Builder) {
			e := &config.Endpoints{ID: id, ByPort: map[string][]config.Endpoint{}}
			h := config.NewHasher()
			for _, a := range addresses {
				e.ByPort["tcp"] = append(e.ByPort["tcp"], config.Endpoint{Address: a, Port: 3306})
				h.Str(a)
			}
			e.Hash = h.Sum()
			config.Put(b, func(m *config.Mesh) *config.Index[*config.Endpoints] { return &m.Endpoints }, e)
		}
	}
	meshes.publish(func(b *config.Builder) {
		config.Put(b, func(m *config.Mesh) *config.Index[*config.Service] { return &m.Services }, &config.Service{
			Meta:     config.Meta{Key: config.Key{Kind: "Service", Namespace: id.Namespace, Name: "db"}, Hash: 1},
			Hostname: id.Hostname, Kubernetes: true, Headless: true, Resolution: config.ResolvePassthrough,
			ExportTo: config.Visibility{Public: true},
			Ports:    []config.ServicePort{{Name: "tcp", Number: 3306, Protocol: config.ProtocolTCP}},
		})
		endpoints("10.1.0.8")(b)
	})
	c := translated(t, meshes).delta("one")
	c.subscribe(lds)
	c.take("lds +10.1.0.8_3306 +virtualInbound +virtualOutbound")
	meshes.publish(endpoints("10.1.0.8", "10.1.0.9"))
	c.take("lds +10.1.0.9_3306")
	meshes.publish(endpoints("10.1.0.9"))
	c.take("lds -10.1.0.8_3306")
	c.quiet()
}

// translated serves meshes by the real translation.
func translated(t *testing.T, meshes snapshot.Meshes) *served {
	t.Helper()
	return serveFrom(t, snapshot.Translation(translate.NewTranslator(100)), meshes, snapshot.Options{})
}
