package snapshot_test

import (
	"context"
	"net"
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

// TestStrangers: who says nothing, or waits to be let in, takes no place of
// those who were let in or will be.
func TestStrangers(t *testing.T) {
	t.Run("silent streams", func(t *testing.T) {
		w := newWorld(t)
		w.edit(small)
		s := serve(t, w, snapshot.Options{Strangers: 3, Streams: 1, FirstRequestTimeout: time.Hour, Registerer: prometheus.NewRegistry()})
		var ends []discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
		for range 8 {
			ends = append(ends, s.silent())
		}
		s.shed("strangers", 5)
		c := s.delta("one")
		c.subscribe(cds)
		c.take("cds +a +b")
		s.shed("strangers", 6)
		ended := 0
		for _, st := range ends[:6] {
			if _, err := st.Recv(); status.Code(err) == codes.ResourceExhausted {
				ended++
			}
		}
		if ended != 6 {
			t.Errorf("%d of the 6 that were silent for longest were ended", ended)
		}
		for range 8 {
			s.silent()
		}
		s.shed("strangers", 13) // of the three places two were taken
		c.subscribe(eds, "a")   // and who was let in stays
		c.take("eds +a")
	})
	t.Run("streams that wait to be let in", func(t *testing.T) {
		w := newWorld(t)
		w.edit(small)
		o := snapshot.Options{Strangers: 2, Registerer: prometheus.NewRegistry()}
		var waiting atomic.Int32
		o.Authorize = func(ctx context.Context, p *config.Proxy) (snapshot.Grant, error) {
			if p.Name != "one" {
				waiting.Add(1)
				<-ctx.Done()
			}
			return snapshot.Grant{}, ctx.Err()
		}
		s := serve(t, w, o)
		c := s.delta("one")
		c.subscribe(cds)
		c.take("cds +a +b")
		for _, name := range []string{"two", "three"} {
			d := s.delta(name)
			d.subscribeQuietly(cds)
		}
		until(t, "both wait to be let in", func() bool { return waiting.Load() == 2 })
		s.silent()
		until(t, "a stream more is refused", func() bool {
			d := s.delta("four")
			defer d.cancel()
			d.subscribeQuietly(cds)
			return status.Code(d.ended()) == codes.ResourceExhausted
		})
		c.subscribe(eds, "a")
		c.take("eds +a")
	})
	t.Run("connections", func(t *testing.T) {
		w := newWorld(t)
		w.edit(small)
		s := serve(t, w, snapshot.Options{Connections: 2, FirstRequestTimeout: time.Hour, Registerer: prometheus.NewRegistry()})
		for range 5 {
			s.mute()
		}
		s.shed("connections", 3)
		c := s.delta("one")
		c.subscribe(cds)
		c.take("cds +a +b")
		s.shed("connections", 4)
		for range 5 {
			s.mute()
		}
		s.shed("connections", 9)
		c.subscribe(eds, "a")
		c.take("eds +a")
	})
}

// silent opens a stream and says nothing.
func (s *served) silent() discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s.t.Cleanup(cancel)
	t, reg := s.t.(*testing.T), s.options.Registerer.(*prometheus.Registry)
	begun := func() float64 {
		return float64(s.server.Strangers()) + measured(t, reg, "pilotfish_xds_shed_total", `"strangers"`)
	}
	before := begun()
	st, err := discovery.NewAggregatedDiscoveryServiceClient(s.dial()).DeltaAggregatedResources(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	until(t, "the stream has begun", func() bool { return begun() > before })
	return st
}

// mute opens a connection and says nothing.
func (s *served) mute() {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
}
