package snapshot_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pilotfish-mesh/pilotfish/snapshot"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

func TestRemovalWaitsForTheOldRoute(t *testing.T) {
	// The new route is rejected, so the old one, which points to the removed
	// cluster, stays in service; then the cluster must stay too.
	both(t, func(c *content) {
		small(c)
		c.refs["r"] = translate.Refs{Clusters: []string{"b"}}
	}, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		s.world.edit(func(c *content) { delete(c.clusters, "b"); c.routes["r"] = 2; c.refs["r"] = translate.Refs{} })
		c.nack(c.expect("rds +r"), "no good")
		c.quiet() // the client has the last good one, which nobody else should be led by
		s.world.edit(func(c *content) { c.routes["r"] = 3 })
		c.take("rds +r")
		if c.isSotW {
			c.take("cds +a")
			return
		}
		c.take("cds -b")
		c.take("eds -b")
	})
}

func TestWarming(t *testing.T) {
	t.Run("Envoy's second request", func(t *testing.T) {
		// SotW: Envoy asks for the same endpoints again once it has taken the
		// cluster; by then they are on their way.
		w := newWorld(t)
		w.edit(small)
		c := serve(t, w, snapshot.Options{}).sotw("one")
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		w.edit(func(c *content) { c.clusters["a"] = 2 })
		c.take("cds +a +b")
		c.state(eds, nil) // with the nonce of before
		c.take("eds +a")
		c.quiet()
	})
	t.Run("a reconnected proxy", func(t *testing.T) {
		w := newWorld(t)
		w.edit(small)
		s := serve(t, w, snapshot.Options{})
		c := s.delta("one")
		c.subscribe(cds)
		before := c.take("cds +a +b")
		c.subscribe(eds, "a", "b")
		endpoints := c.take("eds +a +b")
		c.cancel()
		w.edit(func(c *content) { c.clusters["a"] = 2 })

		c = s.delta("one")
		c.resume(cds, before.versions)
		c.take("cds +a")
		c.resume(eds, endpoints.versions, "a", "b")
		c.take("eds +a") // unchanged, but the cluster waits for it
		c.quiet()
	})
}

func TestEndpointsOfAClusterThatIsGoneAgain(t *testing.T) {
	// Envoy acknowledges clusters only when it has the endpoints of the new
	// ones, so those must come even if the mesh has moved on.
	both(t, small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		s.world.edit(func(c *content) { c.clusters["new"] = 1 })
		r := c.recv()
		s.world.edit(func(c *content) { delete(c.clusters, "new"); c.routes["r"] = 2 })
		c.subscribe(eds, "new")
		c.take("eds +new")
		c.quiet()
		c.ack(r)
		if c.isSotW {
			c.take("rds +r")
			c.take("cds +a +b")
		} else {
			c.take("rds +r")
			c.take("cds -new")
		}
		c.quiet()
	})
}

func TestPatience(t *testing.T) {
	t.Run("with clusters that stay unready", func(t *testing.T) {
		w := newWorld(t)
		w.edit(small)
		reg := prometheus.NewRegistry()
		c := serve(t, w, snapshot.Options{OrderTimeout: time.Millisecond, Registerer: reg}).delta("one")
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		w.edit(func(c *content) { c.clusters["new"] = 1; c.routes["r"] = 2 })
		c.take("cds +new")
		c.take("rds +r") // although nobody asked for the endpoints of new
		if n := measured(t, reg, "pilotfish_xds_order_timeouts_total"); n != 1 {
			t.Errorf("%v times counted, want 1", n)
		}
	})
	t.Run("with a client that does not answer", func(t *testing.T) {
		bothWith(t, small, snapshot.Options{AckTimeout: time.Millisecond}, func(t *testing.T, s *served, c *client) {
			c.subscribe(eds, "a")
			c.expect("eds +a")
			s.world.endpoints("a", "10.1.1.1")
			c.expect("eds +a")
			if n := measured(t, s.options.Registerer.(*prometheus.Registry), "pilotfish_xds_unanswered_total", `"eds"`); n != 1 {
				t.Errorf("%v responses counted as unanswered, want 1", n)
			}
		})
	})
}
