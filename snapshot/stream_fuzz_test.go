package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// FuzzStream plays a client that follows no rule, on one stream of either
// protocol, while the mesh changes. Its stream must end when it says so or be
// refused, and the next client must get every cluster that no proxy is known to
// have rejected, and no others.
func FuzzStream(f *testing.F) {
	for _, script := range []string{
		"", "d\x00\x00", "s\x00\x00", "d\x00\x01\x07\x03\x02\x01\xff\x05", "s\x10\x11\x12\x13\x14\x15",
		"d\x01\x00\x00\x0b\x01\x01\x0c\x02\x02\x0d\x03\x03\x0e\x04\x04", "s\x00\x40\x00\x80\x01\x41\x01\x81",
		"d\xf0\x00\x00\xf1\x00\x00\x00\x10\x30\xf0\x01\x10\x30", "s\xf0\x00\xf1\x01\xf2\x02\x08\x88\xf0",
	} {
		f.Add([]byte(script))
	}
	w := newWorld(f)
	s := serve(f, w, snapshot.Options{})
	w.edit(func(c *content) {
		set(c.clusters, "a", "b")
		set(c.listeners, "l")
		set(c.routes, "r")
	})
	cc := s.dial()
	f.Fuzz(func(t *testing.T, script []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if len(script) > 0 && script[0] == 's' {
			unruly(ctx, t, w, script[1:], newSotW(ctx, t, cc))
		} else if len(script) > 0 {
			unruly(ctx, t, w, script[1:], newDelta(ctx, t, cc))
		}
		ads := newDelta(ctx, t, cc)
		ads.send(&request{url: cds, node: true})
		_, names, err := ads.receive()
		if err != nil {
			t.Fatalf("the next client: %v", err)
		}
		for name := range w.contents[w.Mesh()].clusters {
			if !slices.Contains(names, name) && !refused(s, name) {
				t.Errorf("the next client got %q, without %s", names, name)
			}
		}
		for _, name := range names {
			if w.contents[w.Mesh()].clusters[name] == 0 {
				t.Errorf("the next client got %q, which does not exist", name)
			}
		}
		ads.end()
	})
}

// refused reports whether the server says that a proxy refuses a cluster.
func refused(s *served, name string) bool {
	return slices.ContainsFunc(s.server.Problems(), func(p config.Problem) bool {
		return p.Code == "ProxyRejected" && strings.Contains(p.Message, fmt.Sprintf("%q", name))
	})
}

// request is what a script sends, in the terms of both protocols.
type request struct {
	url, nonce, version string
	node, refuses       bool
	names, unsubscribe  []string
	known               map[string]string
}

func (r *request) detail() *rpc.Status {
	if !r.refuses {
		return nil
	}
	return &rpc.Status{Code: 3, Message: "Error adding/updating cluster(s) a: no"}
}

// peer is a stream of one protocol.
type peer struct {
	send    func(*request)
	receive func() (nonce string, names []string, err error)
	end     func()
}

func newDelta(ctx context.Context, t *testing.T, cc *grpc.ClientConn) peer {
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(cc).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return peer{
		send: func(r *request) {
			m := &discovery.DeltaDiscoveryRequest{
				TypeUrl: r.url, ResponseNonce: r.nonce, ResourceNamesSubscribe: r.names, ResourceNamesUnsubscribe: r.unsubscribe,
				InitialResourceVersions: r.known, ErrorDetail: r.detail(),
			}
			if r.node {
				m.Node = node("fuzzed")
			}
			_ = stream.Send(m) // the server may have ended the stream
		},
		receive: func() (string, []string, error) {
			m, err := stream.Recv()
			var names []string
			for _, x := range m.GetResources() {
				names = append(names, x.Name)
			}
			return m.GetNonce(), names, err
		},
		end: func() { _ = stream.CloseSend() },
	}
}

func newSotW(ctx context.Context, t *testing.T, cc *grpc.ClientConn) peer {
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(cc).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return peer{
		send: func(r *request) {
			m := &discovery.DiscoveryRequest{
				TypeUrl: r.url, ResponseNonce: r.nonce, VersionInfo: r.version, ResourceNames: r.names, ErrorDetail: r.detail(),
			}
			if r.node {
				m.Node = node("fuzzed")
			}
			_ = stream.Send(m)
		},
		receive: func() (string, []string, error) {
			m, err := stream.Recv()
			return m.GetNonce(), nil, err
		},
		end: func() { _ = stream.CloseSend() },
	}
}

var (
	fuzzedURLs  = []string{cds, eds, lds, rds, ecds, sds, "", "type.googleapis.com/nothing.Known"}
	fuzzedNames = []string{"a", "b", "r", "l", "c0", "c1", "*", "", "kubernetes://none", "xdstp://x/y"}
)

// unruly sends what a script says: three bytes a step, for the type and the
// resource names, the nonce, and the rest of the request. Steps of 0xf0 and
// above change the mesh.
func unruly(ctx context.Context, t *testing.T, w *world, script []byte, p peer) {
	nonces, done := make(chan string, 1), make(chan error, 1)
	go func() {
		for {
			nonce, _, err := p.receive()
			if err != nil {
				done <- err
				return
			}
			select { // the newest one only
			case <-nonces:
			default:
			}
			nonces <- nonce
		}
	}()
	last := ""
	for first := true; len(script) >= 3; first, script = false, script[3:] {
		a, b, c := script[0], script[1], script[2]
		if a >= 0xf0 {
			w.edit(func(k *content) { toggle(k.clusters, fuzzedNames[4+a%2]); toggle(k.routes, fuzzedNames[4+b%2]) })
			continue
		}
		select {
		case last = <-nonces:
		default:
		}
		r := &request{url: fuzzedURLs[a%8], node: first == (c&0x80 == 0), refuses: c&0x40 != 0, nonce: []string{"", last, "1", "\x00\u00e9"}[b%4]}
		for i, name := range fuzzedNames {
			if (int(b)>>2|int(c)<<6)>>i&1 != 0 {
				r.names = append(r.names, name)
			}
			if int(a)>>3>>(i%5)&1 != 0 {
				r.unsubscribe = append(r.unsubscribe, name)
			}
		}
		if c&0x20 != 0 {
			r.version, r.known = last, map[string]string{"a": "1", "c0": last, "gone": ""}
		}
		p.send(r)
	}
	p.end()
	select {
	case err := <-done:
		if errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			t.Fatalf("the stream did not end: %v", err)
		}
		if !errors.Is(err, io.EOF) {
			t.Logf("refused: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the stream did not end")
	}
}

func toggle(m map[string]int, name string) {
	if m[name] != 0 {
		delete(m, name)
	} else {
		m[name] = 1
	}
}
