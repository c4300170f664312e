package snapshot

import (
	"cmp"
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// stream is one connected proxy. Requests change its state under mu; whoever has
// claimed it brings the client to what its seat offers: one of the senders, or
// while sending may block a goroutine of its own.
type stream struct {
	server   *Server
	protocol protocol
	wire     grpc.ServerStream
	since    time.Time
	// failed receives the error that ends the stream. Capacity 1.
	failed chan error

	// pumping is 0 when nobody is at it, 1 when someone is, 2 when they have to look
	// again before they end. See claim.
	pumping atomic.Int32
	// blockedSince is when the present send began, in nanoseconds since the
	// epoch; 0 when none is under way.
	blockedSince atomic.Int64
	// atRest: at the last look the client had all that it is offered, so that time
	// alone changes nothing. Every change of the stream is looked at afterwards.
	atRest atomic.Bool

	requests *rate.Limiter
	spoke    atomic.Bool // a request has come
	in       bool        // it was let in; guarded by Server.mu

	proxy *config.Proxy // set before seat
	grant Grant
	left  func() // to be called at the stream's end; nil for nothing
	seat  *seat  // nil until the first request was accepted, and for tools
	// tool: the client is no proxy, has no configuration, and only asks
	// Questions. Set before its first one is answered.
	tool bool
	// replies counts the Questions answered. Only the receiver uses it.
	replies uint64

	mu sync.Mutex
	// prepared counts messages, delivered those of them that the client is known
	// to have: while they are equal the transport takes one more at once.
	prepared, delivered uint64
	view                *view // the present step: what the client is being brought to
	// newest is what the last look at the seat showed. Endpoints are sent of
	// it, the rest when the step before has been sent.
	newest *view
	feeds  [kinds]feed
	// clustersFrom is the view of which clusters were sent last.
	clustersFrom *view
	// endpointsBefore were offered on earlier streams that ended in doubt of
	// what the client has, the latest first.
	endpointsBefore []layers
	// warming are new clusters whose endpoints the client has not asked for.
	warming *names
	// waitSince is since when listeners or routes wait for clusters.
	waitSince time.Time
	// resumed is when the client said on this stream what it has from an
	// earlier one, zero if it did not.
	resumed time.Time
	// judging counts rejections that the Cache has not dealt with yet.
	judging int
	access  access
	gone    bool       // the stream has ended
	entered bool       // it counts as one of its proxy's
	unknown int        // requests of types that are not served
	aside   []*message // answers to them
	dns     nameFeed
	trust   nameFeed
}

// version identifies what the client is offered of a kind.
func (s *stream) version(k kind) config.Hash {
	now := s.now(k)
	return now.version()
}

func (s *stream) names() *nameTable { return s.server.cache.names }

// kick makes sure that the stream's state is looked at after this moment. It
// does not block.
func (s *stream) kick() {
	if s.claim() {
		s.server.senders.add(s)
	}
}

// attend is kick for the stream's receiver, which most often has just taken the
// last answer, and sees itself that there is nothing more to do. It leaves
// sending to others: what the client asks for next may go in the same response.
func (s *stream) attend() {
	if s.claim() && !(s.satisfied() && s.rest()) {
		s.server.senders.add(s)
	}
}

// claim reports whether the caller has to have the stream looked at. If not,
// whoever is at it will look again.
func (s *stream) claim() bool {
	for {
		switch s.pumping.Load() {
		case 0:
			if s.pumping.CompareAndSwap(0, 1) {
				return true
			}
		case 1:
			if s.pumping.CompareAndSwap(1, 2) {
				return false
			}
		default:
			return false
		}
	}
}

// rest ends what claim began, unless there is reason to look again.
func (s *stream) rest() bool {
	if s.pumping.CompareAndSwap(1, 0) {
		return true
	}
	s.pumping.Store(1)
	return false
}

// turn sends what there is to send without blocking, and leaves the rest to a
// goroutine of its own. The caller has claimed the stream.
func (s *stream) turn() {
	for {
		switch m := s.prepare(); {
		case m == nil:
			if s.rest() {
				return
			}
		case m.mayBlock:
			go s.pump(m)
			return
		case !s.send(m):
			return
		}
	}
}

// pump sends m and then until there is nothing to send.
func (s *stream) pump(m *message) {
	for {
		if m == nil && s.rest() {
			return
		}
		if m != nil && !s.send(m) {
			return
		}
		m = s.prepare()
	}
}

// send reports whether the transport has taken a message. Otherwise the stream
// is over, and stays claimed so that nobody sends any more.
func (s *stream) send(m *message) bool {
	start := time.Now()
	s.blockedSince.Store(start.UnixNano())
	err := s.wire.SendMsg(m)
	s.blockedSince.Store(0)
	s.server.metrics.send.Observe(time.Since(start).Seconds())
	if err != nil {
		s.server.metrics.sendFailed(m.kind, status.Code(err))
		s.fail(err)
	}
	return err == nil
}

// prepare takes the next response into the state and encodes it.
func (s *stream) prepare() *message {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.message()
	if m != nil {
		m.mayBlock = s.prepared != s.delivered
		s.prepared++
	}
	return m
}

// message is the next message for the client, nil if there is none now. s.mu is
// held.
func (s *stream) message() *message {
	if s.gone {
		return nil
	}
	s.atRest.Store(false)
	if len(s.aside) > 0 {
		m := s.aside[0]
		s.aside = s.aside[1:]
		return m
	}
	if s.seat == nil {
		return nil
	}
	if m := s.nameTable(); m != nil {
		return m
	}
	if m := s.trustBundle(); m != nil {
		return m
	}
	now := time.Now()
	r := s.next(now)
	if r == nil {
		s.settle()
		return nil
	}
	f := &s.feeds[r.kind]
	f.nonce++
	r.nonce, r.at, r.order = f.nonce, now, s.prepared+1
	f.version, f.sentAt = r.version, now
	f.await(r)
	s.doubt(r.kind, f)
	size := 64 + len(r.kind.url())
	for _, n := range r.removed {
		size += len(n) + 4
	}
	frame := s.protocol.appendFrame(make([]byte, 0, size), r.kind.url(), r.version, r.nonce, r.removed)
	m := newMessage(r.kind, r.pieces, frame)
	s.server.metrics.composed(r.kind, m.size(), time.Since(now))
	return m
}

// satisfied reports whether there is nothing to do for the client, and tells the
// seat.
func (s *stream) satisfied() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone || s.seat == nil || len(s.aside) > 0 || s.dns.owed || s.trust.owed || s.seat.offered() != s.newest {
		return false
	}
	return s.settle()
}

// settle tells the seat when the client has all that it is offered, and reports
// that.
func (s *stream) settle() bool {
	settled := s.hasAll()
	s.atRest.Store(settled && s.access.checked.IsZero())
	if settled {
		s.seat.settled(s.newest)
	}
	return settled
}

func (s *stream) hasAll() bool {
	if s.view != s.newest {
		return false
	}
	for k := range kinds {
		f := &s.feeds[k]
		if !f.settled(s.now(k)) || len(f.held) > 0 {
			return false
		}
	}
	return true
}

// fail ends the stream with an error, the first one if there are several.
func (s *stream) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// ack takes the client's acceptance of a response.
func (s *stream) ack(f *feed, r *response) {
	f.acked, f.ackedAt, f.lastError, f.used = r.version, time.Now(), "", true
	if s.complete(r.kind) {
		f.ackComplete(r)
		s.doubt(r.kind, f)
	} else {
		f.took(r.items(), nil)
	}
	for _, p := range r.pieces {
		if r.kind == endpoints || p.accepted.Load() || p.accepted.Swap(true) {
			continue
		}
		for _, item := range p.items {
			// The layers of the present step too: what was offered to find a culprit
			// is no layer of the class.
			for _, l := range append(r.after[:], s.view.layers[r.kind][:]...) {
				if r := l.get(item.Name); r != nil && r.Version == item.Version {
					l.accept(r)
				}
			}
		}
	}
	if len(f.split) > 0 {
		f.split = f.split[1:]
	}
	s.server.cache.vindicate(s.seat, r)
}

func parseNonce(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// run serves the stream until it ends. recv takes one request.
func (s *stream) run(recv func() error) error {
	go func() {
		for {
			if err := recv(); err != nil {
				s.fail(err)
				return
			}
			s.attend()
		}
	}()
	first := time.NewTimer(s.server.options.FirstRequestTimeout)
	defer first.Stop()
	for {
		select {
		case err := <-s.failed:
			return err
		case <-s.wire.Context().Done():
			return s.wire.Context().Err()
		case <-first.C:
			s.mu.Lock()
			late := s.seat == nil && s.proxy == nil
			s.mu.Unlock()
			if late {
				s.server.metrics.shed("silence")
				return status.Error(codes.DeadlineExceeded, "no first request")
			}
		}
	}
}

// introduce takes a stream's first request: who it is, whether it may, and
// where it sits.
func (s *stream) introduce(ctx context.Context, p *config.Proxy) error {
	srv := s.server
	s.mu.Lock()
	s.proxy = p
	s.mu.Unlock()
	grant, err := srv.admit(ctx, s, p)
	if err != nil {
		return err
	}
	if err := s.enter(p.ID); err != nil {
		return err
	}
	if p.ServiceAccount == "" && grant.ServiceAccount != "" || !grant.Secrets {
		q := *p
		q.ServiceAccount = cmp.Or(p.ServiceAccount, grant.ServiceAccount)
		q.Unproven = !grant.Secrets
		p = &q
		s.mu.Lock()
		s.proxy = p
		s.mu.Unlock()
	}
	if p.Generator == ToolGenerator {
		s.grant, s.tool = grant, true
		return nil
	}
	if connected := srv.options.Connected; connected != nil {
		left, err := connected(ctx, p, grant)
		if err != nil {
			return err
		}
		if !s.leaves(left) {
			return status.Error(codes.Canceled, "the stream has ended")
		}
	}
	seat, err := srv.cache.attach(ctx, p, s.kick)
	if err != nil {
		return status.FromContextError(err).Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		srv.cache.detach(seat)
		return status.Error(codes.Canceled, "the stream has ended")
	}
	s.grant, s.seat, s.view = grant, seat, seat.take()
	s.newest = s.view
	srv.metrics.connected(p)
	return nil
}

// leaves sets what is called at the stream's end. It is called at once, and the
// result false, if the stream has ended.
func (s *stream) leaves(left func()) bool {
	s.mu.Lock()
	gone := s.gone
	if !gone {
		s.left = left
	}
	s.mu.Unlock()
	if gone && left != nil {
		left()
	}
	return !gone
}

// enter counts the stream as one of its proxy's.
func (s *stream) enter(proxy string) error {
	if err := s.server.proxies.enter(proxy, s.server.options.StreamsPerProxy); err != nil {
		s.server.metrics.shed("proxy")
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		s.server.proxies.leave(proxy)
		return status.Error(codes.Canceled, "the stream has ended")
	}
	s.entered = true
	return nil
}

// receive reads one request into r.
func (s *stream) receive(r any) error {
	err := s.wire.RecvMsg(r)
	if err == nil && !s.spoke.Load() {
		s.spoke.Store(true)
	}
	if status.Code(err) == codes.ResourceExhausted { // longer than Options.RequestSize
		s.server.metrics.shed("size")
	}
	return err
}

// admit counts a request.
func (s *stream) admit() error {
	if s.requests.Allow() {
		return nil
	}
	s.server.metrics.shed("requests")
	return status.Errorf(codes.ResourceExhausted, "more than %g requests a second", s.server.options.Requests)
}

// sweep does what time alone calls for.
func (s *stream) sweep(now time.Time) {
	if since := s.blockedSince.Load(); since != 0 && now.Sub(time.Unix(0, since)) > s.server.options.SendTimeout {
		s.server.metrics.writeTimeouts.Inc()
		s.fail(status.Errorf(codes.DeadlineExceeded, "a response was not read for %v", s.server.options.SendTimeout))
		return
	}
	if s.atRest.Load() {
		return
	}
	s.mu.Lock()
	patience := s.server.options.OrderTimeout
	due := !s.waitSince.IsZero() && now.Sub(s.waitSince) >= patience ||
		!s.resumed.IsZero() && now.Sub(s.resumed) >= patience && now.Sub(s.resumed) < patience+2*sweepEvery
	for k := range kinds {
		sent := s.feeds[k].sent
		due = due || len(sent) > 0 && now.Sub(sent[len(sent)-1].at) >= s.patience(k)
	}
	s.recheck(now)
	s.mu.Unlock()
	if due {
		s.kick()
	}
}
