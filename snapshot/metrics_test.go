package snapshot_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// TestBytesSent: the sums of pilot_xds_config_size_bytes are the bytes that the
// client received, and every send was timed.
func TestBytesSent(t *testing.T) {
	bothWith(t, small, snapshot.Options{}, func(t *testing.T, s *served, c *client) {
		got := map[string]float64{}
		sends := 0
		for _, ask := range [][]string{{cds}, {eds, "a", "b"}, {lds}, {rds, "r"}} {
			c.subscribe(ask[0], ask[1:]...)
			r := c.recv()
			c.ack(r)
			got[r.url] += float64(r.size)
			sends++
		}
		reg := s.options.Registerer.(*prometheus.Registry)
		for url, want := range got {
			if sum := sumOf(t, reg, "pilot_xds_config_size_bytes", url); sum != want || want == 0 {
				t.Errorf("%s: %v bytes counted, %v received", url, sum, want)
			}
		}
		until(t, "each send was timed", func() bool { return measured(t, reg, "pilot_xds_send_time") == float64(sends) })
	})
}

// sumOf is the sum of a histogram with a label.
func sumOf(t *testing.T, g prometheus.Gatherer, name, label string) (sum float64) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == label {
				sum += m.GetHistogram().GetSampleSum()
			}
		}
	}
	return sum
}

func TestUnknownTypesAreCounted(t *testing.T) {
	bothWith(t, small, snapshot.Options{}, func(t *testing.T, s *served, c *client) {
		c.subscribe("type.googleapis.com/nobody.knows.This")
		if r := c.recv(); len(r.names) != 0 {
			t.Errorf("got %v", r)
		}
		if n := measured(t, s.options.Registerer.(*prometheus.Registry), "pilotfish_xds_unknown_type_total"); n != 1 {
			t.Errorf("%v requests counted, want 1", n)
		}
	})
}

// TestRejectionsAreCounted: by the connected proxy, for each kind of Envoy's
// configuration.
func TestRejectionsAreCounted(t *testing.T) {
	bothWith(t, small, snapshot.Options{}, func(t *testing.T, s *served, c *client) {
		reg := s.options.Registerer.(*prometheus.Registry)
		for _, k := range []struct {
			url, metric string
			names       []string
		}{
			{cds, "pilot_xds_cds_reject", nil}, {eds, "pilot_xds_eds_reject", []string{"a"}},
			{lds, "pilot_xds_lds_reject", nil}, {rds, "pilot_xds_rds_reject", []string{"r"}},
		} {
			other := s.client("two", c.isSotW)
			other.subscribe(k.url, k.names...)
			other.nack(other.recv(), "no good")
			until(t, k.metric+" counts one", func() bool { return measured(t, reg, k.metric, "two.default", "InvalidArgument") == 1 })
			other.cancel()
			until(t, k.metric+" forgets who left", func() bool { return measured(t, reg, k.metric) == 0 })
		}
	})
}

// TestServicesAreCounted: those of the mesh in service.
func TestServicesAreCounted(t *testing.T) {
	meshes := &published{changed: make(chan struct{}, 1)}
	reg := prometheus.NewRegistry()
	serveFrom(t, newWorld(t), meshes, snapshot.Options{Registerer: reg})
	for n := range 3 {
		meshes.publish(func(b *config.Builder) {
			config.Put(b, func(m *config.Mesh) *config.Index[*config.Service] { return &m.Services }, &config.Service{
				Meta:     config.Meta{Key: config.Key{Kind: "Service", Namespace: "default", Name: fmt.Sprint("s", n)}, Hash: config.Hash(n + 1)},
				Hostname: fmt.Sprintf("s%d.default.svc.cluster.local", n),
			})
		})
		until(t, "one more is counted", func() bool { return measured(t, reg, "pilot_services") == float64(n+1) })
	}
}

// TestFailedSendsAreCounted: a response that the transport refuses ends the
// stream, and counts.
func TestFailedSendsAreCounted(t *testing.T) {
	w := newWorld(t)
	w.edit(small)
	reg := prometheus.NewRegistry()
	s := serve(t, w, snapshot.Options{Registerer: reg})
	g := grpc.NewServer(append(s.options.GRPC(), grpc.MaxSendMsgSize(10))...)
	s.server.Register(g)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = g.Serve(l) }()
	defer g.Stop()
	cc, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cc.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	st, err := discovery.NewAggregatedDiscoveryServiceClient(cc).DeltaAggregatedResources(ctx)
	if err == nil {
		err = st.Send(&discovery.DeltaDiscoveryRequest{Node: node("one"), TypeUrl: cds})
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v", err)
	}
	if n := measured(t, reg, "pilot_total_xds_internal_errors"); n != 1 {
		t.Errorf("%v errors counted, want 1", n)
	}
	if n := measured(t, reg, "pilot_xds_pushes", `"cds_senderr"`); n != 1 {
		t.Errorf("%v failed pushes counted, want 1", n)
	}
}

// TestEveryMetricIsTested: some test of this package names each metric that a
// Server registers.
func TestEveryMetricIsTested(t *testing.T) {
	reg := prometheus.NewRegistry()
	serve(t, newWorld(t), snapshot.Options{Registerer: reg})
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(b)
	}
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		reg.Describe(descs)
	}()
	n := 0
	for d := range descs {
		n++
		name := fqName.FindStringSubmatch(d.String())[1]
		if !strings.Contains(tests.String(), `"`+name+`"`) {
			t.Errorf("no test names %s", name)
		}
	}
	if n < 20 {
		t.Errorf("%d metrics", n)
	}
}

var fqName = regexp.MustCompile(`fqName: "([^"]+)"`)
