package snapshot_test

import "testing"

var subscribing = []conformanceCase{
	{"as Envoy begins", small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		c.quiet()
	}},
	{"all at once, in any order", small, func(t *testing.T, s *served, c *client) {
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
	}},
	{"more", small, func(t *testing.T, s *served, c *client) {
		c.subscribe(eds, "a")
		c.take("eds +a")
		c.subscribe(eds, "b")
		c.take("eds +b")
		s.world.endpoints("b", "10.1.1.1")
		c.take("eds +b")
		c.quiet()
	}},
	{"twice in a request", small, func(t *testing.T, s *served, c *client) {
		c.subscribe(eds, "a", "a", "b")
		c.take("eds +a +b")
		c.quiet()
	}},
	// As proxyless gRPC asks. A SotW response of listeners is complete.
	{"listeners by name", small, func(t *testing.T, s *served, c *client) {
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
	}},
}

var unsubscribing = []conformanceCase{
	{"ended", small, func(t *testing.T, s *served, c *client) {
		c.subscribe(cds, "*", "a")
		c.take("cds +a +b")
		c.unsubscribe(cds, "*")
		c.quiet()
		s.world.edit(func(c *content) { c.clusters["b"] = 2 })
		c.quiet()
		s.world.edit(func(c *content) { c.clusters["a"] = 2 })
		c.take("cds +a")
	}},
	{"fewer", small, func(t *testing.T, s *served, c *client) {
		c.subscribe(eds, "a", "b")
		c.take("eds +a +b")
		c.unsubscribe(eds, "a")
		c.quiet()
		s.world.endpoints("a", "10.1.1.1")
		c.quiet()
		s.world.endpoints("b", "10.1.1.1")
		c.take("eds +b")
	}},
	{"none left", small, func(t *testing.T, s *served, c *client) {
		c.subscribe(eds, "a")
		c.take("eds +a")
		c.unsubscribe(eds, "a")
		c.quiet()
		s.world.endpoints("a", "10.1.1.1")
		s.world.endpoints("b", "10.1.1.1")
		c.quiet()
	}},
	{"back again", small, func(t *testing.T, s *served, c *client) {
		c.subscribe(eds, "a", "b")
		c.take("eds +a +b")
		c.unsubscribe(eds, "a")
		c.quiet()
		c.subscribe(eds, "a")
		c.take("eds +a")
	}},
}

var absentNames = []conformanceCase{
	{"and a name that is absent", small, func(t *testing.T, s *served, c *client) {
		c.subscribe(cds, "*", "zz")
		if c.isSotW {
			c.take("cds +a +b")
		} else {
			c.take("cds +a +b -zz")
		}
		c.quiet()
	}},
	{"absent, then there", small, func(t *testing.T, s *served, c *client) {
		c.subscribe(rds, "new")
		if c.isSotW {
			c.take("rds")
		} else {
			c.take("rds -new")
		}
		s.world.edit(func(c *content) { c.routes["new"] = 1 })
		c.take("rds +new")
		c.quiet()
	}},
	{"some absent", small, func(t *testing.T, s *served, c *client) {
		c.subscribe(rds, "new", "r")
		if c.isSotW {
			c.take("rds +r")
		} else {
			c.take("rds +r -new")
		}
	}},
}

var wildcards = []conformanceCase{
	{"empty mesh", func(*content) {}, func(t *testing.T, s *served, c *client) {
		c.subscribe(cds)
		c.take("cds")
		c.subscribe(lds)
		c.take("lds")
		s.world.edit(small)
		c.take("cds +a +b")
		c.subscribe(eds, "a", "b")
		c.take("eds +a +b")
		c.take("lds +l")
	}},
	{"explicit", small, func(t *testing.T, s *served, c *client) {
		c.subscribe(cds, "*")
		c.take("cds +a +b")
		s.world.edit(func(c *content) { c.clusters["c"] = 1 })
		if c.isSotW {
			c.take("cds +a +b +c")
		} else {
			c.take("cds +c")
		}
	}},
	{"explicit, any type", small, func(t *testing.T, s *served, c *client) {
		c.subscribe(rds, "*")
		c.take("rds +r")
		s.world.edit(func(c *content) { c.routes["r2"] = 1 })
		c.take("rds +r2")
	}},
	{"not for named types", small, func(t *testing.T, s *served, c *client) {
		c.subscribe(rds)
		c.take("rds")
		s.world.edit(func(c *content) { c.routes["r2"] = 1 })
		c.quiet()
	}},
	{"begun late", small, func(t *testing.T, s *served, c *client) {
		c.subscribe(cds, "a")
		c.take("cds +a")
		c.subscribe(cds, "*")
		c.take("cds +a +b")
		c.quiet()
	}},
	// SotW: a list of names after an empty one ends the wildcard. Delta:
	// only unsubscribing "*" does.
	{"legacy ended by names", small, func(t *testing.T, s *served, c *client) {
		c.subscribe(cds)
		c.take("cds +a +b")
		if !c.isSotW {
			c.unsubscribe(cds, "*")
		}
		c.subscribe(cds, "a")
		c.quietOr("cds +a")
		s.world.edit(func(c *content) { c.clusters["b"] = 2 })
		c.quiet()
	}},
}
