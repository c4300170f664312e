package snapshot_test

import (
	"fmt"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// Values of content above these make Envoy reject a resource.
const (
	stuck          = 500  // Envoy 1.40 refuses it, and then does not answer: it counts as warming
	refusedByEnvoy = 1000 // it validates, but Envoy does not take it
	invalid        = 2000 // it does not validate
)

func TestEnvoyFollows(t *testing.T) {
	withEnvoy(t, func(t *testing.T, s *served, e *envoy) {
		stop := e.traffic()
		defer stop()
		t.Log("a changed cluster gets through warming")
		e.world.edit(func(c *content) { c.clusters["c1"] = 2 })
		e.has("c1=2s c2=1s l main->c1")
		t.Log("a new cluster and the route to it")
		e.world.put("c3", e.upstream, func(c *content) { c.clusters["c3"] = 1; c.routes["main"] = 3 })
		e.has("c1=2s c2=1s c3=1s l main->c3")
	})
}

func TestEnvoyNeverMissesACluster(t *testing.T) {
	withEnvoy(t, func(t *testing.T, s *served, e *envoy) {
		stop := e.traffic()
		for i := 3; i < 30; i++ { // each step replaces the cluster in use
			e.world.put(fmt.Sprint("c", i), e.upstream, func(c *content) {
				delete(c.clusters, fmt.Sprint("c", i-2))
				delete(c.clusters, fmt.Sprint("c", i-1))
				c.clusters[fmt.Sprint("c", i)] = 1
				c.routes["main"] = i
			})
			if i%3 == 0 {
				e.has(fmt.Sprintf("c%d=1s l main->c%d", i, i))
			}
		}
		stop()
		e.has("c29=1s l main->c29")
	})
}

func TestEnvoyRejects(t *testing.T) {
	withEnvoy(t, func(t *testing.T, s *served, e *envoy) {
		stop := e.traffic()
		defer stop()
		rejects := func(name string) {
			t.Helper()
			until(t, "the rejection of "+name, func() bool {
				list := s.server.Problems()
				return len(list) == 1 && list[0].Object.Name == name
			})
			t.Log(s.server.Problems()[0].Message)
		}
		for _, v := range []int{refusedByEnvoy, invalid} {
			e.world.edit(func(c *content) { c.clusters["c1"] = v; c.clusters["c2"] = 3 })
			rejects("c1")
			e.has("c1=1s c2=3s l main->c1") // the other one is in use
			e.world.edit(func(c *content) { c.clusters["c1"] = 1; c.clusters["c2"] = 1 })
			e.has("c1=1s c2=1s l main->c1")
		}
		e.world.edit(func(c *content) { c.routes["main"] = refusedByEnvoy })
		rejects("main")
		e.world.edit(func(c *content) { c.routes["main"] = 2 })
		e.has("c1=1s c2=1s l main->c2")
		e.world.edit(func(c *content) { c.listeners["l"] = refusedByEnvoy; c.clusters["c1"] = 4 })
		rejects("l")
		e.has("c1=4s c2=1s l main->c2")
		e.world.edit(func(c *content) { c.listeners["l"] = 2 })
		until(t, "no problem is left", func() bool { return len(s.server.Problems()) == 0 })
		e.has("c1=4s c2=1s l main->c2")
	})
}

func TestEnvoyThatDoesNotAnswer(t *testing.T) {
	withEnvoy(t, func(t *testing.T, s *served, e *envoy) {
		stop := e.traffic()
		defer stop()
		e.world.edit(func(c *content) { c.clusters["c1"] = stuck; c.clusters["c2"] = 3 })
		e.has("c1=1s c2=3s c1=500s warming l main->c1")
		e.world.edit(func(c *content) { c.clusters["c2"] = 5 })
		e.has("c1=1s c2=5s c1=500s warming l main->c1") // others go on
		e.world.edit(func(c *content) { c.clusters["c1"] = 2; c.routes["main"] = 2 })
		e.has("c1=2s c2=5s l main->c2")
		until(t, "everything is answered", func() bool {
			list := s.server.Proxies()
			return len(list) == 1 && list[0].Sync() == snapshot.Synced
		})
	})
}

func TestEnvoyReconnects(t *testing.T) {
	withEnvoy(t, func(t *testing.T, s *served, e *envoy) {
		stop := e.traffic()
		connected := func(n int) {
			t.Helper()
			until(t, "the proxy is connected again", func() bool { return len(s.server.Proxies()) == n })
		}
		s.restart()
		connected(1)
		e.has("c1=1s c2=1s l main->c1")
		t.Log("to a server that has changes")
		s.grpc.Stop()
		e.world.put("c3", e.upstream, func(c *content) {
			c.clusters["c2"] = 2
			c.clusters["c3"] = 1
			delete(c.clusters, "c1")
			c.routes["main"] = 3
		})
		s.restart()
		connected(1)
		e.has("c2=2s c3=1s l main->c3")
		stop()
	})
}
