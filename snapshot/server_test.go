package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// until polls for what the server comes to by itself.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	envoytest.Eventually(t, patience, func() string {
		if ok() {
			return ""
		}
		return "never happened: " + what
	})
}

// measured returns the sum of a metric's values whose labels contain all of
// the given values.
func measured(t *testing.T, g prometheus.Gatherer, name string, labels ...string) (sum float64) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			text := fmt.Sprint(m.GetLabel())
			match := true
			for _, l := range labels {
				match = match && strings.Contains(text, l)
			}
			if match {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

func TestWhoMayConnect(t *testing.T) {
	w := newWorld(t)
	w.edit(small)
	authorize := func(_ context.Context, p *config.Proxy) (snapshot.Grant, error) {
		switch p.Name {
		case "denied":
			return snapshot.Grant{}, errors.New("not you")
		case "unknown":
			return snapshot.Grant{}, status.Error(codes.Unauthenticated, "who are you?")
		}
		return snapshot.Grant{}, nil
	}
	s := serve(t, w, snapshot.Options{Authorize: authorize})
	for _, tc := range []struct {
		name string
		node *core.Node
		code codes.Code
		text string
	}{
		{"no node", nil, codes.InvalidArgument, "no node"},
		{"empty id", &core.Node{}, codes.InvalidArgument, "type~ip~name.namespace~domain"},
		{"strange type", &core.Node{Id: "ztunnel~1.1.1.1~a.b~c"}, codes.InvalidArgument, "neither sidecar nor router"},
		{"no namespace", &core.Node{Id: "sidecar~1.1.1.1~a~c"}, codes.InvalidArgument, "not a name and a namespace"},
		{"denied", node("denied"), codes.PermissionDenied, "not you"},
		{"unknown", node("unknown"), codes.Unauthenticated, "who are you?"},
	} {
		for _, p := range []string{"delta", "sotw"} {
			t.Run(tc.name+"/"+p, func(t *testing.T) {
				c := s.client("x", p == "sotw")
				c.node = tc.node
				c.subscribe(cds)
				err := c.ended()
				if status.Code(err) != tc.code || !strings.Contains(err.Error(), tc.text) {
					t.Errorf("got %v, want %v with %q", err, tc.code, tc.text)
				}
			})
		}
	}
	if list := s.server.Proxies(); len(list) > 0 {
		t.Errorf("proxies %v, want none", list)
	}
}

func TestTypeIsNeeded(t *testing.T) {
	both(t, small, func(t *testing.T, s *served, c *client) {
		c.subscribe("")
		if err := c.ended(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("got %v", err)
		}
	})
}

func TestUnknownType(t *testing.T) {
	both(t, small, func(t *testing.T, s *served, c *client) {
		const url = "type.googleapis.com/istio.workload.Address"
		c.subscribe(url)
		c.take(url) // nothing, but an answer
		c.subscribe(cds)
		c.take("cds +a +b")
		c.quiet()
	})
}

func TestHealthBeforeTheFirstRequest(t *testing.T) {
	w := newWorld(t)
	w.edit(small)
	c := serve(t, w, snapshot.Options{}).delta("one")
	if err := c.delta.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: "type.googleapis.com/istio.v1.HealthInformation"}); err != nil {
		t.Fatal(err)
	}
	c.subscribe(cds)
	c.take("cds +a +b")
}

func TestStaleNonce(t *testing.T) {
	t.Run("delta", func(t *testing.T) {
		w := newWorld(t)
		w.edit(small)
		reg := prometheus.NewRegistry()
		c := serve(t, w, snapshot.Options{Registerer: reg}).delta("one")
		c.subscribe(eds, "a")
		c.take("eds +a")
		// A subscription counts even beside a nonce that does not.
		c.send(&discovery.DeltaDiscoveryRequest{TypeUrl: eds, ResponseNonce: "77", ResourceNamesSubscribe: []string{"b"}})
		c.take("eds +b")
		c.quiet()
		if n := measured(t, reg, "pilot_xds_expired_nonce", "eds"); n != 1 {
			t.Errorf("%v stale nonces counted, want 1", n)
		}
	})
	t.Run("sotw", func(t *testing.T) {
		w := newWorld(t)
		w.edit(small)
		reg := prometheus.NewRegistry()
		c := serve(t, w, snapshot.Options{Registerer: reg}).sotw("one")
		c.subscribe(eds, "a")
		first := c.take("eds +a")
		c.quiet()
		w.endpoints("a", "10.1.1.1")
		second := c.expect("eds +a")
		c.last[eds] = first
		c.subscribe(eds, "b") // crosses the second response
		c.quiet()
		c.last[eds] = second
		c.state(eds, nil) // states a and b
		c.take("eds +b")
		if n := measured(t, reg, "pilot_xds_expired_nonce", "eds"); n != 1 {
			t.Errorf("%v stale nonces counted, want 1", n)
		}
	})
}

func TestSplit(t *testing.T) {
	w := newWorld(t)
	w.edit(func(c *content) {
		for i := range 40 {
			c.clusters[fmt.Sprintf("c%02d", i)] = 1
		}
	})
	o := snapshot.Options{ResponseSize: 1000}
	t.Run("delta", func(t *testing.T) {
		c := serve(t, w, o).delta("one")
		c.subscribe(cds)
		seen := map[string]bool{}
		responses := 0
		for len(seen) < 40 {
			r := c.recv() // all of them without an acknowledgement in between
			size := 0
			for _, n := range r.names {
				if seen[n] {
					t.Fatalf("%s was sent twice", n)
				}
				seen[n] = true
				size += len(r.bodies[n])
			}
			if r.url != cds || size > 1000 {
				t.Fatalf("%d bytes of %s", size, r.url)
			}
			defer c.ack(r)
			responses++
		}
		if responses < 4 {
			t.Errorf("%d responses for 40 clusters", responses)
		}
		w.edit(func(c *content) { c.clusters["c00"] = 2 })
		c.quiet() // the next step waits for all pieces
	})
	t.Run("sotw", func(t *testing.T) {
		c := serve(t, w, o).sotw("one")
		c.subscribe(cds)
		if r := c.recv(); len(r.names) != 40 {
			t.Errorf("%d clusters in the first response, want all 40", len(r.names))
		}
	})
}

func TestIntrospection(t *testing.T) {
	both(t, small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		until(t, "one proxy is synced", func() bool {
			list := s.server.Proxies()
			return len(list) == 1 && list[0].Proxy.Name == "one" && list[0].Sync() == snapshot.Synced
		})
		list := s.server.Proxies()
		for _, ty := range list[0].Types {
			r := c.last[ty.Type]
			if r == nil {
				if ty.Sync != snapshot.NotSent {
					t.Errorf("%s is %s, want NOT SENT", ty.Short, ty.Sync)
				}
				continue
			}
			if ty.Sent != r.version || ty.Acked != r.version || ty.Nonce != r.nonce || ty.AckedAt.Before(ty.SentAt) {
				t.Errorf("%+v after %v", ty, r)
			}
		}
		sent := s.server.Config(list[0].Proxy.ID)
		var got []string
		for _, x := range sent {
			for _, r := range x.Resources {
				got = append(got, short(x.Type)+" "+r.Name)
			}
		}
		if text := strings.Join(got, ", "); text != "cds a, cds b, eds a, eds b, lds l, rds r" {
			t.Errorf("config is %s", text)
		}
		if s.server.Config("sidecar~1~x.y~z") != nil {
			t.Error("config of a proxy that is not connected")
		}

		s.world.edit(func(c *content) { c.routes["r"] = 2 })
		r := c.expect("rds +r")
		if sync := s.server.Proxies()[0].Sync(); sync != snapshot.Stale {
			t.Errorf("before the acknowledgement it is %s", sync)
		}
		c.nack(r, "no good")
		c.take("rds +r")
		c.quiet()
		s.world.edit(func(c *content) { c.routes["r"] = 3 })
		c.take("rds +r")
		until(t, "it is synced", func() bool { return s.server.Proxies()[0].Sync() == snapshot.Synced })
		c.cancel()
		until(t, "the proxy is gone", func() bool { return len(s.server.Proxies()) == 0 })
	})
}

func TestChanges(t *testing.T) {
	both(t, small, func(t *testing.T, s *served, c *client) {
		d := s.client("two", c.isSotW)
		for _, x := range []*client{c, d} {
			x.start([]string{"a", "b"}, []string{"r"}, "l")
			x.quiet()
		}
		s.world.edit(func(c *content) { c.routes["r"] = 2; c.listeners["l"] = 2 })
		for _, x := range []*client{c, d} {
			x.expect("lds +l")
			x.expect("rds +r")
		}
		c.ack(c.last[lds])
		c.ack(c.last[rds])
		until(t, "one is reached", func() bool { return s.server.Changes()[0].Reached == 1 })
		d.ack(d.last[lds])
		d.quiet()
		ch := s.server.Changes()[0]
		if ch.Proxies != 2 || ch.Reached != 1 || len(ch.Arrivals) != 1 || ch.Arrivals[0].Proxy != s.server.Proxies()[0].Proxy.ID {
			t.Fatalf("change %+v, want one of two proxies reached", ch)
		}
		d.ack(d.last[rds])
		until(t, "both are reached", func() bool { return s.server.Changes()[0].Reached == 2 })
		ch = s.server.Changes()[0]
		if ch.Reached != 2 || ch.Last <= 0 || ch.Last < ch.Arrivals[0].After {
			t.Errorf("change %+v, want both proxies reached", ch)
		}
		if ch.ObjectCount != 1 || ch.Objects[0].Kind != "VirtualService" || ch.Objects[0].Name != "edit" {
			t.Errorf("objects %v", ch.Objects)
		}
		s.world.endpoints("a", "10.9.9.9")
		c.take("eds +a")
		until(t, "one is reached", func() bool { return s.server.Changes()[0].Reached == 1 })
		if ch = s.server.Changes()[0]; ch.Reached != 1 || ch.Objects[0].Kind != "Endpoints" {
			t.Errorf("change %+v", ch)
		}
		d.cancel()
		until(t, "the one that left is not waited for", func() bool { return s.server.Changes()[0].Proxies == 1 })
	})
}

func TestMetrics(t *testing.T) {
	w := newWorld(t)
	w.edit(small)
	reg := prometheus.NewRegistry()
	s := serve(t, w, snapshot.Options{Registerer: reg})
	c := s.delta("one")
	c.start([]string{"a", "b"}, []string{"r"}, "l")
	w.edit(func(c *content) { c.routes["r"] = 2 })
	c.nack(c.expect("rds +r"), "no good")
	c.take("rds +r")
	w.endpoints("a", "10.9.9.9")
	c.take("eds +a")
	c.quiet()
	d := s.delta("two") // in another namespace everything is the same
	d.node.Metadata.Fields["NAMESPACE"] = structpb.NewStringValue("other")
	d.subscribe(eds, "a", "b")
	d.take("eds +a +b")
	d.cancel()
	until(t, "the other one has left", func() bool { return len(s.server.Proxies()) == 1 })
	until(t, "both changes have arrived", func() bool { return measured(t, reg, "pilot_proxy_convergence_time") == 2 })
	for _, tc := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"pilot_xds", []string{"1.31.0"}, 1},
		{"pilot_xds_pushes", []string{`"cds"`}, 1},
		{"pilot_xds_pushes", []string{`"rds"`}, 3},
		{"pilot_total_xds_rejects", []string{`"rds"`}, 1},
		{"pilot_xds_rds_reject", []string{"one.default", "InvalidArgument"}, 1},
		{"pilot_virt_services", nil, 1},
		{"pilot_xds_config_size_bytes", []string{rds}, 3},
		{"pilot_proxy_queue_time", nil, 3}, // the route, the last good one instead, the endpoint
		{"pilot_xds_push_time", []string{`"eds"`}, 3},
		{"pilotfish_xds_coalesced_total", nil, 0},
		{"pilotfish_xds_class_refreshes_total", []string{"made"}, 5},   // two of each namespace, and one for the route
		{"pilotfish_xds_class_refreshes_total", []string{"reused"}, 1}, // inbound, which has no routes
		{"pilotfish_xds_assignments_total", []string{"made"}, 3},       // of a, of b, of a changed
		{"pilotfish_xds_assignments_total", []string{"reused"}, 2},     // both, for the other namespace
	} {
		if got := measured(t, reg, tc.name, tc.labels...); got != tc.want {
			t.Errorf("%s%v is %v, want %v", tc.name, tc.labels, got, tc.want)
		}
	}
	c.cancel()
	until(t, "nobody is connected", func() bool { return measured(t, reg, "pilot_xds") == 0 })
	if got := measured(t, reg, "pilot_xds_rds_reject"); got != 0 {
		t.Errorf("rejections of a proxy that left are still shown: %v", got)
	}
}

func TestTranslatedOnce(t *testing.T) {
	w := newWorld(t)
	w.edit(small)
	s := serve(t, w, snapshot.Options{})
	var clients []*client
	for i := range 20 {
		c := s.delta(fmt.Sprint("p", i))
		c.subscribe(cds)
		clients = append(clients, c)
	}
	for _, c := range clients {
		c.take("cds +a +b")
	}
	w.edit(func(c *content) { c.clusters["c"] = 1 })
	for _, c := range clients {
		c.take("cds +c")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for class, n := range w.made {
		want := 2 // one for each Mesh
		if class.Labels != "" {
			want = 1 // the second Mesh gathered to an equal key
		}
		if n != want {
			t.Errorf("%v was translated %d times, want %d", class, n, want)
		}
	}
}
