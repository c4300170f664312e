package snapshot

import (
	"sync"
	"weak"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// secretShelf holds the secrets that proxies ask for by name. They are no
// part of a class: a class's proxies share a namespace, but not what they may
// be sent.
type secretShelf struct {
	source Source

	mu     sync.Mutex
	mesh   *config.Mesh
	layers map[shelfKey]*shelved
}

type shelfKey struct {
	reader translate.Reader
	only   weak.Pointer[names]
}

// shelved is one answer. It is stale once the mesh's secrets differ.
type shelved struct {
	layer    *layer
	problems []config.Problem
	stale    bool
}

// maxShelved bounds the answers kept; a gateway's replicas share one.
const maxShelved = 10_000

// take notes a new Mesh, and reports whether its secrets may differ.
func (s *secretShelf) take(m *config.Mesh) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	prev := s.mesh
	s.mesh = m
	if prev != nil && prev.Secrets.Same(m.Secrets) && prev.ConfigMaps.Same(m.ConfigMaps) && sameGrants(prev, m) {
		return false
	}
	for key, x := range s.layers {
		if key.only.Value() == nil {
			delete(s.layers, key) // nobody asks for these names any more
			continue
		}
		x.stale = true
	}
	return true
}

// sameGrants reports whether the same Secrets of other namespaces may be sent:
// Gateways name them, and ReferenceGrants permit it.
func sameGrants(a, b *config.Mesh) bool {
	return a.ReferenceGrants.Same(b.ReferenceGrants) && (b.ReferenceGrants.Len() == 0 || a.Gateways.Same(b.Gateways))
}

// layer returns the secrets of those names that a reader may be sent. Equal content stays one value.
func (s *secretShelf) layer(r translate.Reader, only *names) *layer {
	if only.len() == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := shelfKey{r, weak.Make(only)}
	x := s.layers[key]
	if x != nil && !x.stale {
		return x.layer
	}
	var items []*translate.Resource
	next := &shelved{}
	for _, name := range only.all() {
		made, problems := s.source.Secret(s.mesh, r, name)
		if made != nil {
			items = append(items, made)
		}
		next.problems = append(next.problems, problems...)
	}
	next.layer = newLayer(secrets, items, nil)
	if x != nil && x.layer.hash == next.layer.hash {
		next.layer = x.layer
	}
	if s.layers == nil || len(s.layers) >= maxShelved {
		s.layers = map[shelfKey]*shelved{}
	}
	s.layers[key] = next
	return next.layer
}

// problems are those of the secrets that proxies ask for.
func (s *secretShelf) problems() []config.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []config.Problem
	for key, x := range s.layers {
		if key.only.Value() != nil {
			out = append(out, x.problems...)
		}
	}
	return out
}

// now returns what the client is offered of a kind.
func (s *stream) now(k kind) layers {
	switch k {
	case secrets:
	case endpoints:
		return s.newest.layers[k]
	default:
		return s.view.layers[k]
	}
	if !s.grant.Secrets {
		return layers{}
	}
	return layers{s.server.cache.secrets.layer(translate.ReaderOf(s.proxy), s.allowed())}
}

// wakeForSecrets has every stream that asked for secrets look again. c.mu is
// held.
func (c *Cache) wakeForSecrets(m *config.Mesh) {
	if !c.secrets.take(m) {
		return
	}
	for s := range c.seats {
		if s.secrets.Load() {
			s.wake()
		}
	}
}
