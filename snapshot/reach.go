package snapshot

import (
	"slices"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// Reach is how far one connected proxy has followed the mesh.
type Reach struct {
	Proxy *config.Proxy
	// Sequence: the proxy has acknowledged all that the Meshes up to this one
	// offer it, but for what Older lists. 0 before it has acknowledged anything.
	Sequence uint64
	// Older are the objects of which the proxy has an older version, or none,
	// since it or another one of its class has rejected what was made of the
	// newest: the generation of that version, 0 for none.
	Older map[config.Key]int64
}

// Reached says of every connected proxy how far it is, by id.
func (s *Server) Reached() []Reach {
	sequence, older := s.cache.reached()
	var out []Reach
	for _, st := range s.list() {
		if r, ok := st.reach(sequence, older); ok {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Reach) int {
		switch {
		case a.Proxy.ID < b.Proxy.ID:
			return -1
		case a.Proxy.ID > b.Proxy.ID:
			return 1
		}
		return 0
	})
	return out
}

// rememberedRefusals bounds the versions of objects that are remembered as
// rejected, and refusedVersion is one.
const rememberedRefusals = 1 << 12

type refusedVersion struct {
	object  config.Key
	content config.Hash
}

// Refused reports whether some class of proxies never had a version of an
// object, since a proxy rejected what was made of it, even if a newer version is
// offered by now.
func (s *Server) Refused(version *config.Meta) bool {
	return s.cache.refused.Contains(refusedVersion{version.Key, version.Hash})
}

// refuse remembers the versions of which bad was made and good, which may be
// nil, was not.
func (c *Cache) refuse(bad, good *translate.Resource) {
	older := addOlder(nil, bad, good)
	for _, m := range bad.Sources {
		if _, ok := older[m.Key]; ok {
			c.refused.Add(refusedVersion{m.Key, m.Hash}, struct{}{})
		}
	}
}

// reached returns the sequence of the Mesh in service, and the objects of which
// seats are offered an older version.
func (c *Cache) reached() (uint64, map[*seat]map[config.Key]int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mesh == nil {
		return 0, nil
	}
	if c.rejections.Load() == 0 {
		return c.mesh.Sequence, nil
	}
	older := map[*seat]map[config.Key]int64{}
	for s := range c.seats {
		for _, slot := range s.audience.slots {
			if slot != nil {
				older[s] = slot.older(older[s])
			}
		}
	}
	return c.mesh.Sequence, older
}

// older adds what the class is not offered the newest version of. Cache.mu is
// held.
func (s *slot) older(to map[config.Key]int64) map[config.Key]int64 {
	for k, bad := range s.rejected {
		for name, r := range bad {
			to = addOlder(to, r.resource, s.state.layers[k].get(name))
		}
	}
	return to
}

// addOlder adds the objects of which bad was made and good, which may be nil,
// was not.
func addOlder(to map[config.Key]int64, bad, good *translate.Resource) map[config.Key]int64 {
	had := map[config.Key]*config.Meta{}
	if good != nil {
		for _, m := range good.Sources {
			had[m.Key] = m
		}
	}
	for _, m := range bad.Sources {
		was := had[m.Key]
		switch {
		case was != nil && was.Hash == m.Hash:
			continue
		case to == nil:
			to = map[config.Key]int64{}
		}
		var generation int64
		if was != nil {
			generation = was.Generation
		}
		if before, known := to[m.Key]; !known || generation < before {
			to[m.Key] = generation
		}
	}
	return to
}

// reach describes a stream; not ok before the proxy was let in.
func (s *stream) reach(sequence uint64, older map[*seat]map[config.Key]int64) (Reach, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seat == nil {
		return Reach{}, false
	}
	r := Reach{Proxy: s.proxy, Sequence: s.seat.reached(sequence), Older: older[s.seat]}
	if !s.feeds[listeners].open && time.Since(s.since) < s.server.options.OrderTimeout {
		r.Sequence = 0 // it has only begun to ask
	}
	for k := range kinds {
		f := &s.feeds[k]
		now := s.now(k)
		for name := range f.refused {
			if bad := now.get(name); bad != nil && f.refuses(bad) {
				r.Older = addOlder(r.Older, bad, f.kept[name])
			}
		}
	}
	return r, true
}

// reached is the last of the Meshes up to the given one of which the proxy has
// acknowledged everything.
func (s *seat) reached(sequence uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.met:
		return 0
	case s.lacks == 0:
		return sequence
	}
	return min(sequence, s.lacks-1)
}
