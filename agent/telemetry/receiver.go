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
// nil, knows workloads by their addresses; it may block shortly.
func NewReceiver(own Workload, peer func(address string) (Workload, bool)) *Receiver {
	return &Receiver{own: own, metrics: newMetrics(), peer: peer}
}

// Metrics are what follows from the log so far.
func (r *Receiver) Metrics() *Metrics { return r.metrics }

// Register serves it on a gRPC server.
func (r *Receiver) Register(g *grpc.Server) { als.RegisterAccessLogServiceServer(g, r) }

// StreamAccessLogs takes one worker's entries of one log.
func (r *Receiver) StreamAccessLogs(s als.AccessLogService_StreamAccessLogsServer) error {
	inbound := false
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&als.StreamAccessLogsResponse{})
		}
		if err != nil {
			return err
		}
		if id := m.GetIdentifier(); id != nil {
			inbound = id.GetLogName() == inboundLog
		}
		for _, e := range m.GetHttpLogs().GetLogEntry() {
			r.http(e, inbound)
		}
		for _, e := range m.GetTcpLogs().GetLogEntry() {
			r.tcp(e, inbound)
		}
	}
}

func (r *Receiver) http(e *data.HTTPAccessLogEntry, inbound bool) {
	c := e.GetCommonProperties()
	l := r.labels(c, e.GetRequest().GetAuthority(), inbound)
	l.protocol = "http"
	l.code = strconv.FormatUint(uint64(e.GetResponse().GetResponseCode().GetValue()), 10)
	if strings.HasPrefix(c.GetCustomTags()[tagContentType], "application/grpc") {
		l.protocol, l.grpcStatus = "grpc", plain(c.GetCustomTags()[tagGRPCStatus])
	}
	took := max(c.GetTimeToLastDownstreamTxByte().AsDuration(), c.GetTimeToLastRxByte().AsDuration())
	in := e.GetRequest().GetRequestHeadersBytes() + e.GetRequest().GetRequestBodyBytes()
	out := e.GetResponse().GetResponseHeadersBytes() + e.GetResponse().GetResponseBodyBytes()
	r.metrics.request(l, float64(took)/float64(time.Millisecond), float64(in), float64(out))
}

func (r *Receiver) tcp(e *data.TCPAccessLogEntry, inbound bool) {
	c := e.GetCommonProperties()
	l := r.labels(c, "", inbound)
	l.protocol = "tcp"
	if c.GetAccessLogType() == data.AccessLogType_TcpUpstreamConnected {
		l.flags = "-" // its end is not known yet
		r.metrics.connection(l, true, false, 0, 0)
		return
	}
	p := e.GetConnectionProperties()
	r.metrics.connection(l, false, true, p.GetSentBytes(), p.GetReceivedBytes())
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
