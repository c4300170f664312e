package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
)

// recorder is an address in front of a control plane. It passes connections on
// and keeps what the control plane says on them.
type recorder struct {
	listener net.Listener
	serving  sync.WaitGroup

	mu   sync.Mutex
	to   string // where connections lead; empty: they end at once
	said []*saying
}

// saying is what came from the control plane on one connection.
type saying struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *saying) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func startRecorder(t *testing.T) *recorder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{listener: l}
	r.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			r.serving.Go(func() { r.pass(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		r.serving.Wait()
	})
	return r
}

// lead has connections that begin from now on lead to an address.
func (r *recorder) lead(to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = to
}

func (r *recorder) pass(c net.Conn) {
	defer func() { _ = c.Close() }()
	r.mu.Lock()
	to := r.to
	r.mu.Unlock()
	if to == "" {
		return
	}
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	said := &saying{}
	r.mu.Lock()
	r.said = append(r.said, said)
	r.mu.Unlock()
	var upward sync.WaitGroup
	upward.Go(func() {
		_, _ = io.Copy(up, c) // until either side ends
		_ = up.Close()
	})
	_, _ = io.Copy(io.MultiWriter(said, c), up)
	_ = up.Close()
	_ = c.Close()
	upward.Wait()
}

// heard is what was said on all connections.
type heard struct {
	responses []*discovery.DeltaDiscoveryResponse
	ends      []string // the status of each stream that ended
	goAway    bool
}

// resources are the names of what the responses hold, by type.
func (h *heard) resources() map[string][]string {
	out := map[string][]string{}
	for _, r := range h.responses {
		for _, x := range r.GetResources() {
			out[r.GetTypeUrl()] = append(out[r.GetTypeUrl()], x.GetName())
		}
	}
	return out
}

func (r *recorder) heard(t *testing.T) heard {
	t.Helper()
	var out heard
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.said {
		s.mu.Lock()
		b := bytes.Clone(s.b.Bytes())
		s.mu.Unlock()
		out.read(t, b)
	}
	return out
}

// read takes in the bytes of a connection.
func (h *heard) read(t *testing.T, b []byte) {
	t.Helper()
	frames := http2.NewFramer(io.Discard, bytes.NewReader(b))
	frames.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	data := map[uint32][]byte{} // of each stream, not decoded yet
	for {
		frame, err := frames.ReadFrame()
		if err != nil {
			return // the end, perhaps amidst a frame
		}
		switch f := frame.(type) {
		case *http2.GoAwayFrame:
			h.goAway = true
		case *http2.MetaHeadersFrame:
			if f.StreamEnded() {
				var end string
				for _, field := range f.RegularFields() {
					if field.Name == "grpc-status" || field.Name == "grpc-message" {
						end += field.Value + " "
					}
				}
				h.ends = append(h.ends, end)
			}
		case *http2.DataFrame:
			data[f.StreamID] = h.decode(t, append(data[f.StreamID], f.Data()...))
		}
	}
}

// decode takes whole messages of a stream, and returns the rest: after a byte
// that says whether it is compressed, and its length, follows each message.
func (h *heard) decode(t *testing.T, b []byte) []byte {
	t.Helper()
	const prefix = 5
	for len(b) >= prefix {
		n := prefix + int(binary.BigEndian.Uint32(b[1:prefix]))
		if len(b) < n {
			return b
		}
		r := &discovery.DeltaDiscoveryResponse{}
		if err := proto.Unmarshal(b[prefix:n], r); err != nil {
			t.Fatal(err)
		}
		h.responses, b = append(h.responses, r), b[n:]
	}
	return b
}
