package snapshot

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// Server is the aggregated discovery service over a Cache.
type Server struct {
	cache       *Cache
	options     Options
	metrics     *metrics
	connects    *rate.Limiter
	senders     senders
	proxies     census
	connections connections
	stop        chan struct{} // closed by Close
	// roots are what Trust was told; nil before.
	roots atomic.Pointer[translate.Resource]

	mu        sync.Mutex
	streams   map[*stream]struct{}
	strangers strangers // among streams
	in        int       // the number of streams that were let in
	draining  bool
	closed    bool
	served    sync.WaitGroup // streams and the sweeper
}

// NewServer returns a Server over a Cache. Close releases it. It panics if
// Options.Registerer has other metrics of the same names.
func NewServer(c *Cache, o Options) *Server {
	o = o.withDefaults()
	c.metrics.register(o.Registerer)
	s := &Server{
		cache: c, options: o, metrics: c.metrics, stop: make(chan struct{}),
		connects: rate.NewLimiter(rate.Limit(o.Connects), int(o.Connects)+1),
		streams:  map[*stream]struct{}{},
	}
	s.served.Add(1)
	go s.sweep()
	return s
}

// Register makes a grpc.Server, made with Options.GRPC, serve s.
func (s *Server) Register(g *grpc.Server) {
	discovery.RegisterAggregatedDiscoveryServiceServer(g, service{s: s})
}

// service is what gRPC calls.
type service struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	s *Server
}

func (v service) DeltaAggregatedResources(g grpc.BidiStreamingServer[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse]) error {
	st, err := v.s.open(g, delta)
	if err != nil {
		return err
	}
	return v.s.serve(st, func() error {
		var r deltaRequest
		if err := st.receive(&r); err != nil {
			return err
		}
		if err := st.admit(); err != nil {
			return err
		}
		return st.onDelta(&r.request)
	})
}

func (v service) StreamAggregatedResources(g grpc.BidiStreamingServer[discovery.DiscoveryRequest, discovery.DiscoveryResponse]) error {
	st, err := v.s.open(g, sotw)
	if err != nil {
		return err
	}
	return v.s.serve(st, func() error {
		r := sotwRequest{request{repeats: st.repeats}}
		if err := st.receive(&r); err != nil {
			return err
		}
		if err := st.admit(); err != nil {
			return err
		}
		return st.onSotW(&r.request)
	})
}

// open admits a new stream.
func (s *Server) open(g grpc.ServerStream, p protocol) (*stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining || s.closed:
		return nil, status.Error(codes.Unavailable, "shutting down")
	}
	st := &stream{
		server: s, protocol: p, wire: g, since: time.Now(), failed: make(chan error, 1),
		requests: rate.NewLimiter(rate.Limit(s.options.Requests), 10*int(s.options.Requests)+10),
	}
	evicted, ok := s.strangers.enter(st, s.options.Strangers)
	if evicted != nil || !ok {
		s.metrics.shed("strangers")
	}
	if evicted != nil {
		evicted.fail(status.Error(codes.ResourceExhausted, "others begin, and this stream has said nothing"))
	}
	if !ok {
		return nil, status.Errorf(codes.ResourceExhausted, "%d streams wait to be let in, the most that this server takes", s.options.Strangers)
	}
	s.streams[st] = struct{}{}
	s.served.Add(1)
	return st, nil
}

// letIn counts a stream whose proxy may stay.
func (s *Server) letIn(st *stream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strangers.leave(st)
	if s.in >= s.options.Streams {
		s.metrics.shed("streams")
		return status.Errorf(codes.ResourceExhausted, "%d streams are open, the most that this server takes", s.in)
	}
	s.in++
	st.in = true
	s.connections.trust(st.wire.Context())
	return nil
}

// serve runs a stream to its end.
func (s *Server) serve(st *stream, recv func() error) error {
	err := st.run(recv)
	s.mu.Lock()
	delete(s.streams, st)
	s.strangers.leave(st)
	if st.in {
		s.in--
	}
	s.mu.Unlock()
	st.mu.Lock()
	seat := st.seat
	st.gone = true
	entered, left := st.entered, st.left
	st.mu.Unlock()
	if entered {
		s.proxies.leave(st.proxy.ID)
	}
	if left != nil {
		left()
	}
	if seat != nil {
		s.cache.detach(seat)
		s.metrics.disconnected(st.proxy)
	}
	s.served.Done()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// admit decides whether a stream's proxy may stay.
func (s *Server) admit(ctx context.Context, st *stream, p *config.Proxy) (Grant, error) {
	var g Grant
	if s.options.Authorize != nil {
		var err error
		if g, err = s.options.Authorize(ctx, p); err != nil {
			if _, ok := status.FromError(err); ok {
				return g, err
			}
			return g, status.Error(codes.PermissionDenied, err.Error())
		}
	}
	if err := s.letIn(st); err != nil {
		return g, err
	}
	if err := s.connects.Wait(ctx); err != nil {
		s.metrics.shed("connects")
		return g, status.Error(codes.ResourceExhausted, "too many streams begin at once")
	}
	return g, nil
}

// placed completes a proxy with what the registry knows of its workload.
func (s *Server) placed(p *config.Proxy) *config.Proxy {
	m := s.cache.Mesh()
	if m == nil {
		return p
	}
	w, ok := m.Workloads.Get(p.Namespace, p.Name)
	if !ok || p.Group != "" || p.Entry != "" {
		return m.Registered(p)
	}
	q := *p
	if q.Locality == (config.Locality{}) {
		q.Locality = w.Locality
	}
	if q.Labels == nil {
		q.Labels = w.Labels
	}
	if q.NodeName == "" {
		q.NodeName = w.Node
	}
	if q.Network == "" {
		q.Network = w.Network
	}
	return &q
}

// sweepEvery is how often streams are looked over for what time alone
// changes.
const sweepEvery = 500 * time.Millisecond

// sweep closes streams whose client does not read, and wakes those that have
// waited long enough.
func (s *Server) sweep() {
	defer s.served.Done()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case now := <-tick.C:
			for _, st := range s.list() {
				st.sweep(now)
			}
		}
	}
}

// list returns the open streams.
func (s *Server) list() []*stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*stream, 0, len(s.streams))
	for st := range s.streams {
		out = append(out, st)
	}
	return out
}

// Drain ends every stream, spread evenly over the time that ctx leaves but at
// most five seconds, and takes no new ones: the clients connect to another
// replica. It returns when all have ended or ctx has.
func (s *Server) Drain(ctx context.Context) {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	open := s.list()
	spread := 5 * time.Second
	if end, ok := ctx.Deadline(); ok {
		spread = min(spread, time.Until(end)/2)
	}
	if len(open) < 2 {
		spread = 0
	}
	pause := time.NewTicker(max(spread/time.Duration(len(open)+1), time.Microsecond))
	defer pause.Stop()
	for _, st := range open {
		st.fail(status.Error(codes.Unavailable, "shutting down"))
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
	}
}

// Shutdown drains s and stops g gracefully: connections are told to go away,
// streams end. When ctx ends, what is left is cut.
func (s *Server) Shutdown(ctx context.Context, g *grpc.Server) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.GracefulStop()
	}()
	s.Drain(ctx)
	select {
	case <-done:
	case <-ctx.Done():
		g.Stop()
		<-done
	}
	s.Close()
}

// Close ends every stream and waits for their ends.
func (s *Server) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	for _, st := range s.list() {
		st.fail(status.Error(codes.Unavailable, "shutting down"))
	}
	s.served.Wait()
}

// Changes are the most recent changes, newest first.
func (s *Server) Changes() []Change { return s.cache.ring.changes() }

// Problems are what translation found for the connected proxies and what the
// proxies rejected.
func (s *Server) Problems() []config.Problem { return s.cache.Problems() }
