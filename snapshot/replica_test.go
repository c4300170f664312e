package snapshot_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// TestReplicasAgree holds that the real translation of one configuration gives
// the same bytes and versions in every process, whatever order the objects
// came in and in however many steps.
func TestReplicasAgree(t *testing.T) {
	var want map[string]*received
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 0))
		meshes := &published{changed: make(chan struct{}, 1)}
		objects := someObjects()
		rng.Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
		meshes.publish(func(*config.Builder) {})
		s := translated(t, meshes)
		warm := s.delta("before") // so that classes follow the steps
		warm.subscribe(cds)
		warm.recv()
		for len(objects) > 0 {
			n := min(1+rng.IntN(8), len(objects))
			meshes.publish(func(b *config.Builder) {
				for _, put := range objects[:n] {
					put(b)
				}
			})
			objects = objects[n:]
		}
		until(t, "the last mesh is in service", func() bool { return s.cache.Mesh() == meshes.Mesh() })
		got := everything(s.delta("one"))
		if want == nil {
			want = got
			if n := len(got[cds].names); n < 40 {
				t.Fatalf("%d clusters in the mesh", n)
			}
			continue
		}
		for url, w := range want {
			g := got[url]
			if g.version != w.version || !maps.Equal(g.versions, w.versions) {
				t.Errorf("order %d: %s versions differ", seed, short(url))
			}
			for n, body := range w.bodies {
				if string(g.bodies[n]) != string(body) {
					t.Errorf("order %d: %s %s differs", seed, short(url), n)
				}
			}
		}
	}
}

// everything subscribes as Envoy does and returns the first response of each
// type.
func everything(c *client) map[string]*received {
	c.t.Helper()
	got := map[string]*received{}
	take := func(url string, names ...string) {
		c.subscribe(url, names...)
		got[url] = c.recv()
		c.ack(got[url])
	}
	take(cds)
	var outbound []string
	for _, n := range got[cds].names {
		if n[:3] == "out" {
			outbound = append(outbound, n)
		}
	}
	take(eds, outbound...)
	take(lds)
	take(rds, "80")
	return got
}

// someObjects are a mesh, object by object.
func someObjects() []func(*config.Builder) {
	var out []func(*config.Builder)
	for i := range 20 {
		name := fmt.Sprintf("svc-%d", i)
		host := name + ".default.svc.cluster.local"
		meta := func(kind string) config.Meta {
			return config.Meta{
				Key:  config.Key{Group: "networking.istio.io", Kind: kind, Namespace: "default", Name: name},
				Hash: config.NewHasher().Str(kind, name).Sum(),
			}
		}
		out = append(out, func(b *config.Builder) {
			config.Put(b, func(m *config.Mesh) *config.Index[*config.Service] { return &m.Services }, &config.Service{
				Meta: meta("Service"), Hostname: host, Kubernetes: true, ExportTo: config.Visibility{Public: true},
				Ports: []config.ServicePort{{Name: "http", Number: 80, Protocol: config.ProtocolHTTP}},
			})
		}, func(b *config.Builder) {
			e := &config.Endpoints{ID: config.ServiceID{Hostname: host, Namespace: "default"}, Hash: meta("Endpoints").Hash, ByPort: map[string][]config.Endpoint{
				"http": {{Address: fmt.Sprintf("10.1.0.%d", i), Port: 8080, Labels: map[string]string{"version": "v1"}}},
			}}
			config.Put(b, endpointsOf, e)
		}, func(b *config.Builder) {
			config.Put(b, func(m *config.Mesh) *config.Index[*config.DestinationRule] { return &m.DestinationRules }, &config.DestinationRule{
				Meta: meta("DestinationRule"), Spec: &networking.DestinationRule{Host: host, Subsets: []*networking.Subset{
					{Name: "v1", Labels: map[string]string{"version": "v1"}}, {Name: "v2", Labels: map[string]string{"version": "v2"}},
				}},
			})
		}, func(b *config.Builder) {
			config.Put(b, func(m *config.Mesh) *config.Index[*config.VirtualService] { return &m.VirtualServices }, &config.VirtualService{
				Meta: meta("VirtualService"), Spec: &networking.VirtualService{Hosts: []string{host}, Http: []*networking.HTTPRoute{{
					Headers: &networking.Headers{Request: &networking.Headers_HeaderOperations{Set: map[string]string{"x-a": "1", "x-b": "2", "x-c": "3"}}},
					Route: []*networking.HTTPRouteDestination{
						{Destination: &networking.Destination{Host: host, Subset: "v1"}, Weight: 90},
						{Destination: &networking.Destination{Host: host, Subset: "v2"}, Weight: 10},
					},
				}}},
			})
		})
	}
	return out
}

// TestEnvoyMovesToAnotherReplica: a replica that has never seen the proxy
// takes it over, with nothing to send if nothing differs, and no request fails.
func TestEnvoyMovesToAnotherReplica(t *testing.T) {
	withEnvoy(t, func(t *testing.T, s *served, e *envoy) {
		w := envoyWorld(t, e.port)
		for _, name := range []string{"c2", "c1"} { // the same mesh, in other steps
			w.put(name, e.upstream, func(c *content) { c.clusters[name] = 1 })
		}
		w.edit(func(c *content) { set(c.listeners, "l"); set(c.routes, "main") })
		reg := prometheus.NewRegistry()
		other := serve(t, w, snapshot.Options{Registerer: reg})
		other.grpc.Stop()
		other.server.Close()

		delta := s.server.Proxies()[0].Protocol == "delta"
		stop := e.traffic()
		s.grpc.Stop()
		other.addr = s.addr
		other.listen()
		until(t, "the proxy is connected to the other replica", func() bool {
			list := other.server.Proxies()
			return len(list) == 1 && list[0].Sync() == snapshot.Synced && slices.ContainsFunc(list[0].Types, func(x snapshot.TypeStatus) bool {
				return x.Short == "rds" && x.Sync == snapshot.Synced
			})
		})
		e.has("c1=1s c2=1s l main->c1")
		if n := measured(t, reg, "pilot_xds_pushes"); delta && n != 0 {
			t.Errorf("%v responses to a proxy that has everything", n)
		}
		w.put("c3", e.upstream, func(c *content) {
			delete(c.clusters, "c1")
			c.clusters["c3"] = 1
			c.routes["main"] = 3
		})
		e.has("c2=1s c3=1s l main->c3")
		stop()
	})
}
