package snapshot

import (
	"slices"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// rejection is one version of a resource that a proxy has refused. It is not
// sent again to the class before it changes; the version that the class had
// accepted stays in its place.
type rejection struct {
	resource *translate.Resource
	proxy    string
	message  string
}

// acceptable replaces what was rejected by its last good version. Names that
// have none are withheld, and those whose last good version leads to a cluster
// that is no longer offered: a proxy that has it keeps the cluster too, for
// others it would lead nowhere.
func acceptable(items []*translate.Resource, rejected map[string]*rejection, before, clusters *layer) (out []*translate.Resource, withheld []string, stale bool) {
	if len(rejected) == 0 {
		return items, nil, false
	}
	out = make([]*translate.Resource, 0, len(items))
	for _, r := range items {
		switch bad := rejected[r.Name]; {
		case bad == nil || bad.resource.Version != r.Version:
			out = append(out, r)
		case leads(before.lastGood(r.Name), clusters):
			out, stale = append(out, before.lastGood(r.Name)), true
		default:
			withheld, stale = append(withheld, r.Name), true
		}
	}
	return out, withheld, stale
}

// leads reports whether there is a resource and all clusters that it points to
// are offered.
func leads(r *translate.Resource, clusters *layer) bool {
	if r == nil {
		return false
	}
	return !slices.ContainsFunc(r.Refs.Clusters, func(name string) bool { return clusters.get(name) == nil && !clusters.withholds(name) })
}

// problems are what a rejection tells the users: one for each object that the
// resource, or the part of it that the text names, was made of.
func (r *rejection) problems(k kind) []config.Problem {
	const text = "proxy %s rejected the %s resource %q made of this object; what proxies had accepted before stays in service: %s"
	if len(r.resource.Sources) == 0 {
		p := config.At(&config.Meta{}, "", config.Error, "ProxyRejected", text, r.proxy, k, r.resource.Name, r.message)
		return []config.Problem{p}
	}
	var out []config.Problem
	for _, m := range r.sources(k) {
		out = append(out, config.At(m, "", config.Error, "ProxyRejected", text, r.proxy, k, r.resource.Name, r.message))
	}
	return out
}

// reject keeps what a proxy refused from the rest of its class, unless some
// other proxy has accepted it. done is called when that is in effect.
func (c *Cache) reject(st *seat, k kind, bad []*translate.Resource, text string, done func()) {
	c.later(func() {
		defer done()
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, s := range st.audience.slots {
			if s == nil || s.state.layers[k] == nil {
				continue
			}
			l, found := s.state.layers[k], false
			for _, r := range bad {
				i := l.index(r.Name)
				if i < 0 || l.items[i].Version != r.Version || l.isAccepted(i) {
					continue
				}
				if s.rejected[k] == nil {
					s.rejected[k] = map[string]*rejection{}
				}
				s.rejected[k][r.Name] = &rejection{resource: r, proxy: st.proxy.ID, message: text}
				c.refuse(r, l.lastGood(r.Name))
				found = true
			}
			if found {
				c.resettle(s)
			}
		}
	})
}

// vindicate brings back what was rejected if another proxy turns out to have
// accepted it.
func (c *Cache) vindicate(st *seat, r *response) {
	if c.rejections.Load() == 0 {
		return
	}
	k, items := r.kind, r.items()
	c.later(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, s := range st.audience.slots {
			if s == nil || len(s.rejected[k]) == 0 {
				continue
			}
			n := len(s.rejected[k])
			for _, item := range items {
				if bad := s.rejected[k][item.Name]; bad != nil && bad.resource.Version == item.Version && bad.proxy != st.proxy.ID {
					delete(s.rejected[k], item.Name)
					for _, m := range bad.resource.Sources {
						c.refused.Remove(refusedVersion{m.Key, m.Hash})
					}
				}
			}
			if len(s.rejected[k]) == n {
				continue
			}
			c.resettle(s)
			for _, item := range items {
				if r := s.state.layers[k].get(item.Name); r != nil && r.Version == item.Version {
					s.state.layers[k].accept(r)
				}
			}
		}
	})
}

// resettle makes a slot's layers again after a change of its rejections, and
// offers them. c.mu is held, in Run's goroutine.
func (c *Cache) resettle(s *slot) {
	next := &classState{key: s.state.key, resources: s.state.resources, assignments: s.state.assignments}
	next.layers = settle(next.resources.Resources, s.state, &s.rejected)
	s.state = next
	c.countRejections()
	c.publish(nil)
}

// forgive drops the rejections of versions that are no longer wanted. c.mu is
// held, in Run's goroutine.
func (s *slot) forgive() {
	sets := sets(s.state.resources.Resources)
	for k, bad := range s.rejected {
		for name, r := range bad {
			if now := sets[k].Get(name); now == nil || now.Version != r.resource.Version {
				delete(bad, name)
			}
		}
	}
}

func (c *Cache) countRejections() {
	n := 0
	for _, s := range c.slots {
		for _, bad := range s.rejected {
			n += len(bad)
		}
	}
	c.rejections.Store(int64(n))
}
