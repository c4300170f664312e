package telemetry

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
)

// Receivers of the protocols that the OpenTelemetry collector here does not
// take. Each reads what Envoy sends and refuses what is not the protocol's.

// skySpan is one of SkyWalking's spans with what its segment says (the messages
// SegmentObject, SpanObject and SegmentReference of its protocol, version 3).
type skySpan struct {
	trace, segment, service, instance string
	name, peer                        string
	kind                              uint64 // 0 an entry, 1 an exit
	tags                              map[string]string
	parentSegment, parentService      string // of the first reference
}

type skywalking struct {
	mu    sync.Mutex
	list  []skySpan
	token string // of the last stream
	wrong error
}

// raw is a codec that leaves messages as they are.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }                             //nolint:forcetypeassert // see Unmarshal
func (raw) Unmarshal(b []byte, v any) error { *v.(*[]byte) = append([]byte(nil), b...); return nil } //nolint:forcetypeassert // RecvMsg is given nothing else
func (raw) Name() string                    { return "proto" }

const segments = "/skywalking.v3.TraceSegmentReportService/collect"

// startSkyWalking takes segments until the test ends; port is where.
func startSkyWalking(t *testing.T) (s *skywalking, port int) {
	t.Helper()
	s = &skywalking{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { //nolint:staticcheck // the codec of all calls
		return s.collect(stream)
	}))
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		<-done
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.wrong != nil {
			t.Error(s.wrong)
		}
	})
	return s, portOf(t, l.Addr().String())
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func (s *skywalking) collect(stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	md, _ := metadata.FromIncomingContext(stream.Context())
	for {
		var b []byte
		err := stream.RecvMsg(&b)
		if errors.Is(err, io.EOF) {
			return stream.SendMsg(&[]byte{})
		}
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.token = strings.Join(md.Get("authentication"), ",")
		if method != segments {
			s.wrong = fmt.Errorf("a call of %s", method)
		} else if list, err := segmentOf(b); err != nil {
			s.wrong = err
		} else {
			s.list = append(s.list, list...)
		}
		s.mu.Unlock()
	}
}

// spans are those whose URL holds a text.
func (s *skywalking) spans(path string) []skySpan {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []skySpan
	for _, x := range s.list {
		if strings.Contains(x.tags["url"], path) {
			out = append(out, x)
		}
	}
	return out
}

// fields calls f for each field of a message: with its bytes, or its number.
func fields(b []byte, f func(n protowire.Number, text []byte, number uint64) error) error {
	for len(b) > 0 {
		n, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		var text []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			text, size = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			number, size = protowire.ConsumeVarint(b)
		default:
			return fmt.Errorf("field %d of wire type %d", n, kind)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		if err := f(n, text, number); err != nil {
			return err
		}
		b = b[size:]
	}
	return nil
}

func segmentOf(b []byte) (spans []skySpan, err error) {
	var of skySpan
	err = fields(b, func(n protowire.Number, text []byte, _ uint64) error {
		switch n {
		case 1:
			of.trace = string(text)
		case 2:
			of.segment = string(text)
		case 3:
			s, err := skySpanOf(text)
			spans = append(spans, s)
			return err
		case 4:
			of.service = string(text)
		case 5:
			of.instance = string(text)
		}
		return nil
	})
	for i := range spans {
		spans[i].trace, spans[i].segment, spans[i].service, spans[i].instance = of.trace, of.segment, of.service, of.instance
	}
	return spans, err
}

func skySpanOf(b []byte) (skySpan, error) {
	s := skySpan{tags: map[string]string{}}
	err := fields(b, func(n protowire.Number, text []byte, number uint64) error {
		switch n {
		case 5:
			return fields(text, func(n protowire.Number, text []byte, _ uint64) error {
				switch n {
				case 3:
					s.parentSegment = string(text)
				case 5:
					s.parentService = string(text)
				}
				return nil
			})
		case 6:
			s.name = string(text)
		case 7:
			s.peer = string(text)
		case 8:
			s.kind = number
		case 12:
			key := ""
			return fields(text, func(n protowire.Number, text []byte, _ uint64) error {
				if n == 1 {
					key = string(text)
				} else {
					s.tags[key] = string(text)
				}
				return nil
			})
		}
		return nil
	})
	return s, err
}

// datadogSpan is one of Datadog's spans (its agent's traces API, version 0.4).
type datadogSpan struct {
	name, service, resource, kind string
	trace, id, parent             uint64
	meta                          map[string]any
}

type datadog struct {
	mu    sync.Mutex
	list  []datadogSpan
	wrong error
}

// startDatadog takes traces until the test ends; port is where.
func startDatadog(t *testing.T) (d *datadog, port int) {
	t.Helper()
	d = &datadog{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if r.URL.Path != "/v0.4/traces" || err != nil {
			return // what an agent is asked besides
		}
		d.take(b)
		_, _ = io.WriteString(w, `{"rate_by_service":{"service:,env:":1}}`)
	}))
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Close()
		if d.wrong != nil {
			t.Error(d.wrong)
		}
	})
	return d, portOf(t, at.Host)
}

func (d *datadog) take(b []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all, err := (&msgpack{b}).value()
	if err != nil {
		d.wrong = err
		return
	}
	traces, _ := all.([]any)
	for _, t := range traces {
		spans, _ := t.([]any)
		for _, s := range spans {
			m, _ := s.(map[string]any)
			meta, _ := m["meta"].(map[string]any)
			text := func(key string) string { v, _ := m[key].(string); return v }
			number := func(key string) uint64 { v, _ := m[key].(uint64); return v }
			d.list = append(d.list, datadogSpan{
				text("name"), text("service"), text("resource"), text("type"), number("trace_id"), number("span_id"), number("parent_id"), meta,
			})
		}
	}
}

// spans are those whose URL holds a text.
func (d *datadog) spans(path string) []datadogSpan {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []datadogSpan
	for _, s := range d.list {
		if at, _ := s.meta["http.url"].(string); strings.Contains(at, path) {
			out = append(out, s)
		}
	}
	return out
}

// msgpack reads what is left of a text in MessagePack.
type msgpack struct{ b []byte }

func (m *msgpack) take(n int) ([]byte, error) {
	if len(m.b) < n {
		return nil, io.ErrUnexpectedEOF
	}
	out := m.b[:n]
	m.b = m.b[n:]
	return out, nil
}

func (m *msgpack) uint(size int) (uint64, error) {
	b, err := m.take(size)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(append(make([]byte, 8-size), b...)), nil
}

// value is a text, a uint64 (of negative numbers the two's complement), a
// float64, a bool, a []any, a map[string]any, or nil.
func (m *msgpack) value() (any, error) {
	head, err := m.take(1)
	if err != nil {
		return nil, err
	}
	c := head[0]
	sized := func(size int, f func(n int) (any, error)) (any, error) {
		n, err := m.uint(size)
		if err != nil {
			return nil, err
		}
		return f(int(min(n, math.MaxInt32)))
	}
	switch {
	case c < 0x80:
		return uint64(c), nil
	case c < 0x90:
		return m.object(int(c & 0x0f))
	case c < 0xa0:
		return m.array(int(c & 0x0f))
	case c < 0xc0:
		return m.text(int(c & 0x1f))
	case c >= 0xe0:
		return uint64(int64(int8(c))), nil
	}
	switch c {
	case 0xc0:
		return nil, nil
	case 0xc2, 0xc3:
		return c == 0xc3, nil
	case 0xca:
		n, err := m.uint(4)
		return float64(math.Float32frombits(uint32(n))), err
	case 0xcb:
		n, err := m.uint(8)
		return math.Float64frombits(n), err
	case 0xcc, 0xcd, 0xce, 0xcf:
		return m.uint(1 << (c - 0xcc))
	case 0xd0:
		n, err := m.uint(1)
		return uint64(int64(int8(n))), err
	case 0xd1:
		n, err := m.uint(2)
		return uint64(int64(int16(n))), err
	case 0xd2:
		n, err := m.uint(4)
		return uint64(int64(int32(n))), err
	case 0xd3:
		return m.uint(8)
	case 0xd9, 0xda, 0xdb:
		return sized(1<<(c-0xd9), m.text)
	case 0xdc, 0xdd:
		return sized(2<<(c-0xdc), m.array)
	case 0xde, 0xdf:
		return sized(2<<(c-0xde), m.object)
	}
	return nil, fmt.Errorf("MessagePack of type %#x", c)
}

func (m *msgpack) text(n int) (any, error) {
	b, err := m.take(n)
	return string(b), err
}

func (m *msgpack) array(n int) (any, error) {
	var out []any
	for range n {
		v, err := m.value()
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func (m *msgpack) object(n int) (any, error) {
	out := map[string]any{}
	for range n {
		k, err := m.value()
		if err != nil {
			return nil, err
		}
		key, _ := k.(string)
		if out[key], err = m.value(); err != nil {
			return nil, err
		}
	}
	return out, nil
}
