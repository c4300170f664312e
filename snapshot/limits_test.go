package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

func TestLimits(t *testing.T) {
	t.Run("streams", func(t *testing.T) {
		w := newWorld(t)
		w.edit(small)
		reg := prometheus.NewRegistry()
		s := serve(t, w, snapshot.Options{Streams: 1, Registerer: reg})
		c := s.delta("one")
		c.subscribe(cds)
		c.take("cds +a +b")
		d := s.delta("two")
		d.subscribeQuietly(cds)
		if err := d.ended(); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("got %v", err)
		}
		c.quiet()
		if n := measured(t, reg, "pilotfish_xds_shed_total", "streams"); n != 1 {
			t.Errorf("%v streams counted, want 1", n)
		}
	})
	t.Run("streams of one proxy", func(t *testing.T) {
		w := newWorld(t)
		w.edit(small)
		reg := prometheus.NewRegistry()
		s := serve(t, w, snapshot.Options{StreamsPerProxy: 2, Registerer: reg})
		first := s.delta("one")
		first.subscribe(cds)
		first.take("cds +a +b")
		second := s.sotw("one")
		second.subscribe(cds)
		second.take("cds +a +b")
		third := s.delta("one")
		third.subscribeQuietly(cds)
		if err := third.ended(); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("got %v", err)
		}
		other := s.delta("two") // another proxy is not concerned
		other.subscribe(cds)
		other.take("cds +a +b")
		first.cancel()
		until(t, "the first stream has ended", func() bool { return len(s.server.Proxies()) == 2 })
		again := s.delta("one")
		again.subscribe(cds)
		again.take("cds +a +b")
		if n := measured(t, reg, "pilotfish_xds_shed_total", "proxy"); n != 1 {
			t.Errorf("%v streams counted, want 1", n)
		}
	})
	t.Run("connections", func(t *testing.T) {
		w := newWorld(t)
		w.edit(small)
		reg := prometheus.NewRegistry()
		s := serve(t, w, snapshot.Options{Connections: 1, Registerer: reg})
		c := s.delta("one")
		c.subscribe(cds)
		c.take("cds +a +b")
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a connection too many was not closed: %d bytes, %v", n, err)
		}
		c.quiet()
		if n := measured(t, reg, "pilotfish_xds_shed_total", "connections"); n != 1 {
			t.Errorf("%v connections counted, want 1", n)
		}
	})
	t.Run("strangers use up nothing", func(t *testing.T) {
		w := newWorld(t)
		w.edit(small)
		reg := prometheus.NewRegistry()
		var proven atomic.Bool
		o := snapshot.Options{Connects: 0.0001, StreamsPerProxy: 1, Requests: 0.1, Streams: 2, Registerer: reg}
		o.Authorize = func(context.Context, *config.Proxy) (snapshot.Grant, error) {
			if !proven.Load() {
				return snapshot.Grant{}, errors.New("who are you?")
			}
			return snapshot.Grant{}, nil
		}
		s := serve(t, w, o)
		for range 20 { // all of them say that they are the proxy
			d := s.delta("one")
			d.subscribeQuietly(cds)
			if err := d.ended(); status.Code(err) != codes.PermissionDenied {
				t.Errorf("got %v", err)
			}
			until(t, "the stranger has left", func() bool { return len(s.server.Proxies()) == 0 })
		}
		proven.Store(true)
		c := s.delta("one") // the one connect and stream that there are, are left
		c.subscribe(cds)
		c.take("cds +a +b")
		c.quiet() // and its requests
		if n := measured(t, reg, "pilotfish_xds_shed_total"); n != 0 {
			t.Errorf("strangers count %v times as shed by a limit", n)
		}
	})
	t.Run("requests", func(t *testing.T) {
		bothWith(t, small, snapshot.Options{Requests: 0.1}, func(t *testing.T, s *served, c *client) {
			for range 30 {
				c.subscribeQuietly(eds, "a")
			}
			if err := c.ended(); status.Code(err) != codes.ResourceExhausted {
				t.Errorf("got %v", err)
			}
			s.shed("requests", 1)
		})
	})
	t.Run("size of a request", func(t *testing.T) {
		bothWith(t, small, snapshot.Options{RequestSize: 1000}, func(t *testing.T, s *served, c *client) {
			c.subscribeQuietly(eds, strings.Repeat("x", 2000))
			if err := c.ended(); status.Code(err) != codes.ResourceExhausted {
				t.Errorf("got %v", err)
			}
			s.shed("size", 1)
		})
	})
	t.Run("silence at first", func(t *testing.T) {
		bothWith(t, small, snapshot.Options{FirstRequestTimeout: time.Millisecond}, func(t *testing.T, s *served, c *client) {
			if err := c.ended(); status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("got %v", err)
			}
			s.shed("silence", 1)
		})
	})
	t.Run("connects", func(t *testing.T) {
		w := newWorld(t)
		w.edit(small)
		s := serve(t, w, snapshot.Options{Connects: 0.0001, Registerer: prometheus.NewRegistry()})
		c := s.delta("one") // the burst is one
		c.subscribe(cds)
		c.take("cds +a +b")
		ctx, cancel := context.WithTimeout(context.Background(), patience) // its turn comes in hours
		defer cancel()
		st, err := discovery.NewAggregatedDiscoveryServiceClient(s.dial()).DeltaAggregatedResources(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Send(&discovery.DeltaDiscoveryRequest{Node: node("two"), TypeUrl: cds}); err != nil {
			t.Fatal(err)
		}
		if _, err := st.Recv(); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("got %v", err)
		}
		s.shed("connects", 1)
		until(t, "only one proxy is left", func() bool { return len(s.server.Proxies()) == 1 })
	})
	t.Run("streams of one connection", func(t *testing.T) {
		w := newWorld(t)
		w.edit(small)
		s := serve(t, w, snapshot.Options{StreamsPerConnection: 1})
		ads := discovery.NewAggregatedDiscoveryServiceClient(s.dial())
		open := func(within time.Duration) (end func(), err error) {
			ctx, cancel := context.WithTimeout(context.Background(), within)
			t.Cleanup(cancel)
			st, err := ads.DeltaAggregatedResources(ctx)
			if err == nil {
				err = st.Send(&discovery.DeltaDiscoveryRequest{Node: node("one"), TypeUrl: cds})
			}
			if err == nil {
				_, err = st.Recv()
			}
			return cancel, err
		}
		end, err := open(patience)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open(100 * time.Millisecond); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("a second stream: %v, want none", err)
		}
		end()
		if _, err := open(patience); err != nil {
			t.Errorf("a stream after the first one has ended: %v", err)
		}
	})
}

// shed waits until a limit has ended or refused that many streams. The Server's
// Registerer must be a Registry.
func (s *served) shed(limit string, want float64) {
	s.t.Helper()
	t, reg := s.t.(*testing.T), s.options.Registerer.(*prometheus.Registry)
	until(t, fmt.Sprintf("%q counts %v streams", limit, want), func() bool {
		return measured(t, reg, "pilotfish_xds_shed_total", `"`+limit+`"`) == want
	})
}

// large is more than a connection's window takes.
func large(c *content) {
	big := strings.Repeat("x", 1000)
	for i := range 5000 {
		c.clusters[fmt.Sprint(big, i)] = 1
	}
}

// deaf is a client that asks and never reads.
func (s *served) deaf(ctx context.Context, isSotW bool) {
	s.t.Helper()
	ads := discovery.NewAggregatedDiscoveryServiceClient(s.dial())
	if !isSotW {
		st, err := ads.DeltaAggregatedResources(ctx)
		if err != nil {
			s.t.Fatal(err)
		}
		if err := st.Send(&discovery.DeltaDiscoveryRequest{Node: node("slow"), TypeUrl: cds}); err != nil {
			s.t.Fatal(err)
		}
		return
	}
	st, err := ads.StreamAggregatedResources(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, url := range []string{cds, eds} {
		r := &discovery.DiscoveryRequest{Node: node("slow"), TypeUrl: url, ResourceNames: []string{"*"}}
		if err := st.Send(r); err != nil {
			s.t.Fatal(err)
		}
	}
}

// TestCoalesced: what a client that does not read never gets to see is passed
// over, not kept for it, and is counted.
func TestCoalesced(t *testing.T) {
	w := newWorld(t)
	w.edit(large)
	reg := prometheus.NewRegistry()
	s := serve(t, w, snapshot.Options{Registerer: reg})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.deaf(ctx, false)
	until(t, "the slow reader is connected", func() bool { return len(s.server.Proxies()) == 1 })
	edits := 0
	until(t, "views are passed over", func() bool {
		edits++
		w.edit(func(c *content) { c.clusters["a"] = edits })
		until(t, "the edit is in service", func() bool { return s.cache.Mesh() == w.Mesh() })
		return measured(t, reg, "pilotfish_xds_coalesced_total") >= 3
	})
	c := s.delta("fast") // the next one is sent the newest
	c.subscribe(cds)
	until(t, "the newest comes", func() bool { r := c.recv(); c.ack(r); return r.versions["a"] != "" })
}

func TestSlowReader(t *testing.T) {
	w := newWorld(t)
	w.edit(large)
	for _, p := range []string{"delta", "sotw"} {
		t.Run(p, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			s := serve(t, w, snapshot.Options{SendTimeout: time.Millisecond, Registerer: reg})
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			s.deaf(ctx, p == "sotw")
			fast := s.client("fast", p == "sotw")
			fast.subscribe(rds, "r")
			fast.recv() // meanwhile others are served
			until(t, "the slow reader is counted", func() bool { return measured(t, reg, "pilot_xds_write_timeout") == 1 })
			until(t, "the slow reader is closed", func() bool {
				list := s.server.Proxies()
				return len(list) == 1 && list[0].Proxy.Name == "fast"
			})
		})
	}
}

func TestDrain(t *testing.T) {
	both(t, small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.server.Shutdown(ctx, s.grpc)
		}()
		if err := c.ended(); status.Code(err) != codes.Unavailable {
			t.Errorf("got %v, want Unavailable", err)
		}
		<-done
		if ctx.Err() != nil {
			t.Error("draining took all the time that it had")
		}
	})
}

func TestDrainIsBounded(t *testing.T) {
	w := newWorld(t)
	w.edit(small)
	s := serve(t, w, snapshot.Options{})
	c := s.delta("one")
	c.start([]string{"a", "b"}, []string{"r"}, "l")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.server.Shutdown(ctx, s.grpc)
	if err := c.ended(); err == nil {
		t.Error("the stream ended without an error")
	}
}
