package snapshot_test

import (
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
)

var acknowledging = []conformanceCase{
	{"endpoint", small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		s.world.endpoints("a", "10.1.1.1")
		c.take("eds +a")
		c.quiet()
	}},
	{"route", small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		s.world.edit(func(c *content) { c.routes["r"] = 2 })
		c.take("rds +r")
		c.quiet()
	}},
	{"listener", small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		s.world.edit(func(c *content) { c.listeners["l"] = 2 })
		c.take("lds +l")
		c.quiet()
	}},
	{"inbound", small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		s.world.edit(func(c *content) { c.inbound["inbound|80||"] = 1 })
		if c.isSotW {
			c.take("cds +a +b +inbound|80||")
		} else {
			c.take("cds +inbound|80||")
		}
		c.quiet()
	}},
	{"nothing", small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		s.world.edit(func(*content) {})
		c.quiet()
	}},
	{"there and back", small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		s.world.edit(func(c *content) { c.routes["r"] = 2 })
		first := c.take("rds +r")
		s.world.edit(func(c *content) { c.routes["r"] = 1 })
		c.take("rds +r")
		s.world.edit(func(c *content) { c.routes["r"] = 2 })
		if again := c.take("rds +r"); again.version != first.version {
			t.Errorf("versions %s and %s of equal content", first.version, again.version)
		}
	}},
}

var ordering = []conformanceCase{
	{"a new cluster before its route", small, func(t *testing.T, s *served, c *client) {
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
	}},
	{"endpoints do not wait", small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		s.world.edit(func(c *content) { c.routes["r"] = 2 })
		r := c.expect("rds +r")
		s.world.endpoints("a", "10.1.1.1")
		c.take("eds +a") // while the route is not acknowledged
		c.ack(r)
		c.quiet()
	}},
	{"coalescing", small, func(t *testing.T, s *served, c *client) {
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
	}},
	{"cluster after listener and route", small, func(t *testing.T, s *served, c *client) {
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
	}},
	{"at once if nothing pointed to it", small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		s.world.edit(func(c *content) { delete(c.clusters, "b") })
		if c.isSotW {
			c.take("cds +a")
			return
		}
		c.take("cds -b")
		c.take("eds -b")
		c.quiet()
	}},
	{"one goes, another comes", small, func(t *testing.T, s *served, c *client) {
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
	}},
	{"listener, then route", small, func(t *testing.T, s *served, c *client) {
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
	}},
	{"comes back while held", small, func(t *testing.T, s *served, c *client) {
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
	}},
	{"without listeners and routes", small, func(t *testing.T, s *served, c *client) {
		c.subscribe(cds)
		c.take("cds +a +b")
		s.world.edit(func(c *content) { delete(c.clusters, "b") })
		if c.isSotW {
			c.take("cds +a")
			return
		}
		c.take("cds -b")
	}},
}

var warmings = []conformanceCase{
	{"a changed cluster", small, func(t *testing.T, s *served, c *client) {
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
	}},
	{"all changed", small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		s.world.edit(func(c *content) { c.clusters["a"] = 2; c.clusters["b"] = 2 })
		c.take("cds +a +b")
		c.take("eds +a +b")
		c.quiet()
	}},
	{"with other endpoints", small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		s.world.put("a", "10.2.2.2", func(c *content) { c.clusters["a"] = 2 })
		if c.isSotW {
			c.take("cds +a +b")
		} else {
			c.take("cds +a")
		}
		c.take("eds +a") // once
		c.quiet()
	}},
	{"whose endpoints were never asked for", small, func(t *testing.T, s *served, c *client) {
		c.subscribe(cds)
		c.take("cds +a +b")
		c.subscribe(eds, "a")
		c.take("eds +a")
		s.world.edit(func(c *content) { c.clusters["b"] = 2 })
		if c.isSotW {
			c.take("cds +a +b")
		} else {
			c.take("cds +b")
		}
		c.quiet()
		c.subscribe(eds, "b")
		c.take("eds +b")
		c.quiet()
	}},
}

var rejecting = []conformanceCase{
	{"the last good version stays", small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		good := c.last[rds].bodies["r"]
		s.world.edit(func(c *content) { c.routes["r"] = 2 })
		c.nack(c.expect("rds +r"), "route: unknown cluster 'x'")
		if again := c.take("rds +r"); string(again.bodies["r"]) != string(good) {
			t.Errorf("sent %q, want the last good version", again.bodies["r"])
		}
		c.quiet()
		p := s.problem()
		if p.Object.Name != "r" || p.File != "r.yaml" || p.Line != 7 || p.Severity != config.Error ||
			p.Code != "ProxyRejected" || !strings.Contains(p.Message, "unknown cluster 'x'") {
			t.Errorf("problem %+v", p)
		}
	}},
	{"also for new proxies", small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		good := c.last[rds].bodies["r"]
		s.world.edit(func(c *content) { c.routes["r"] = 2 })
		c.nack(c.expect("rds +r"), "no good")
		c.take("rds +r")
		d := s.client("two", !c.isSotW)
		d.subscribe(rds, "r")
		if got := d.take("rds +r"); string(got.bodies["r"]) != string(good) {
			t.Errorf("a new proxy got %q", got.bodies["r"])
		}
	}},
	{"until it changes", small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		s.world.edit(func(c *content) { c.routes["r"] = 2 })
		c.nack(c.expect("rds +r"), "no good")
		c.take("rds +r")
		s.world.edit(func(c *content) { c.routes["r2"] = 1 }) // something else
		c.quiet()
		s.world.edit(func(c *content) { c.routes["r"] = 3 })
		c.take("rds +r")
		c.quiet()
		if list := s.server.Problems(); len(list) > 0 {
			t.Errorf("problems %v, want none", list)
		}
	}},
	// Envoy names the clusters that it did not take; it has the others.
	{"one of several", small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		s.world.edit(func(c *content) { c.clusters["a"], c.clusters["b"], c.clusters["c"] = 2, 2, 1 })
		r := c.recv()
		c.take("eds +a +b") // warming
		c.nack(r, rejected("b"))
		if c.isSotW {
			c.take("cds +a +b +c") // with the old b, which it still has
		} else {
			c.take("cds +b")
			c.take("eds +b")
		}
		c.quiet()
		if p := s.problem(); p.Object.Name != "b" {
			t.Errorf("problem %v, want it about b", p)
		}
	}},
	{"with no good version at all", small, func(t *testing.T, s *served, c *client) {
		c.subscribe(cds)
		c.nack(c.recv(), rejected("b"))
		until(t, "the rejection is known", func() bool { return len(s.server.Problems()) == 1 })
		d := s.client("two", c.isSotW)
		d.subscribe(cds)
		d.take("cds +a")
		s.world.edit(func(c *content) { c.clusters["b"] = 2 })
		if c.isSotW {
			d.take("cds +a +b")
		} else {
			d.take("cds +b")
		}
	}},
}
