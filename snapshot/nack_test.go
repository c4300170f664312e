package snapshot_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// rejected is Envoy's text about clusters that it did not take.
func rejected(names ...string) string {
	out := "Error adding/updating cluster(s) "
	for i, n := range names {
		if i > 0 {
			out += ", "
		}
		out += n + ": no such thing"
	}
	return out
}

// problem waits for the one Problem that the server reports.
func (s *served) problem() config.Problem {
	s.t.Helper()
	var list []config.Problem
	envoytest.Eventually(s.t, patience, func() string {
		if list = s.server.Problems(); len(list) != 1 {
			return fmt.Sprintf("problems %v, want one", list)
		}
		return ""
	})
	return list[0]
}

func TestCulpritIsFound(t *testing.T) {
	// An error that names nothing: smaller and smaller groups are sent.
	both(t, func(c *content) {
		for i := range 8 {
			c.routes[fmt.Sprint("r", i)] = 1
		}
	}, func(t *testing.T, s *served, c *client) {
		var names []string
		for i := range 8 {
			names = append(names, fmt.Sprint("r", i))
		}
		c.subscribe(rds, names...)
		have := map[string]bool{}
		for range 20 {
			r := c.recv()
			if r.url != rds {
				t.Fatalf("got %v", r)
			}
			bad := false
			for _, n := range r.names {
				bad = bad || n == "r5"
			}
			if bad {
				c.nack(r, "Proto constraint validation failed")
				if len(r.names) == 1 {
					break
				}
				continue
			}
			c.ack(r)
			for _, n := range r.names {
				have[n] = true
			}
		}
		for len(have) < 7 {
			r := c.recv()
			c.ack(r)
			for _, n := range r.names {
				have[n] = true
			}
		}
		if have["r5"] {
			t.Error("the rejected route was sent again")
		}
		c.quiet()
		if p := s.problem(); p.Object.Name != "r5" {
			t.Errorf("problem %v, want it about r5", p)
		}
	})
}

func TestCulpritAmongClusters(t *testing.T) {
	// A SotW response of clusters cannot be cut in pieces: what is not being
	// tried has its old version in it.
	both(t, small, func(t *testing.T, s *served, c *client) {
		c.subscribe(cds)
		c.take("cds +a +b")
		c.quiet()
		s.world.edit(func(c *content) {
			c.clusters["a"] = 2
			for i := range 7 {
				c.clusters[fmt.Sprint("c", i)] = 1
			}
		})
		has := map[string]string{}
		for len(has) < 8 { // a, b and all but c5
			r := c.recv()
			if r.url != cds {
				t.Fatalf("got %v", r)
			}
			if slices.Contains(r.names, "c5") {
				c.nack(r, "Proto constraint validation failed")
				continue
			}
			c.ack(r)
			for n, body := range r.bodies {
				has[n] = string(body)
			}
			if c.isSotW && (!slices.Contains(r.names, "a") || !slices.Contains(r.names, "b")) {
				t.Fatalf("%v takes clusters away", r)
			}
			has["b"] = ""
		}
		c.catchUp()
		if p := s.problem(); p.Object.Name != "c5" {
			t.Errorf("problem %v, want it about c5", p)
		}
		d := s.client("two", c.isSotW)
		d.subscribe(cds)
		r := d.take("cds +a +b +c0 +c1 +c2 +c3 +c4 +c6")
		if string(r.bodies["a"]) != has["a"] {
			t.Error("the change of a was lost")
		}
	})
}

func TestErrorThatComesLate(t *testing.T) {
	// Envoy's SotW client may send the error about one response with the
	// nonce of the next, which it has accepted: its version says so.
	w := newWorld(t)
	w.edit(small)
	s := serve(t, w, snapshot.Options{AckTimeout: time.Millisecond})
	c := s.sotw("one")
	c.subscribe(cds)
	c.take("cds +a +b")
	w.edit(func(c *content) { c.clusters["a"] = 2 })
	c.expect("cds +a +b")
	w.edit(func(c *content) { c.clusters["a"] = 3 })
	r := c.expect("cds +a +b")
	c.has[cds] = r.version
	c.nack(r, rejected("a"))
	c.quiet()
	if list := s.server.Problems(); len(list) > 0 {
		t.Errorf("problems %v", list)
	}
}

func TestUnnamedRejectionOfAllClusters(t *testing.T) {
	// SotW cannot divide a response of clusters: what is new in it counts as
	// rejected, and the rest goes on.
	w := newWorld(t)
	w.edit(small)
	s := serve(t, w, snapshot.Options{})
	c := s.sotw("one")
	c.subscribe(cds)
	c.take("cds +a +b")
	c.quiet()
	w.edit(func(c *content) { c.clusters["c"] = 1 })
	c.nack(c.expect("cds +a +b +c"), "Proto constraint validation failed")
	c.quiet()
	if p := s.problem(); p.Object.Name != "c" {
		t.Errorf("problem %v, want it about c", p)
	}
	w.edit(func(c *content) { c.clusters["d"] = 1 })
	c.take("cds +a +b +d")
}

func TestOneBrokenProxy(t *testing.T) {
	// What another proxy of the class accepts stays in service for the class.
	both(t, small, func(t *testing.T, s *served, c *client) {
		broken := s.client("broken", c.isSotW)
		c.subscribe(rds, "r")
		c.take("rds +r")
		broken.subscribe(rds, "r")
		broken.take("rds +r")
		s.world.edit(func(c *content) { c.routes["r"] = 2 })
		c.take("rds +r")
		c.quiet()
		broken.nack(broken.expect("rds +r"), "no good")
		broken.quiet()
		c.quiet() // nothing is taken back
		d := s.client("three", c.isSotW)
		d.subscribe(rds, "r")
		if got := d.take("rds +r"); string(got.bodies["r"]) != string(c.last[rds].bodies["r"]) {
			t.Errorf("a new proxy got %q", got.bodies["r"])
		}
	})
}

func TestVindicated(t *testing.T) {
	// The first to answer rejects, a later one accepts: the version comes
	// back for the class, not for the one that rejected it.
	both(t, small, func(t *testing.T, s *served, c *client) {
		broken := s.client("broken", c.isSotW)
		c.subscribe(rds, "r")
		c.take("rds +r")
		broken.subscribe(rds, "r")
		broken.take("rds +r")
		s.world.edit(func(c *content) { c.routes["r"] = 2 })
		r := c.expect("rds +r")
		broken.nack(broken.expect("rds +r"), "no good")
		broken.take("rds +r") // back to the old one
		c.ack(r)
		until(t, "the version is back", func() bool { return len(s.server.Problems()) == 0 })
		// Depending on what came first it was sent the old one, and the new
		// one again, or nothing.
		c.catchUp()
		if got := c.last[rds].bodies["r"]; string(got) != string(r.bodies["r"]) {
			t.Errorf("ended with %q, want the accepted version", got)
		}
		d := s.client("three", c.isSotW)
		d.subscribe(rds, "r")
		if got := d.take("rds +r"); string(got.bodies["r"]) != string(r.bodies["r"]) {
			t.Errorf("a new proxy got %q, want the accepted version", got.bodies["r"])
		}
	})
}

func TestNothingIsTakenFromTheSurvivorOfARestart(t *testing.T) {
	// A new server has no last good version; the proxy that reconnects has
	// one, and keeps it when it rejects the new one.
	w := newWorld(t)
	w.edit(small)
	old := serve(t, w, snapshot.Options{})
	c := old.delta("one")
	c.subscribe(rds, "r")
	before := c.take("rds +r")
	c.subscribe(cds)
	clusters := c.take("cds +a +b")
	c.cancel()

	v := newWorld(t)
	v.edit(func(c *content) { small(c); c.routes["r"] = 2; c.clusters["b"] = 2 })
	s := serve(t, v, snapshot.Options{})
	c = s.delta("one")
	c.subscribe(lds)
	c.take("lds +l")
	c.subscribe(eds, "b")
	c.take("eds +b")
	c.resume(cds, clusters.versions)
	r := c.expect("cds +b")
	c.take("eds +b")
	c.nack(r, rejected("b"))
	c.quiet()
	c.resume(rds, before.versions, "r")
	c.nack(c.expect("rds +r"), "no good")
	c.quiet()
	v.edit(func(c *content) { delete(c.clusters, "b") })
	c.quiet() // its route may point to b
	v.edit(func(c *content) { c.routes["r"] = 1 })
	c.take("rds +r")
	c.take("cds -b")
}

func TestListenerWithTheAddressOfAHeldOne(t *testing.T) {
	both(t, small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		s.world.edit(func(c *content) { delete(c.listeners, "l"); c.listeners["l2"] = 1 })
		if c.isSotW {
			c.nack(c.expect("lds +l +l2"), "Error adding/updating listener(s) l2: address in use")
			c.take("lds +l2")
		} else {
			c.nack(c.expect("lds +l2"), "Error adding/updating listener(s) l2: address in use")
			c.take("lds -l")
			c.take("lds +l2")
		}
		c.quiet()
		if list := s.server.Problems(); len(list) > 0 {
			t.Errorf("problems %v, want none", list)
		}
	})
}

func TestNACKWithoutResources(t *testing.T) {
	both(t, small, func(t *testing.T, s *served, c *client) {
		c.subscribe(rds, "none")
		c.nack(c.recv(), "what is this?")
		c.quiet()
		s.world.edit(func(c *content) { c.routes["none"] = 1 })
		c.take("rds +none")
	})
}
