package snapshot

import (
	"hash/maphash"
	"slices"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pilotfish-mesh/pilotfish/translate"
)

// healthType is what Istio's agent reports a VM's health with; it may come
// before the first request proper.
const healthType = "type.googleapis.com/istio.v1.HealthInformation"

// known prepares a request for the stream: the first one introduces the
// proxy. It reports whether the request is of a kind that is served.
func (s *stream) known(node *core.Node, url string) (kind, bool, error) {
	if s.seat == nil && !s.tool {
		if url == healthType && node == nil {
			return 0, false, nil
		}
		if node == nil {
			return 0, false, status.Error(codes.InvalidArgument, "the first request carries no node")
		}
		p, err := ParseNode(node)
		if err != nil {
			return 0, false, status.Error(codes.InvalidArgument, err.Error())
		}
		if err := s.introduce(s.wire.Context(), s.server.placed(p)); err != nil {
			return 0, false, err
		}
	}
	if url == "" {
		return 0, false, status.Error(codes.InvalidArgument, "a request on an aggregated stream needs a type URL")
	}
	k, ok := kindOf(url)
	return k, ok && !s.tool, nil
}

// onDelta takes one request of the incremental protocol.
func (s *stream) onDelta(req *request) error {
	k, ok, err := s.known(req.node, req.url)
	if err != nil {
		return err
	}
	if !ok {
		return s.beside(req)
	}
	if k == secrets {
		s.permit(req.names)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &s.feeds[k]
	s.noteSecrets(k)
	if !f.open {
		s.openDelta(k, f, req)
	} else {
		s.answered(k, req)
		// Also in a request with a stale nonce: subscriptions are changes, not
		// statements about a response (xDS protocol, "Resource updates").
		s.subscribe(f, req.names, req.unsubscribe)
	}
	return nil
}

const wildcard = "*"

// openDelta takes the first request of a kind.
func (s *stream) openDelta(k kind, f *feed, req *request) {
	sub := req.names
	f.open, f.owed = true, true
	if k.whole() && len(sub) == 0 {
		f.wildcard, f.legacy = true, true
	}
	if slices.Contains(sub, wildcard) {
		f.wildcard = true
		sub = slices.DeleteFunc(slices.Clone(sub), func(n string) bool { return n == wildcard })
	}
	f.only = s.names().of(sub)
	if len(req.initial) > 0 {
		s.resume(k, f, req)
		return
	}
	if !f.wildcard {
		f.have, f.force = s.now(k), f.only
		return
	}
	// Names asked for by name besides the wildcard: those that do not exist
	// are answered as removed.
	f.force = f.only
}

// subscribe changes what a delta client asks for.
func (s *stream) subscribe(f *feed, add, remove []string) {
	if len(add) == 0 && len(remove) == 0 {
		return
	}
	if slices.Contains(add, wildcard) {
		add = slices.DeleteFunc(slices.Clone(add), func(n string) bool { return n == wildcard })
		if !f.wildcard {
			// All of it is new to the client, save for what it asked for by name;
			// the protocol lets a server send that again.
			f.wildcard, f.have, f.owed = true, layers{}, true
		}
	}
	if slices.Contains(remove, wildcard) {
		remove = slices.DeleteFunc(slices.Clone(remove), func(n string) bool { return n == wildcard })
		f.wildcard, f.legacy = false, false
	}
	f.only = s.names().with(f.only, add)
	// Also what it already has: it may have forgotten it (xDS protocol,
	// DeltaDiscoveryRequest.resource_names_subscribe).
	f.force = s.names().with(f.force, add)
	if len(remove) == 0 {
		return
	}
	f.only = s.names().without(f.only, remove)
	f.unsubscribed()
	if f == &s.feeds[endpoints] {
		s.warming = s.names().without(s.warming, remove)
	}
	f.force = s.names().without(f.force, remove)
	f.held = slices.DeleteFunc(slices.Clone(f.held), func(r *translate.Resource) bool { return !f.wants(r.Name) })
	if f.wildcard {
		// The client has dropped it; under the wildcard it must be told again
		// that it exists, or that it does not.
		f.force = s.names().with(f.force, remove)
	}
}

// onSotW takes one request of the state-of-the-world protocol.
func (s *stream) onSotW(req *request) error {
	k, ok, err := s.known(req.node, req.url)
	if err != nil {
		return err
	}
	if err := req.spell(); err != nil {
		return err
	}
	if !ok {
		return s.beside(req)
	}
	if k == secrets {
		s.permit(req.names)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &s.feeds[k]
	s.noteSecrets(k)
	if !f.open {
		s.openSotW(k, f, req)
		f.run = req.sum
	} else if nonce := req.nonce; nonce != "" && f.nonce != 0 {
		if n, ok := parseNonce(nonce); !ok || n != f.nonce {
			// The client will answer the newer response with all its names.
			s.server.metrics.staleNonce(k)
			return nil
		}
		s.answered(k, req)
		s.renewBy(f, req)
	} else {
		s.renewBy(f, req)
	}
	return nil
}

// repeats is request.repeats for the stream. Only its reader changes the runs. Names
// of secrets are spelled out each time, for permit.
func (s *stream) repeats(url, run string) (sum uint64, repeated bool) {
	k, ok := kindOf(url)
	if !ok || k == secrets {
		return 0, false
	}
	sum = max(maphash.String(s.names().seed, run), 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &s.feeds[k]
	return sum, f.open && f.run == sum
}

// renewBy takes the names of a later request, unless it repeats those before.
func (s *stream) renewBy(f *feed, req *request) {
	if !req.repeated {
		s.renew(f, req.names)
		f.run = req.sum
	}
}

// noteSecrets remembers that the stream asks for secrets.
func (s *stream) noteSecrets(k kind) {
	if k == secrets {
		s.seat.secrets.Store(true)
	}
}

func (s *stream) openSotW(k kind, f *feed, req *request) {
	list := req.names
	f.open, f.owed = true, true
	f.used = req.version != ""
	f.legacy = k.whole() && len(list) == 0
	f.setNames(s.names(), list)
	if f.used && s.resumed.IsZero() {
		s.resumed = time.Now()
	}
	if s.complete(k) {
		before := s.server.cache.past.of(k, s.proxy.ID, req.version)
		f.acked, f.has = before.acked, before.has
		if k == clusters {
			s.endpointsBefore = before.endpoints
		}
		return
	}
	if !f.wildcard {
		f.have, f.force = s.now(k), f.only
	}
}

// setNames takes the list of a SotW request, which states all that the client
// wants.
func (f *feed) setNames(t *nameTable, list []string) {
	if f.legacy && len(list) == 0 {
		f.wildcard = true
		return
	}
	f.legacy = false
	f.wildcard = slices.Contains(list, wildcard)
	if f.wildcard {
		list = slices.DeleteFunc(slices.Clone(list), func(n string) bool { return n == wildcard })
	}
	f.only = t.of(list)
}

// renew takes the names of a later SotW request. New ones are answered.
func (s *stream) renew(f *feed, list []string) {
	wasWild, was := f.wildcard, f.only
	f.setNames(s.names(), list)
	f.unsubscribed()
	if f == &s.feeds[endpoints] && s.warming.len() > 0 {
		s.warming = s.names().less(s.warming, s.names().less(was, f.only))
	}
	if f.wildcard && !wasWild {
		f.have, f.owed = layers{}, true
		return
	}
	if f.wildcard || f.only == was {
		return
	}
	added := f.only
	if !wasWild {
		added = s.names().less(f.only, was)
	}
	if added.len() > 0 {
		f.force, f.owed = s.names().both(f.force, added), true
	}
}

// answered takes what a request says about a response: acknowledged,
// rejected, or overtaken by time.
func (s *stream) answered(k kind, req *request) {
	if req.nonce == "" {
		return
	}
	f := &s.feeds[k]
	r := f.answer(req.nonce)
	if r != nil {
		s.delivered = max(s.delivered, r.order)
	}
	switch {
	case r == nil:
		if n, ok := parseNonce(req.nonce); !ok || n != f.nonce {
			s.server.metrics.staleNonce(k)
		}
	case req.err != nil && s.protocol == sotw && f.acked != r.version && req.version == r.version.String():
		// It has this version; the error is about an earlier one. Envoy keeps
		// it until it may send, and then sends it with the newest nonce.
		s.ack(f, r)
	case req.err != nil:
		s.nack(k, f, r, req.err)
	default:
		s.ack(f, r)
	}
}

// ignore answers a type that is not served: with nothing, once, so that the
// client does not wait.
func (s *stream) ignore(url, nonce string) error {
	s.server.metrics.unknown.Inc()
	const most = 64
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unknown++; nonce != "" || s.unknown > most {
		return nil
	}
	s.aside = append(s.aside, newMessage(kinds, nil, s.protocol.appendFrame(nil, url, 0, 1, nil)))
	return nil
}
