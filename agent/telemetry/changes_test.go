package telemetry

import (
	"strings"
	"testing"

	data "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func written(m *Metrics) string {
	var b strings.Builder
	m.Write(&b)
	return b.String()
}

// Overrides of the Telemetry API come behind the log's name: labels that are
// set, left out and added, and metrics that are not made.
func TestChanges(t *testing.T) {
	r := NewReceiver(Workload{Name: "me"}, nil, nil)
	s := &stream{receiver: r, before: map[string]transferred{}}
	s.inbound, s.groups = logOf(`pilotfish-inbound [{"metrics":["REQUEST_COUNT"],"remove":["response_code","response_flags"],"set":{"host":"x0","request_protocol":"x1"}},` +
		`{"metrics":["REQUEST_SIZE"],"disabled":true}]`)
	for _, code := range []uint32{200, 404} {
		s.http(&data.HTTPAccessLogEntry{
			CommonProperties: &data.AccessLogCommon{CustomTags: map[string]string{"x0": "-", "x1": `a"b`}},
			Response:         &data.HTTPResponseProperties{ResponseCode: wrapperspb.UInt32(code)},
		})
	}
	text := written(r.metrics)
	const count = `request_protocol="a\"b",grpc_response_status="",connection_security_policy="none",host="unknown"} 2`
	if !strings.Contains(text, count+"\n") {
		t.Errorf("no %s in\n%s", count, text)
	}
	for name, want := range map[string]int{
		"istio_requests_total{": 1, "istio_request_bytes_count{": 0, "istio_response_bytes_count{": 2,
		`istio_request_duration_milliseconds_count{reporter="destination",`: 2, `response_code="404"`: 2 * (2 + 20),
	} {
		if n := strings.Count(text, name); n != want {
			t.Errorf("%d times %s, want %d, in\n%s", n, name, want, text)
		}
	}
}

func TestChangesThatCannotBeRead(t *testing.T) {
	for _, name := range []string{"pilotfish-outbound", "pilotfish-outbound {", "pilotfish-outbound 3"} {
		inbound, groups := logOf(name)
		if inbound || len(groups) != 1 || groups[0].metrics != ofRequests|ofConnections || !groups[0].plain() {
			t.Errorf("%s: %v %+v", name, inbound, groups)
		}
	}
}

// Bytes of a connection that lasts are counted once, however often its entries
// tell how many there were so far.
func TestConnectionsThatLast(t *testing.T) {
	r := NewReceiver(Workload{Name: "me"}, nil, nil)
	s := &stream{receiver: r, before: map[string]transferred{}}
	s.inbound, s.groups = logOf(inboundLog)
	for _, e := range []struct {
		kind           data.AccessLogType
		sent, received uint64
	}{
		{data.AccessLogType_TcpUpstreamConnected, 0, 0}, {data.AccessLogType_TcpPeriodic, 10, 1},
		{data.AccessLogType_TcpPeriodic, 15, 1}, {data.AccessLogType_TcpConnectionEnd, 20, 3},
	} {
		s.tcp(&data.TCPAccessLogEntry{
			CommonProperties:     &data.AccessLogCommon{AccessLogType: e.kind, CustomTags: map[string]string{tagConnection: "7"}},
			ConnectionProperties: &data.ConnectionProperties{SentBytes: e.sent, ReceivedBytes: e.received},
		})
	}
	text := written(r.metrics)
	for _, want := range []string{"istio_tcp_sent_bytes_total 20", "istio_tcp_received_bytes_total 3", "istio_tcp_connections_opened_total 1", "istio_tcp_connections_closed_total 1"} {
		name, n, _ := strings.Cut(want, " ")
		if strings.Count(text, name+"{") != 1 || !strings.Contains(text, "} "+n+"\n") {
			t.Errorf("want %s in\n%s", want, text)
		}
	}
	if len(s.before) != 0 {
		t.Errorf("%d connections that ended are remembered", len(s.before))
	}
}

// Messages are counted where Envoy counted them.
func TestMessages(t *testing.T) {
	r := NewReceiver(Workload{Name: "me"}, nil, nil)
	s := &stream{receiver: r}
	_, s.groups = logOf(outboundLog)
	for _, tags := range []map[string]string{
		{tagContentType: "application/grpc", tagGRPCStatus: "0", tagMessages: "3,5"},
		{tagContentType: "application/grpc", tagGRPCStatus: "14", tagMessages: "-"},
		{tagContentType: "text/plain", tagMessages: "-"},
	} {
		s.http(&data.HTTPAccessLogEntry{CommonProperties: &data.AccessLogCommon{CustomTags: tags}})
	}
	text := written(r.metrics)
	if strings.Count(text, "istio_request_messages_total{") != 1 || strings.Count(text, "istio_requests_total{") != 3 ||
		!strings.Contains(text, `istio_response_messages_total{`) || !strings.Contains(text, "} 5\n") {
		t.Error(text)
	}
}
