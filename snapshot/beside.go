package snapshot

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	mesh "istio.io/api/mesh/v1alpha1"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// Question is a request of a type that is no part of Envoy's configuration,
// such as those of debugging tools.
type Question struct {
	Proxy *config.Proxy
	// ServiceAccount is what the client has proven to run as, in its Proxy's
	// namespace; empty if it has proven nothing.
	ServiceAccount string
	Type           string // the type URL
	Names          []string
}

// Reply answers a Question.
type Reply struct {
	Resources []Part
	// ControlPlane identifies who answers, in JSON as Istio's tools read it;
	// empty for nobody.
	ControlPlane string
}

// Part is one resource of a Reply.
type Part struct {
	*translate.Resource
	Type string // its type URL; empty for the Question's
}

// Answer answers a Question. It may block until ctx ends. An error ends the
// stream.
type Answer func(ctx context.Context, q Question) (Reply, error)

// ToolGenerator is metadata GENERATOR of clients that are no proxies and only
// ask Questions.
const ToolGenerator = "event"

// mostAside bounds the answers that wait for a client to read them.
const mostAside = 64

// beside takes a request of a type that the feeds do not carry.
func (s *stream) beside(req *request) error {
	url := strings.Clone(req.url)
	if url == translate.NameTableType && s.seat != nil {
		s.askNames(req)
		return nil
	}
	if url == translate.ProxyConfigType && s.seat != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.trust.ask(req)
		return nil
	}
	if url == healthType {
		if report := s.server.options.Health; report != nil && s.seat != nil {
			var fault error
			if req.err != nil {
				fault = errors.New(req.err.GetMessage())
			}
			report(s.proxy, fault)
		}
		return nil
	}
	answer := s.server.options.Answers[url]
	if answer == nil {
		return s.ignore(url, req.nonce)
	}
	// An acknowledgement is no question. istioctl sends nonces of its own making.
	if n, ok := parseNonce(req.nonce); ok && 0 < n && n <= s.replies {
		return nil
	}
	asked := slices.Clone(req.names)
	for i := range asked {
		asked[i] = strings.Clone(asked[i])
	}
	reply, err := answer(s.wire.Context(), Question{s.proxy, s.grant.ServiceAccount, url, asked})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.aside) >= mostAside {
		return status.Errorf(codes.ResourceExhausted, "%d answers wait to be read", len(s.aside))
	}
	s.replies++
	s.aside = append(s.aside, s.whole(url, reply, s.replies))
	return nil
}

// whole is a response of all resources of a type, unshared.
func (s *stream) whole(url string, reply Reply, nonce uint64) *message {
	var b []byte
	h := config.NewHasher()
	for _, r := range reply.Resources {
		b = s.protocol.appendResource(b, cmp.Or(r.Type, url), r.Resource)
		h.Str(r.Name).Hash(r.Version)
	}
	b = s.protocol.appendFrame(b, url, h.Sum(), nonce, nil)
	return newMessage(kinds, nil, s.protocol.appendControlPlane(b, reply.ControlPlane))
}

// nameFeed is what a stream knows about the name table, or the trusted roots.
// There is one, it is always sent whole, and nothing else waits for it: agents
// take it, not Envoy.
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
	s.dns.ask(req)
}

// ask takes a request: the first one, and each that is no answer, is answered.
func (f *nameFeed) ask(req *request) {
	if req.nonce == "" || !f.open {
		f.owed = true
	}
	f.open = true
}

// Trust has agents that ask for it told whom their proxies trust: PEM
// certificates, each of one authority. Istio's agents take them as the
// ProxyConfig of the mesh.
func (s *Server) Trust(roots []string) error {
	r, err := translate.NewResource("", &mesh.ProxyConfig{CaCertificatesPem: roots}, translate.Refs{})
	if err != nil {
		return err
	}
	s.roots.Store(r)
	for _, st := range s.list() {
		st.mu.Lock()
		open := st.trust.open
		st.mu.Unlock()
		if open {
			st.kick()
		}
	}
	return nil
}

// trustBundle is the response with roots that are new to the client, or nil.
// s.mu is held.
func (s *stream) trustBundle() *message {
	f := &s.trust
	r := s.server.roots.Load()
	if !f.open || r == nil || r.Version == f.sent && !f.owed {
		return nil
	}
	f.sent, f.owed = r.Version, false
	f.nonce++
	return s.whole(translate.ProxyConfigType, Reply{Resources: []Part{{Resource: r}}}, f.nonce)
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
	return s.whole(translate.NameTableType, Reply{Resources: []Part{{Resource: r}}}, f.nonce)
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
