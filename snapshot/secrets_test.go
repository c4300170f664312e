package snapshot_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

func TestSecrets(t *testing.T) {
	grant := snapshot.Options{Authorize: func(_ context.Context, p *config.Proxy) (snapshot.Grant, error) {
		return snapshot.Grant{Secrets: p.Name == "one"}, nil
	}}
	t.Run("follow their objects", func(t *testing.T) {
		bothWith(t, small, grant, func(t *testing.T, s *served, c *client) {
			s.world.secret("cert", "first")
			c.subscribe(sds, "kubernetes://cert")
			c.take("sds +kubernetes://cert")
			s.world.secret("other", "unrelated")
			c.quiet()
			s.world.secret("cert", "second")
			r := c.take("sds +kubernetes://cert")
			if name, err := nameOf(sds, r.bodies["kubernetes://cert"]); err != nil || name != "kubernetes://cert" {
				t.Errorf("%q, %v", name, err)
			}
			s.world.secret("cert", "")
			if !c.isSotW {
				c.take("sds -kubernetes://cert")
			}
			c.quiet()
			s.world.secret("cert", "third")
			c.take("sds +kubernetes://cert")
		})
	})
	t.Run("absent, then there", func(t *testing.T) {
		bothWith(t, small, grant, func(t *testing.T, s *served, c *client) {
			c.subscribe(sds, "kubernetes://late")
			if c.isSotW {
				c.take("sds")
			} else {
				c.take("sds -kubernetes://late")
			}
			if p := s.problem(); p.Code != "SecretNotFound" {
				t.Errorf("problem %v", p)
			}
			s.world.secret("late", "x")
			c.take("sds +kubernetes://late")
			if list := s.server.Problems(); len(list) > 0 {
				t.Errorf("problems %v", list)
			}
		})
	})
	t.Run("more of them", func(t *testing.T) {
		bothWith(t, small, grant, func(t *testing.T, s *served, c *client) {
			s.world.secret("a", "1")
			s.world.secret("b", "2")
			c.subscribe(sds, "kubernetes://a")
			c.take("sds +kubernetes://a")
			c.subscribe(sds, "kubernetes://b")
			c.take("sds +kubernetes://b")
			c.quiet()
		})
	})
	t.Run("of their own namespace", func(t *testing.T) {
		bothWith(t, small, snapshot.Options{Authorize: func(context.Context, *config.Proxy) (snapshot.Grant, error) {
			return snapshot.Grant{Secrets: true}, nil
		}}, func(t *testing.T, s *served, c *client) {
			s.world.secret("cert", "of default")
			c.subscribe(sds, "kubernetes://cert")
			c.take("sds +kubernetes://cert")
			d := s.client("two", c.isSotW)
			d.node = nodeIn("two", "other")
			d.subscribe(sds, "kubernetes://cert")
			if d.isSotW {
				d.take("sds")
			} else {
				d.take("sds -kubernetes://cert")
			}
		})
	})
	t.Run("only with a grant", func(t *testing.T) {
		bothWith(t, small, grant, func(t *testing.T, s *served, c *client) {
			s.world.secret("cert", "first")
			d := s.client("stranger", c.isSotW)
			d.subscribe(sds, "kubernetes://cert")
			if d.isSotW {
				d.take("sds")
			} else {
				d.take("sds -kubernetes://cert")
			}
			s.world.secret("cert", "second")
			d.quiet()
		})
	})
}

// A proxy is sent those of its namespace's secrets that it may read.
func TestSecretsByRight(t *testing.T) {
	var answers atomic.Pointer[map[string]error] // by name; none is no
	rights := func(r map[string]error) { answers.Store(&r) }
	grant := snapshot.Options{Authorize: func(context.Context, *config.Proxy) (snapshot.Grant, error) {
		return snapshot.Grant{Secrets: true, MayRead: func(_ context.Context, namespace, name string) (bool, error) {
			err, ok := (*answers.Load())[name]
			return ok && namespace == "default", err
		}}, nil
	}}
	t.Run("yes and no", func(t *testing.T) {
		bothWith(t, small, grant, func(t *testing.T, s *served, c *client) {
			rights(map[string]error{"mine": nil})
			s.world.secret("mine", "1")
			s.world.secret("theirs", "2")
			c.subscribe(sds, "kubernetes://mine", "kubernetes://theirs")
			if c.isSotW {
				c.take("sds +kubernetes://mine")
			} else {
				c.take("sds +kubernetes://mine -kubernetes://theirs")
			}
			s.world.secret("theirs", "3")
			c.quiet()
			s.world.secret("mine", "4")
			c.take("sds +kubernetes://mine")
		})
	})
	t.Run("an answer that comes late", func(t *testing.T) {
		bothWith(t, small, grant, func(t *testing.T, s *served, c *client) {
			rights(map[string]error{"mine": errors.New("the API server is away")})
			s.world.secret("mine", "1")
			c.subscribe(sds, "kubernetes://mine")
			if c.isSotW {
				c.take("sds")
			} else {
				c.take("sds -kubernetes://mine")
			}
			rights(map[string]error{"mine": nil})
			c.take("sds +kubernetes://mine")
		})
	})
}
