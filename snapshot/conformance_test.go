package snapshot_test

import (
	"fmt"
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

func nameOf(url string, body []byte) (string, error) {
	switch url {
	case cds:
		m := &cluster.Cluster{}
		err := proto.Unmarshal(body, m)
		return m.Name, err
	case eds:
		m := &endpoint.ClusterLoadAssignment{}
		err := proto.Unmarshal(body, m)
		return m.ClusterName, err
	case lds:
		m := &listener.Listener{}
		err := proto.Unmarshal(body, m)
		return m.Name, err
	case sds:
		m := &tls.Secret{}
		err := proto.Unmarshal(body, m)
		return m.Name, err
	case rds:
		m := &route.RouteConfiguration{}
		err := proto.Unmarshal(body, m)
		return m.Name, err
	}
	return "", fmt.Errorf("unexpected type %s", url)
}

// both runs a case over both protocols.
func both(t *testing.T, w func(c *content), f func(t *testing.T, s *served, c *client)) {
	t.Helper()
	bothWith(t, w, snapshot.Options{}, f)
}

func bothWith(t *testing.T, w func(c *content), o snapshot.Options, f func(t *testing.T, s *served, c *client)) {
	t.Helper()
	for _, p := range []string{"delta", "sotw"} {
		t.Run(p, func(t *testing.T) {
			world := newWorld(t)
			world.edit(w)
			s := serve(t, world, o)
			f(t, s, s.client("one", p == "sotw"))
		})
	}
}

func small(c *content) {
	set(c.clusters, "a", "b")
	set(c.listeners, "l")
	set(c.routes, "r")
}

func TestStart(t *testing.T) {
	both(t, small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		c.quiet()
	})
}

func TestAllAtOnce(t *testing.T) {
	// Everything asked for in the wrong order is answered in the right one,
	// as far as the requests are there.
	both(t, small, func(t *testing.T, s *served, c *client) {
		c.subscribe(rds, "r")
		c.take("rds +r")
		c.subscribe(lds)
		c.take("lds +l")
		c.subscribe(eds, "a", "b")
		c.take("eds +a +b")
		c.subscribe(cds)
		c.take("cds +a +b")
		c.take("eds +a +b") // warming: endpoints follow their clusters
		c.quiet()
	})
}

func TestWildcard(t *testing.T) {
	t.Run("empty mesh", func(t *testing.T) {
		both(t, func(*content) {}, func(t *testing.T, s *served, c *client) {
			c.subscribe(cds)
			c.take("cds")
			c.subscribe(lds)
			c.take("lds")
			s.world.edit(small)
			c.take("cds +a +b")
			c.subscribe(eds, "a", "b")
			c.take("eds +a +b")
			c.take("lds +l")
		})
	})
	t.Run("explicit", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.subscribe(cds, "*")
			c.take("cds +a +b")
			s.world.edit(func(c *content) { c.clusters["c"] = 1 })
			if c.isSotW {
				c.take("cds +a +b +c")
			} else {
				c.take("cds +c")
			}
		})
	})
	t.Run("explicit, any type", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.subscribe(rds, "*")
			c.take("rds +r")
			s.world.edit(func(c *content) { c.routes["r2"] = 1 })
			c.take("rds +r2")
		})
	})
	t.Run("not for named types", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.subscribe(rds)
			c.take("rds")
			s.world.edit(func(c *content) { c.routes["r2"] = 1 })
			c.quiet()
		})
	})
	t.Run("and a name that is absent", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.subscribe(cds, "*", "zz")
			if c.isSotW {
				c.take("cds +a +b")
			} else {
				c.take("cds +a +b -zz")
			}
			c.quiet()
		})
	})
	t.Run("ended", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.subscribe(cds, "*", "a")
			c.take("cds +a +b")
			c.unsubscribe(cds, "*")
			c.quiet()
			s.world.edit(func(c *content) { c.clusters["b"] = 2 })
			c.quiet()
			s.world.edit(func(c *content) { c.clusters["a"] = 2 })
			c.take("cds +a")
		})
	})
	t.Run("begun late", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.subscribe(cds, "a")
			c.take("cds +a")
			c.subscribe(cds, "*")
			c.take("cds +a +b")
			c.quiet()
		})
	})
	t.Run("legacy ended by names", func(t *testing.T) {
		// SotW: a list of names after an empty one ends the wildcard. Delta:
		// only unsubscribing "*" does.
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.subscribe(cds)
			c.take("cds +a +b")
			if !c.isSotW {
				c.unsubscribe(cds, "*")
			}
			c.subscribe(cds, "a")
			c.quietOr("cds +a")
			s.world.edit(func(c *content) { c.clusters["b"] = 2 })
			c.quiet()
		})
	})
}

func TestNames(t *testing.T) {
	t.Run("more", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.subscribe(eds, "a")
			c.take("eds +a")
			c.subscribe(eds, "b")
			c.take("eds +b")
			s.world.endpoints("b", "10.1.1.1")
			c.take("eds +b")
			c.quiet()
		})
	})
	t.Run("fewer", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.subscribe(eds, "a", "b")
			c.take("eds +a +b")
			c.unsubscribe(eds, "a")
			c.quiet()
			s.world.endpoints("a", "10.1.1.1")
			c.quiet()
			s.world.endpoints("b", "10.1.1.1")
			c.take("eds +b")
		})
	})
	t.Run("none left", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.subscribe(eds, "a")
			c.take("eds +a")
			c.unsubscribe(eds, "a")
			c.quiet()
			s.world.endpoints("a", "10.1.1.1")
			s.world.endpoints("b", "10.1.1.1")
			c.quiet()
		})
	})
	t.Run("back again", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.subscribe(eds, "a", "b")
			c.take("eds +a +b")
			c.unsubscribe(eds, "a")
			c.quiet()
			c.subscribe(eds, "a")
			c.take("eds +a")
		})
	})
	t.Run("twice in a request", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.subscribe(eds, "a", "a", "b")
			c.take("eds +a +b")
			c.quiet()
		})
	})
	t.Run("absent, then there", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.subscribe(rds, "new")
			if c.isSotW {
				c.take("rds")
			} else {
				c.take("rds -new")
			}
			s.world.edit(func(c *content) { c.routes["new"] = 1 })
			c.take("rds +new")
			c.quiet()
		})
	})
	t.Run("some absent", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.subscribe(rds, "new", "r")
			if c.isSotW {
				c.take("rds +r")
			} else {
				c.take("rds +r -new")
			}
		})
	})
	t.Run("listeners by name", func(t *testing.T) {
		// As proxyless gRPC asks. A SotW response of listeners is complete.
		both(t, small, func(t *testing.T, s *served, c *client) {
			s.world.edit(func(c *content) { set(c.listeners, "m", "n") })
			c.subscribe(lds, "l", "m")
			c.take("lds +l +m")
			s.world.edit(func(c *content) { c.listeners["m"] = 2 })
			if c.isSotW {
				c.take("lds +l +m")
			} else {
				c.take("lds +m")
			}
			s.world.edit(func(c *content) { c.listeners["n"] = 2 })
			c.quiet()
			s.world.edit(func(c *content) { delete(c.listeners, "m") })
			if c.isSotW {
				c.take("lds +l")
			} else {
				c.take("lds -m")
			}
		})
	})
}

func TestSubscribedAgain(t *testing.T) {
	w := newWorld(t)
	w.edit(small)
	c := serve(t, w, snapshot.Options{}).delta("one")
	c.subscribe(eds, "a", "b")
	c.take("eds +a +b")
	c.subscribe(eds, "a") // the client may have forgotten it
	c.take("eds +a")
	c.quiet()
}

func TestUnsubscribedUnderWildcard(t *testing.T) {
	w := newWorld(t)
	w.edit(small)
	c := serve(t, w, snapshot.Options{}).delta("one")
	c.subscribe(cds, "*", "a", "zz")
	c.take("cds +a +b -zz")
	c.unsubscribe(cds, "a", "zz") // the wildcard still covers what there is
	c.take("cds +a -zz")
	c.quiet()
}

func TestChange(t *testing.T) {
	t.Run("endpoint", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.start([]string{"a", "b"}, []string{"r"}, "l")
			s.world.endpoints("a", "10.1.1.1")
			c.take("eds +a")
			c.quiet()
		})
	})
	t.Run("route", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.start([]string{"a", "b"}, []string{"r"}, "l")
			s.world.edit(func(c *content) { c.routes["r"] = 2 })
			c.take("rds +r")
			c.quiet()
		})
	})
	t.Run("listener", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.start([]string{"a", "b"}, []string{"r"}, "l")
			s.world.edit(func(c *content) { c.listeners["l"] = 2 })
			c.take("lds +l")
			c.quiet()
		})
	})
	t.Run("inbound", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.start([]string{"a", "b"}, []string{"r"}, "l")
			s.world.edit(func(c *content) { c.inbound["inbound|80||"] = 1 })
			if c.isSotW {
				c.take("cds +a +b +inbound|80||")
			} else {
				c.take("cds +inbound|80||")
			}
			c.quiet()
		})
	})
	t.Run("nothing", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.start([]string{"a", "b"}, []string{"r"}, "l")
			s.world.edit(func(*content) {})
			c.quiet()
		})
	})
	t.Run("there and back", func(t *testing.T) {
		both(t, small, func(t *testing.T, s *served, c *client) {
			c.start([]string{"a", "b"}, []string{"r"}, "l")
			s.world.edit(func(c *content) { c.routes["r"] = 2 })
			first := c.take("rds +r")
			s.world.edit(func(c *content) { c.routes["r"] = 1 })
			c.take("rds +r")
			s.world.edit(func(c *content) { c.routes["r"] = 2 })
			if again := c.take("rds +r"); again.version != first.version {
				t.Errorf("versions %s and %s of equal content", first.version, again.version)
			}
		})
	})
}
