package snapshot

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Grant is what an authorized stream may be sent.
type Grant struct {
	// Secrets: the proxy may be sent the Secrets of its own namespace.
	Secrets bool
	// ServiceAccount is what the proxy has proven to run as; it fills in what
	// its node does not say.
	ServiceAccount string
	// MayRead, unless nil, says whether it may be sent one of them. It may
	// block until ctx ends; with an error the answer is no, for now. It is asked
	// when the proxy asks, and now and then while it is connected.
	MayRead func(ctx context.Context, namespace, name string) (bool, error)
}

// Options are a Server's settings. The zero value of each means its default.
type Options struct {
	// Authorize decides on a stream after its first request. An error ends
	// the stream; one without a gRPC status counts as PermissionDenied. Nil
	// lets everyone in, without secrets.
	Authorize func(context.Context, *config.Proxy) (Grant, error)
	// Connected, unless nil, is told of each proxy that was let in; what it
	// returns, unless nil, is called when the stream ends, and must not block. It
	// may block itself until ctx ends. An error ends the stream.
	Connected func(ctx context.Context, p *config.Proxy, g Grant) (left func(), err error)
	// Health, unless nil, takes what an agent says of its workload's health; fault
	// is nil if it is good. It must not block.
	Health func(p *config.Proxy, fault error)
	// Answers are to requests of other types, by type URL.
	Answers map[string]Answer
	// Redact, unless nil, takes out of a client's text about what it rejects what
	// nobody may read.
	Redact func(string) string
	// Registerer takes the metrics; nil keeps them to the Server.
	Registerer prometheus.Registerer

	// ResponseSize is the length in bytes above which a delta response is
	// sent in several. Default 512 KiB.
	ResponseSize int
	// RequestSize is the longest request in bytes. Default 16 MiB.
	RequestSize int
	// Streams is the most streams at once of proxies that were let in. Default
	// 20,000.
	Streams int
	// Strangers is the most streams at once besides these, whose proxy was not let
	// in yet. One more takes the place of the one that has been silent for longest.
	// Default 5,000.
	Strangers int
	// StreamsPerProxy is the most streams at once of one proxy, by its id.
	// Streams whose client has vanished count until keepalive finds that out.
	// Default 8.
	StreamsPerProxy int
	// Connections is the most connections at once, over all listeners that
	// Server.Limit bounds. One more takes the place of the oldest over which no
	// proxy was let in. Default 25,000.
	Connections int
	// StreamsPerConnection is the most streams of one connection. Default 32.
	StreamsPerConnection uint32
	// Connects is how many streams a second may begin, counted after they
	// were authorized; more wait their turn, in order. Default 1,000.
	Connects float64
	// Requests is how many requests a second one stream may make on average;
	// a stream that goes far beyond it is closed. Default 200.
	Requests float64

	// FirstRequestTimeout is how long a stream may be silent at first.
	// Default 10 s.
	FirstRequestTimeout time.Duration
	// SendTimeout is how long one response may be blocked by a client that
	// does not read, before its stream is closed. Default 20 s.
	SendTimeout time.Duration
	// AckTimeout is how long a response may go unanswered before the next one
	// of its type is sent all the same. Default 30 s.
	AckTimeout time.Duration
	// OrderTimeout is how long listeners and routes wait for clusters to
	// become ready. Default 5 s.
	OrderTimeout time.Duration
	// WarmTimeout is how long the next clusters wait for the answer to the last
	// ones. Envoy withholds it while any cluster is warming, which may take
	// until a host name resolves or a secret comes, so it says nothing about
	// load. Default 1 s.
	WarmTimeout time.Duration
	// ConnectionAge is after how long, give or take a tenth, a client is
	// asked to connect anew, so that replicas balance. Default 30 min.
	ConnectionAge time.Duration
	// ConnectionGrace is how long it may take for that. Default 10 s.
	ConnectionGrace time.Duration
	// Keepalive is the silence after which a connection is tested. Default
	// 30 s.
	Keepalive time.Duration
}

func (o Options) withDefaults() Options {
	if o.Redact == nil {
		o.Redact = func(s string) string { return s }
	}
	fill(&o.ResponseSize, 512<<10)
	fill(&o.RequestSize, 16<<20)
	fill(&o.Streams, 20_000)
	fill(&o.Strangers, 5000)
	fill(&o.StreamsPerProxy, 8)
	fill(&o.Connections, 25_000)
	fill(&o.StreamsPerConnection, 32)
	fill(&o.Connects, 1000)
	fill(&o.Requests, 200)
	fill(&o.FirstRequestTimeout, 10*time.Second)
	fill(&o.SendTimeout, 20*time.Second)
	fill(&o.AckTimeout, 30*time.Second)
	fill(&o.OrderTimeout, 5*time.Second)
	fill(&o.WarmTimeout, time.Second)
	fill(&o.ConnectionAge, 30*time.Minute)
	fill(&o.ConnectionGrace, 10*time.Second)
	fill(&o.Keepalive, 30*time.Second)
	return o
}

func fill[T comparable](field *T, def T) {
	var zero T
	if *field == zero {
		*field = def
	}
}

// GRPC returns the options that a grpc.Server needs to carry a Server of
// these Options: the codec that passes encoded responses through, bounds, and
// buffers small enough for thousands of quiet connections.
func (o Options) GRPC() []grpc.ServerOption {
	o = o.withDefaults()
	const window = 1 << 20
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(Codec{}),
		grpc.MaxRecvMsgSize(o.RequestSize),
		grpc.ConnectionTimeout(o.FirstRequestTimeout),
		grpc.MaxConcurrentStreams(o.StreamsPerConnection),
		grpc.WriteBufferSize(16 << 10),
		grpc.ReadBufferSize(4 << 10),
		// A fixed window also spares the pings that measure a dynamic one.
		grpc.InitialWindowSize(window),
		grpc.InitialConnWindowSize(window),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: o.Keepalive, Timeout: o.Keepalive / 3,
			MaxConnectionAge: o.ConnectionAge, MaxConnectionAgeGrace: o.ConnectionGrace,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: 10 * time.Second, PermitWithoutStream: true,
		}),
	}
}
