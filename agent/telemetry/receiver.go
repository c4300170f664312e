package telemetry

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	data "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	als "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc"
)

// The names of the logs that translation configures.
const (
	inboundLog  = "pilotfish-inbound"
	outboundLog = "pilotfish-outbound" // gateways', too
)

// The custom tags that translation adds to entries.
const (
	tagFlags       = "flags"
	tagDownstream  = "downstream" // the client certificate's identity
	tagUpstream    = "upstream"   // the server certificate's
	tagServices    = "services"   // the cluster's metadata
	tagEndpoint    = "workload"   // the endpoint's metadata
	tagGRPCStatus  = "grpc"
	tagContentType = "type"
	tagMessages    = "messages"   // of gRPC: "requests,responses"
	tagConnection  = "connection" // its id in the Envoy
)

// Receiver takes one proxy's access log.
type Receiver struct {
	als.UnimplementedAccessLogServiceServer
	own     Workload
	metrics *Metrics
	// peer says who has an address; nil knows nobody.
	peer func(address string) (Workload, bool)
}

// NewReceiver makes a receiver for the log of a workload's proxy. peer, unless
// nil, knows workloads by their addresses; it may block shortly. buckets, unless
// nil, are the upper bounds of a histogram's; without any they are Envoy's.
func NewReceiver(own Workload, peer func(address string) (Workload, bool), buckets func(metric string) []float64) *Receiver {
	return &Receiver{own: own, metrics: newMetrics(buckets), peer: peer}
}

// Metrics are what follows from the log so far.
func (r *Receiver) Metrics() *Metrics { return r.metrics }

// Register serves it on a gRPC server.
func (r *Receiver) Register(g *grpc.Server) { als.RegisterAccessLogServiceServer(g, r) }

// StreamAccessLogs takes one worker's entries of one log.
func (r *Receiver) StreamAccessLogs(s als.AccessLogService_StreamAccessLogsServer) error {
	l := &stream{receiver: r, before: map[string]transferred{}}
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&als.StreamAccessLogsResponse{})
		}
		if err != nil {
			return err
		}
		if id := m.GetIdentifier(); id != nil {
			l.inbound, l.groups = logOf(id.GetLogName())
		}
		for _, e := range m.GetHttpLogs().GetLogEntry() {
			l.http(e)
		}
		for _, e := range m.GetTcpLogs().GetLogEntry() {
			l.tcp(e)
		}
	}
}

// stream is one worker's part of one log.
type stream struct {
	receiver *Receiver
	inbound  bool
	groups   []group
	// before is what was counted of connections that last, by their ids.
	before map[string]transferred
}

type transferred struct {
	sent, received uint64
	// unopened: that the connection was opened is still to be counted.
	unopened bool
}

// maxLasting bounds what is remembered of connections; those beyond are counted
// at their end.
const maxLasting = 10_000

func (l *stream) http(e *data.HTTPAccessLogEntry) {
	c := e.GetCommonProperties()
	tags := c.GetCustomTags()
	labels := l.receiver.labels(c, e.GetRequest().GetAuthority(), l.inbound)
	labels.protocol = "http"
	labels.code = strconv.FormatUint(uint64(e.GetResponse().GetResponseCode().GetValue()), 10)
	r := request{
		in:  float64(e.GetRequest().GetRequestHeadersBytes() + e.GetRequest().GetRequestBodyBytes()),
		out: float64(e.GetResponse().GetResponseHeadersBytes() + e.GetResponse().GetResponseBodyBytes()),
	}
	took := max(c.GetTimeToLastDownstreamTxByte().AsDuration(), c.GetTimeToLastRxByte().AsDuration())
	r.milliseconds = float64(took) / float64(time.Millisecond)
	if strings.HasPrefix(tags[tagContentType], "application/grpc") {
		labels.protocol, labels.grpcStatus = "grpc", plain(tags[tagGRPCStatus])
		sent, received, _ := strings.Cut(tags[tagMessages], ",")
		var err, err2 error
		r.sent, err = strconv.ParseUint(sent, 10, 64)
		r.received, err2 = strconv.ParseUint(received, 10, 64)
		r.counted = err == nil && err2 == nil
	}
	l.receiver.metrics.request(labels, l.groups, tags, &r)
}

func (l *stream) tcp(e *data.TCPAccessLogEntry) {
	c := e.GetCommonProperties()
	tags, p := c.GetCustomTags(), e.GetConnectionProperties()
	labels := l.receiver.labels(c, "", l.inbound)
	labels.protocol = "tcp"
	id, now := tags[tagConnection], transferred{sent: p.GetSentBytes(), received: p.GetReceivedBytes()}
	before, known := l.before[id]
	out := connection{sent: now.sent - min(before.sent, now.sent), received: now.received - min(before.received, now.received)}
	if before.unopened {
		out.opened = 1
	}
	full := !known && len(l.before) >= maxLasting
	switch c.GetAccessLogType() {
	case data.AccessLogType_TcpUpstreamConnected:
		// Envoy connects to the application before the client has shown its
		// certificate: who it is, the next entry knows.
		if l.inbound && !full {
			l.before[id] = transferred{unopened: true}
			return
		}
		labels.flags = "-" // its end is not known yet
		out = connection{opened: 1}
	case data.AccessLogType_TcpPeriodic:
		labels.flags = "-"
		if full {
			return
		}
		l.before[id] = now
	default:
		delete(l.before, id)
		out.closed = 1
	}
	l.receiver.metrics.connection(labels, l.groups, tags, &out)
}

func (r *Receiver) labels(c *data.AccessLogCommon, authority string, inbound bool) labels {
	tags := c.GetCustomTags()
	l := labels{service: serviceOf(tags[tagServices], c.GetUpstreamCluster(), authority), flags: tags[tagFlags]}
	if l.flags == "" {
		l.flags = "-"
	}
	if inbound {
		principal := plain(tags[tagDownstream])
		l.reporter, l.policy, l.destination = "destination", "none", r.own
		if principal != "" {
			l.policy = "mutual_tls"
		}
		l.source = r.other(c.GetDownstreamRemoteAddress().GetSocketAddress().GetAddress(), principal, "")
		return l
	}
	l.reporter, l.policy, l.source = "source", "unknown", r.own
	l.destination = r.other(c.GetUpstreamRemoteAddress().GetSocketAddress().GetAddress(), plain(tags[tagUpstream]), tags[tagEndpoint])
	return l
}

// other is the peer: as the control plane knows its address, unless its
// certificate says otherwise, or else as the endpoint's metadata does.
func (r *Receiver) other(address, principal, endpoint string) Workload {
	w := fromPrincipal(principal)
	if endpoint = plain(endpoint); endpoint != "" {
		w = fromEndpoint(endpoint, principal)
	}
	if r.peer == nil || address == "" {
		return w
	}
	if known, ok := r.peer(address); ok && (w.Namespace == "" || w.Namespace == known.Namespace) {
		known.Principal = principal
		return known
	}
	return w
}

// plain is a formatted value without Envoy's sign for none.
func plain(s string) string {
	if s == "-" {
		return ""
	}
	return s
}
