package snapshot

import (
	"context"
	"slices"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// Answer answers a request of a type that is no part of Envoy's configuration,
// such as those of debugging tools. It may block until ctx ends. An error ends
// the stream.
type Answer func(ctx context.Context, p *config.Proxy, names []string) ([]*translate.Resource, error)

// beside takes a request of a type that the feeds do not carry.
func (s *stream) beside(req *request) error {
	url := strings.Clone(req.url)
	if url == translate.NameTableType {
		s.askNames(req)
		return nil
	}
	answer := s.server.options.Answers[url]
	if answer == nil {
		return s.ignore(url, req.nonce)
	}
	if req.nonce != "" {
		return nil // it has what it asked for
	}
	asked := slices.Clone(req.names)
	for i := range asked {
		asked[i] = strings.Clone(asked[i])
	}
	list, err := answer(s.wire.Context(), s.proxy, asked)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aside = append(s.aside, s.whole(url, list, 1))
	s.kick()
	return nil
}

// whole is a response of all resources of a type, unshared.
func (s *stream) whole(url string, list []*translate.Resource, nonce uint64) *message {
	var b []byte
	h := config.NewHasher()
	for _, r := range list {
		b = s.protocol.appendResource(b, url, r)
		h.Str(r.Name).Hash(r.Version)
	}
	return newMessage(kinds, nil, s.protocol.appendFrame(b, url, h.Sum(), nonce, nil))
}

// nameFeed is what a stream knows about the name table. There is one table, it
// is always sent whole, and nothing else waits for it: agents take it, not
// Envoy.
type nameFeed struct {
	open, owed bool
	sent       config.Hash
	nonce      uint64
}

// askNames takes a request for the name table.
func (s *stream) askNames(req *request) {
	s.seat.names.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &s.dns
	if req.nonce == "" || !f.open {
		f.owed = true
	}
	f.open = true
	s.kick()
}

// nameTable is the response with a name table that is new to the client, or
// nil. s.mu is held.
func (s *stream) nameTable() *message {
	f := &s.dns
	if !f.open {
		return nil
	}
	r := s.server.cache.nameTable(s.seat)
	if r == nil || r.Version == f.sent && !f.owed {
		return nil
	}
	f.sent, f.owed = r.Version, false
	f.nonce++
	return s.whole(translate.NameTableType, []*translate.Resource{r}, f.nonce)
}

// nameTable is that of the services that a proxy may know of; nil if there are
// none.
func (c *Cache) nameTable(s *seat) *translate.Resource {
	c.mu.Lock()
	m := c.mesh
	var of *resources
	for _, slot := range s.audience.slots {
		if slot != nil && len(slot.state.resources.Services) > 0 {
			of = slot.state.resources
		}
	}
	c.mu.Unlock()
	if of == nil {
		return nil
	}
	return of.table(m)
}

// table is the name table of a class at a Mesh. It is made once for all of the
// class.
func (r *resources) table(m *config.Mesh) *translate.Resource {
	reads := translate.NamesRead(r.Services, m)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tableMade == nil || r.tableOf != reads {
		r.tableMade, r.tableOf = translate.NameTable(r.Services, m), reads
	}
	return r.tableMade
}

// wakeForNames has every stream that asked for names look again. c.mu is held.
func (c *Cache) wakeForNames() {
	for s := range c.seats {
		if s.names.Load() {
			s.wake()
		}
	}
}

// named reports whether names stand for some of these endpoints.
func named(m *config.Mesh, endpoints map[config.ServiceID]bool) bool {
	for id := range endpoints {
		if s, ok := m.Services.Get(id.Namespace, id.Hostname); ok && s.Headless {
			return true
		}
	}
	return false
}
