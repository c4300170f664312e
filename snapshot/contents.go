package snapshot

import (
	"maps"
	"slices"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// contents are the resources of a complete response (SotW), and so what a
// client has that acknowledged it. They are a pointer to what its class is
// offered, and exceptions: a client that was never sent anything but offers
// has none.
type contents struct {
	layers
	// instead are, by name, resources in place of the layers' or beside them,
	// nil where there is none. Never changed after it was made.
	instead map[string]*translate.Resource
}

// get returns the resource of a name, or nil.
func (c *contents) get(name string) *translate.Resource {
	if r, ok := c.instead[name]; ok {
		return r
	}
	return c.layers.get(name)
}

// with is c, but for some resources.
func (c *contents) with(changes map[string]*translate.Resource) contents {
	if len(changes) == 0 {
		return *c
	}
	instead := maps.Clone(c.instead)
	if instead == nil {
		instead = map[string]*translate.Resource{}
	}
	maps.Copy(instead, changes)
	return contents{c.layers, instead}
}

// all lists the resources.
func (c *contents) all() (out []*translate.Resource) {
	for _, l := range c.layers {
		for _, r := range l.all() {
			if _, ok := c.instead[r.Name]; !ok {
				out = append(out, r)
			}
		}
	}
	return append(out, c.exceptions()...)
}

// exceptions lists what is in instead, by name.
func (c *contents) exceptions() (out []*translate.Resource) {
	for _, name := range slices.Sorted(maps.Keys(c.instead)) {
		if r := c.instead[name]; r != nil {
			out = append(out, r)
		}
	}
	return out
}

// version identifies the contents.
func (c *contents) version() config.Hash {
	if len(c.instead) == 0 {
		return c.layers.version()
	}
	h := config.NewHasher().Hash(c.layers.version())
	for _, name := range slices.Sorted(maps.Keys(c.instead)) {
		h.Str(name)
		if r := c.instead[name]; r != nil {
			h.Hash(r.Version)
		}
	}
	return h.Sum()
}

// batches are the contents as a client with the subscriptions of f is sent
// them: those of the layers are shared between clients.
func (c *contents) batches(k kind, f *feed) []*batch {
	inside := false
	for name := range c.instead {
		inside = inside || c.layers.get(name) != nil
	}
	var out []*batch
	if inside {
		return []*batch{newBatch(k, difference{send: slices.DeleteFunc(c.all(), func(r *translate.Resource) bool { return !f.wants(r.Name) })})}
	}
	for _, l := range c.layers {
		if l != nil {
			out = append(out, between(nil, l, f.wildcard, f.only))
		}
	}
	if more := c.exceptions(); len(more) > 0 {
		out = append(out, newBatch(k, difference{send: more}))
	}
	return out
}
