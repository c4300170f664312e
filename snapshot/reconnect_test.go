package snapshot_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// session starts a client, and returns what it has when it is cut off.
func session(t *testing.T, s *served) (have map[string]map[string]string) {
	t.Helper()
	c := s.delta("one")
	c.start([]string{"a", "b"}, []string{"r"}, "l")
	c.quiet()
	c.cancel()
	have = map[string]map[string]string{}
	for url, r := range c.last {
		have[url] = r.versions
	}
	return have
}

func (c *client) resumeAll(have map[string]map[string]string) {
	c.t.Helper()
	c.resume(cds, have[cds])
	c.resume(eds, have[eds], "a", "b")
	c.resume(lds, have[lds])
	c.resume(rds, have[rds], "r")
}

func TestReconnect(t *testing.T) {
	start := func(t *testing.T) (*world, *served) {
		w := newWorld(t)
		w.edit(small)
		return w, serve(t, w, snapshot.Options{})
	}
	t.Run("nothing changed", func(t *testing.T) {
		_, s := start(t)
		have := session(t, s)
		c := s.delta("one")
		c.resumeAll(have)
		c.quiet()
	})
	t.Run("to another replica", func(t *testing.T) {
		_, s := start(t)
		have := session(t, s)
		_, other := start(t)
		c := other.delta("one")
		c.resumeAll(have)
		c.quiet()
	})
	t.Run("to another replica that differs", func(t *testing.T) {
		_, s := start(t)
		have := session(t, s)
		w, other := start(t)
		w.edit(func(c *content) { c.routes["r"] = 2; c.clusters["b"] = 2 })
		c := other.delta("one")
		c.resumeAll(have)
		c.take("cds +b") // and nothing of a
		c.take("eds +b")
		c.take("rds +r")
		c.quiet()
	})
	t.Run("changed meanwhile", func(t *testing.T) {
		w, s := start(t)
		have := session(t, s)
		w.edit(func(c *content) { c.routes["r"] = 2; c.clusters["c"] = 1; c.clusters["b"] = 2 })
		w.endpoints("a", "10.1.1.1")
		c := s.delta("one")
		c.resumeAll(have)
		c.take("cds +b +c")
		c.take("eds +a +b")
		c.subscribe(eds, "c")
		c.take("eds +c")
		c.take("rds +r")
		c.quiet()
	})
	t.Run("removed meanwhile", func(t *testing.T) {
		w, s := start(t)
		have := session(t, s)
		w.edit(func(c *content) { delete(c.clusters, "b"); c.routes["r"] = 2 })
		c := s.delta("one")
		c.resumeAll(have)
		c.take("eds -b")
		c.take("rds +r")
		c.take("cds -b")
		c.quiet()
	})
	t.Run("with versions of another server", func(t *testing.T) {
		_, s := start(t)
		c := s.delta("one")
		c.resume(cds, map[string]string{"a": "2026-01-01/7", "b": ""})
		c.take("cds +a +b")
		c.quiet()
	})
	t.Run("changes go on", func(t *testing.T) {
		w, s := start(t)
		have := session(t, s)
		c := s.delta("one")
		c.resumeAll(have)
		w.endpoints("b", "10.1.1.1")
		c.take("eds +b")
		w.edit(func(c *content) { c.listeners["l"] = 2 })
		c.take("lds +l")
		c.quiet()
	})
	t.Run("SotW", func(t *testing.T) {
		_, s := start(t)
		c := s.sotw("one")
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		last := c.last
		c.cancel()
		c = s.sotw("one")
		c.last, c.has[cds] = map[string]*received{cds: {}}, last[cds].version // a new stream has no nonce
		c.subscribe(cds)
		if again := c.take("cds +a +b"); again.version != last[cds].version {
			t.Errorf("version %s, before %s", again.version, last[cds].version)
		}
		c.quiet()
	})
}

func TestDeterministic(t *testing.T) {
	names := make([]string, 30)
	for i := range names {
		names[i] = fmt.Sprintf("c%02d", i)
	}
	fill := func(order []string) *world {
		w := newWorld(t)
		for _, n := range order { // in many steps, each in the given order
			w.edit(func(c *content) { c.clusters[n] = 1; c.routes[n] = 1 })
		}
		return w
	}
	backwards := slices.Clone(names)
	slices.Reverse(backwards)
	for _, p := range []string{"delta", "sotw"} {
		t.Run(p, func(t *testing.T) {
			var got []*received
			for _, w := range []*world{fill(names), fill(backwards)} {
				c := serve(t, w, snapshot.Options{}).client("one", p == "sotw")
				c.subscribe(cds)
				got = append(got, c.recv())
				c.subscribe(rds, names...)
				got = append(got, c.recv())
			}
			for i := range 2 {
				a, b := got[i], got[i+2]
				if a.version != b.version || !slices.Equal(a.names, b.names) || !maps.Equal(a.versions, b.versions) {
					t.Errorf("two servers differ: %v %s and %v %s", a, a.version, b, b.version)
				}
				for n, body := range a.bodies {
					if string(body) != string(b.bodies[n]) {
						t.Errorf("two servers encode %s differently", n)
					}
				}
			}
		})
	}
}
