package snapshot_test

import (
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/snapshot"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

func TestNewClusterBeforeItsRoute(t *testing.T) {
	both(t, small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		s.world.edit(func(c *content) {
			c.clusters["new"] = 1
			c.routes["r"], c.listeners["l"] = 2, 2
		})
		r := c.recv()
		if r.url != cds {
			t.Fatalf("got %v before the cluster", r)
		}
		c.quiet() // not before it is acknowledged
		c.ack(r)
		c.quiet() // nor before its endpoints are there
		c.subscribe(eds, "new")
		c.take("eds +new")
		c.take("lds +l")
		c.take("rds +r")
		c.quiet()
	})
}

func TestRemovalsLast(t *testing.T) {
	t.Run("cluster after listener and route", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.start([]string{"a", "b"}, []string{"r"}, "l")
			s.world.edit(func(c *content) {
				delete(c.clusters, "b")
				c.routes["r"], c.listeners["l"] = 2, 2
			})
			l, r := c.expect("lds +l"), c.expect("rds +r")
			c.quiet()
			c.ack(l)
			c.quiet()
			c.ack(r)
			if c.isSotW {
				c.take("cds +a")
				return
			}
			c.take("cds -b")
			c.take("eds -b")
			c.quiet()
		})
	})
	t.Run("at once if nothing pointed to it", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.start([]string{"a", "b"}, []string{"r"}, "l")
			s.world.edit(func(c *content) { delete(c.clusters, "b") })
			if c.isSotW {
				c.take("cds +a")
				return
			}
			c.take("cds -b")
			c.take("eds -b")
			c.quiet()
		})
	})
	t.Run("one goes, another comes", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.start([]string{"a", "b"}, []string{"r"}, "l")
			s.world.edit(func(c *content) { delete(c.clusters, "b"); c.clusters["c"] = 1; c.routes["r"] = 2 })
			if c.isSotW {
				c.take("cds +a +b +c") // b may still be needed
			} else {
				c.take("cds +c")
			}
			c.subscribe(eds, "c")
			c.take("eds +c")
			c.take("rds +r")
			if c.isSotW {
				c.take("cds +a +c")
			} else {
				c.take("cds -b")
				c.take("eds -b")
			}
			c.quiet()
		})
	})
	t.Run("listener, then route", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			s.world.edit(func(c *content) { set(c.listeners, "m"); set(c.routes, "r2") })
			c.start([]string{"a", "b"}, []string{"r", "r2"}, "l", "m")
			s.world.edit(func(c *content) { delete(c.listeners, "m"); delete(c.routes, "r2"); c.listeners["l"] = 2 })
			if c.isSotW {
				c.take("lds +l +m")
				c.take("lds +l")
				return
			}
			c.take("lds +l")
			c.take("lds -m")
			c.take("rds -r2")
			c.quiet()
		})
	})
	t.Run("comes back while held", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.start([]string{"a", "b"}, []string{"r"}, "l")
			s.world.edit(func(c *content) { delete(c.clusters, "b"); c.routes["r"] = 2 })
			r := c.expect("rds +r")
			s.world.edit(func(c *content) { c.clusters["b"] = 2; c.routes["r"] = 3 })
			if c.isSotW {
				c.take("cds +a +b")
			} else {
				c.take("cds +b")
			}
			c.take("eds +b")
			c.ack(r)
			c.take("rds +r")
			c.quiet()
		})
	})
	t.Run("without listeners and routes", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.subscribe(cds)
			c.take("cds +a +b")
			s.world.edit(func(c *content) { delete(c.clusters, "b") })
			if c.isSotW {
				c.take("cds +a")
				return
			}
			c.take("cds -b")
		})
	})
}

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
		c.take("rds +r") // the last good one again
		c.quiet()
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
	t.Run("a changed cluster", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.start([]string{"a", "b"}, []string{"r"}, "l")
			s.world.edit(func(c *content) { c.clusters["a"] = 2; c.routes["r"] = 2 })
			if c.isSotW {
				c.expect("cds +a +b")
			} else {
				c.expect("cds +a")
			}
			c.ack(c.last[cds])
			c.take("eds +a")
			c.take("rds +r")
			c.quiet()
		})
	})
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

func TestEndpointsDoNotWait(t *testing.T) {
	both(t, small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		s.world.edit(func(c *content) { c.routes["r"] = 2 })
		r := c.expect("rds +r")
		s.world.endpoints("a", "10.1.1.1")
		c.take("eds +a") // while the route is not acknowledged
		c.ack(r)
		c.quiet()
	})
}

func TestPatience(t *testing.T) {
	t.Run("with clusters that stay unready", func(t *testing.T) {
		w := newWorld(t)
		w.edit(small)
		c := serve(t, w, snapshot.Options{OrderTimeout: time.Millisecond}).delta("one")
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		w.edit(func(c *content) { c.clusters["new"] = 1; c.routes["r"] = 2 })
		c.take("cds +new")
		c.take("rds +r") // although nobody asked for the endpoints of new
	})
	t.Run("with a client that does not answer", func(t *testing.T) {
		bothWith(t, small, snapshot.Options{AckTimeout: time.Millisecond}, func(t *testing.T, s *served, c *client) {
			c.subscribe(eds, "a")
			c.expect("eds +a")
			s.world.endpoints("a", "10.1.1.1")
			c.expect("eds +a")
		})
	})
}

func TestCoalescing(t *testing.T) {
	both(t, small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		s.world.endpoints("a", "10.1.1.1")
		r := c.expect("eds +a")
		for i := range 5 { // all of it while the first is not acknowledged
			s.world.endpoints("b", "10.2.2."+string(rune('1'+i)))
			c.quiet()
		}
		c.ack(r)
		c.take("eds +b")
		c.quiet()
	})
}
