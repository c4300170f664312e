package telemetry

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
)

// Receivers that show what OpenTelemetry's of the same protocols leave out.
// Each reads what Envoy sends and refuses what is not the protocol's.

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
	server := grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
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
