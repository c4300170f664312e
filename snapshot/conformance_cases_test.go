package snapshot_test

import (
	"testing"

	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// conformanceCase is one behaviour that the xDS protocol asks for, on an
// aggregated stream. It is run over both protocols.
type conformanceCase struct {
	name    string
	content func(*content)
	run     func(t *testing.T, s *served, c *client)
}

// conformance lists the cases by the protocol's subjects.
var conformance = []struct {
	subject string
	cases   []conformanceCase
}{
	{"subscribe", subscribing},
	{"unsubscribe", unsubscribing},
	{"wildcard", wildcards},
	{"absent names", absentNames},
	{"ACK", acknowledging},
	{"NACK", rejecting},
	{"stale nonce", staleNonces},
	{"reconnect", reconnecting},
	{"warming", warmings},
	{"ordering", ordering},
}

// leastCases is how many cases the table must hold for each protocol.
const leastCases = 48

func TestConformance(t *testing.T) {
	count := map[string]int{} // by protocol
	for _, s := range conformance {
		if len(s.cases) == 0 {
			t.Errorf("%s has no case", s.subject)
		}
		t.Logf("%-14s %d cases of each protocol", s.subject, len(s.cases))
		for _, c := range s.cases {
			for _, p := range []string{"delta", "sotw"} {
				count[p]++
				t.Run(s.subject+"/"+c.name+"/"+p, func(t *testing.T) {
					w := newWorld(t)
					w.edit(c.content)
					s := serve(t, w, snapshot.Options{})
					c.run(t, s, s.client("one", p == "sotw"))
				})
			}
		}
	}
	for _, p := range []string{"delta", "sotw"} {
		t.Logf("%s: %d cases", p, count[p])
		if count[p] < leastCases {
			t.Errorf("%s: %d cases, want at least %d", p, count[p], leastCases)
		}
	}
}

var staleNonces = []conformanceCase{
	{"of another response", small, func(t *testing.T, s *served, c *client) {
		c.subscribe(eds, "a")
		r := c.expect("eds +a")
		s.world.endpoints("a", "10.1.1.1")
		stale := *r
		stale.nonce = "77"
		c.ack(&stale) // acknowledges nothing
		c.quiet()
		c.ack(r)
		c.take("eds +a")
		c.quiet()
	}},
	{"that is no nonce", small, func(t *testing.T, s *served, c *client) {
		c.subscribe(eds, "a")
		r := c.take("eds +a")
		odd := *r
		odd.nonce = "none of yours"
		c.nack(&odd, "this says nothing about any response")
		c.quiet()
		if list := s.server.Problems(); len(list) > 0 {
			t.Errorf("problems %v", list)
		}
	}},
	{"acknowledged twice", small, func(t *testing.T, s *served, c *client) {
		c.subscribe(eds, "a")
		r := c.take("eds +a")
		c.ack(r)
		s.world.endpoints("a", "10.1.1.1")
		c.take("eds +a")
		c.quiet()
	}},
}

// reconnect opens a stream as the client before, which is cut off, and says
// what that one had.
func (c *client) reconnect(s *served, names map[string][]string) *client {
	c.t.Helper()
	c.cancel()
	next := s.client("one", c.isSotW)
	for _, url := range []string{cds, eds, lds, rds} {
		r := c.last[url]
		if r == nil {
			continue
		}
		if !c.isSotW {
			next.resume(url, r.versions, names[url]...)
			continue
		}
		next.names[url], next.has[url], next.last[url] = names[url], r.version, &received{}
		next.state(url, nil)
	}
	return next
}

var smallNames = map[string][]string{eds: {"a", "b"}, rds: {"r"}}

var reconnecting = []conformanceCase{
	{"with everything", small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		before := c.last
		c = c.reconnect(s, smallNames)
		if !c.isSotW {
			c.quiet()
			return
		}
		for _, want := range []string{"cds +a +b", "eds +a +b", "lds +l", "rds +r"} {
			if r := c.take(want); r.version != before[r.url].version {
				t.Errorf("%s has version %s, before %s", short(r.url), r.version, before[r.url].version)
			}
		}
		c.quiet()
	}},
	{"a route and its cluster changed", small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		s.world.edit(func(c *content) { c.clusters["c"] = 1; delete(c.clusters, "b"); c.routes["r"] = 2 })
		c = c.reconnect(s, smallNames)
		if c.isSotW {
			c.take("cds +a +b +c") // the old route may need b
			c.take("eds +a")
		} else {
			c.take("cds +c")
			c.take("eds -b")
		}
		c.subscribe(eds, "c")
		c.catchUp()
		if got := c.last[rds].String(); got != "rds +r" {
			t.Errorf("got %s", got)
		}
		if r := c.last[cds]; c.isSotW && r.String() != "cds +a +c" || !c.isSotW && r.String() != "cds -b" {
			t.Errorf("got %v last", r)
		}
	}},
	{"as another proxy's stream goes on", small, func(t *testing.T, s *served, c *client) {
		d := s.client("two", !c.isSotW)
		d.start([]string{"a", "b"}, []string{"r"}, "l")
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		c.cancel()
		s.world.endpoints("a", "10.1.1.1")
		d.take("eds +a")
		d.quiet()
	}},
}
