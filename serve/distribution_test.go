package serve_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/serve"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// given is a source of what the test applies.
type given chan []discovery.Change

// Run implements discovery.Source.
func (g given) Run(ctx context.Context, s *discovery.Store) error {
	s.Apply("given", <-g)
	s.Synced("given")
	for {
		select {
		case <-ctx.Done():
			return nil
		case changes := <-g:
			s.Apply("given", changes)
		}
	}
}

func given1(kind, name string, generation int64, spec proto.Message) discovery.Change {
	return discovery.Change{Object: discovery.Object{Body: spec, Meta: config.Meta{
		Key:        config.Key{Group: discovery.NetworkingGroup, Kind: kind, Namespace: "shop", Name: name},
		Generation: generation, Version: "v1",
	}}}
}

func shopRoute(generation int64, header string) discovery.Change {
	return given1("VirtualService", "web", generation, &networking.VirtualService{
		Hosts: []string{"web.example.com"},
		Http: []*networking.HTTPRoute{{
			Match: []*networking.HTTPMatchRequest{{Headers: map[string]*networking.StringMatch{"x": {MatchType: &networking.StringMatch_Exact{Exact: header}}}}},
			Route: []*networking.HTTPRouteDestination{{Destination: &networking.Destination{Host: "web.example.com"}}},
		}},
	})
}

// acker is a proxy that accepts all that it is sent, and routes as it is told.
type acker struct {
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	mu     sync.Mutex // held: routes are not answered
	reject bool       // routes
}

func newAcker(t *testing.T, address, name string) *acker {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a := &acker{stream: stream}
	a.mu.Lock()
	first := &core.Node{Id: "sidecar~10.0.0.9~" + name + ".shop~shop.svc.cluster.local"}
	for _, r := range []*discoveryv3.DeltaDiscoveryRequest{
		{Node: first, TypeUrl: translate.ClusterType}, {TypeUrl: translate.ListenerType},
		{TypeUrl: translate.RouteType, ResourceNamesSubscribe: []string{"80"}},
	} {
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	go a.run()
	return a
}

func (a *acker) run() {
	for {
		got, err := a.stream.Recv()
		if err != nil {
			return
		}
		r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: got.GetTypeUrl(), ResponseNonce: got.GetNonce()}
		if got.GetTypeUrl() == translate.RouteType {
			a.mu.Lock()
			if a.reject {
				r.ErrorDetail = &rpc.Status{Code: 3, Message: "no such header"}
			}
			a.mu.Unlock()
		}
		if a.stream.Send(r) != nil {
			return
		}
	}
}

// A version is held by the proxies that have acknowledged it, and by no other.
func TestDistribution(t *testing.T) {
	objects := make(given, 1)
	objects <- []discovery.Change{
		given1("ServiceEntry", "web", 1, &networking.ServiceEntry{
			Hosts: []string{"web.example.com"}, Addresses: []string{"10.9.9.9"}, Resolution: networking.ServiceEntry_STATIC,
			Ports:     []*networking.ServicePort{{Name: "http", Number: 80, Protocol: "HTTP"}},
			Endpoints: []*networking.WorkloadEntry{{Address: "10.0.0.1"}},
		}),
		shopRoute(1, "one"),
	}
	plane := serve.NewPlane([]serve.NamedSource{{Name: "given", Source: objects}}, snapshot.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(snapshot.Options{}.GRPC()...)
	plane.Server.Register(server)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- server.Serve(l) }()
	go func() { ended <- plane.Run(ctx) }()
	t.Cleanup(func() {
		plane.Server.Close()
		server.Stop()
		cancel()
		for range cap(ended) {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	key := shopRoute(1, "").Object.Meta.Key
	expect := func(want string) {
		t.Helper()
		envoytest.Eventually(t, 20*time.Second, func() string {
			d := plane.Distribution()
			effective, held := d.Of(key)
			if effective == nil {
				return "no version is in effect"
			}
			got := fmt.Sprintf("generation %d:", effective.Generation)
			newest := 0
			for _, h := range held {
				got += fmt.Sprintf(" %s has %d", h.Proxy.Name, h.Generation)
				if h.Newest {
					newest++
				}
			}
			_, n := d.Holders(key)
			if got += fmt.Sprintf("; %d of %d", n, d.Proxies()); got != want {
				return got + "\nwant " + want
			}
			if n != newest {
				t.Errorf("%d holders, but %d proxies that hold it", n, newest)
			}
			return ""
		})
	}
	a := newAcker(t, l.Addr().String(), "a")
	expect("generation 1: a has 0; 0 of 1")
	a.mu.Unlock()
	expect("generation 1: a has 1; 1 of 1")

	a.mu.Lock()
	objects <- []discovery.Change{shopRoute(2, "two")}
	expect("generation 2: a has 1; 0 of 1")
	a.mu.Unlock()
	expect("generation 2: a has 2; 1 of 1")

	page := (&serve.Pages{Plane: plane}).Monitoring()
	for resource, want := range map[string]string{
		"VirtualService/shop/web":                        `"cluster_acked":"2"`,
		"networking.istio.io/v1/VirtualService/shop/web": `"newest":true`,
		"VirtualService/shop/none":                       "no version of VirtualService shop/none is in effect",
		"Pod/shop/web":                                   "want Kind/namespace/name of one of Istio's kinds",
		"":                                               "want Kind/namespace/name",
		"VirtualService/shop/web&proxy_namespace=another": "[]",
	} {
		r, got := httptest.NewRequest(http.MethodGet, "/debug/config_distribution?resource="+resource, nil), httptest.NewRecorder()
		r.RemoteAddr = "127.0.0.1:1"
		page.ServeHTTP(got, r)
		if !strings.Contains(got.Body.String(), want) {
			t.Errorf("%s: %s, want %s", resource, got.Body, want)
		}
	}

	// What a proxy rejects nobody else is sent.
	a.mu.Lock()
	a.reject = true
	a.mu.Unlock()
	objects <- []discovery.Change{shopRoute(3, "three")}
	expect("generation 3: a has 2; 0 of 1")
	b := newAcker(t, l.Addr().String(), "b")
	b.mu.Unlock()
	expect("generation 3: a has 2 b has 2; 0 of 2")

	// An object that is not part of what was rejected is held.
	if _, n := plane.Distribution().Holders(config.Key{Group: key.Group, Kind: "ServiceEntry", Namespace: "shop", Name: "web"}); n != 2 {
		t.Errorf("%d proxies have the ServiceEntry, want 2", n)
	}
	// What was rejected was never held, also when a good version is on its way.
	a.mu.Lock()
	a.reject = false
	objects <- []discovery.Change{shopRoute(4, "four")}
	expect("generation 4: a has 2 b has 4; 1 of 2")
	a.mu.Unlock()
	expect("generation 4: a has 4 b has 4; 2 of 2")
}
