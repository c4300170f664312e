package snapshot_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// envoy is a real Envoy that a Server under test configures, in front of an
// upstream that always answers.
type envoy struct {
	t        *testing.T
	admin    *http.Client
	world    *world
	port     int
	upstream string
	failures atomic.Int64
	requests atomic.Int64
}

// envoyWorld makes resources that a real Envoy uses: EDS clusters, HTTP
// listeners with RDS, routes to the cluster that their number stands for.
func envoyWorld(t *testing.T, port int) *world {
	w := newWorld(t)
	ads := &core.ConfigSource{ResourceApiVersion: core.ApiVersion_V3, ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}}}
	w.cluster = func(name string, v int) proto.Message {
		c := &cluster.Cluster{
			Name: name, ConnectTimeout: durationpb.New(time.Duration(v) * time.Second),
			ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
			EdsClusterConfig:     &cluster.Cluster_EdsClusterConfig{EdsConfig: ads},
		}
		switch {
		case v >= invalid:
			c.ConnectTimeout = durationpb.New(-time.Second)
		case v >= refusedByEnvoy:
			c.LbPolicy = cluster.Cluster_LOAD_BALANCING_POLICY_CONFIG // and no such configuration
		case v >= stuck:
			c.LbPolicy = cluster.Cluster_RING_HASH
			c.LbConfig = &cluster.Cluster_RingHashLbConfig_{RingHashLbConfig: &cluster.Cluster_RingHashLbConfig{
				MinimumRingSize: wrapperspb.UInt64(4096), MaximumRingSize: wrapperspb.UInt64(1),
			}}
		}
		return c
	}
	w.listener = func(name string, v int) proto.Message {
		filter := &hcm.HttpConnectionManager{
			StatPrefix:     name + strconv.Itoa(v),
			RouteSpecifier: &hcm.HttpConnectionManager_Rds{Rds: &hcm.Rds{ConfigSource: ads, RouteConfigName: "main"}},
			HttpFilters:    []*hcm.HttpFilter{{Name: "router", ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: packed(t, &router.Router{})}}},
		}
		l := &listener.Listener{
			Name: name, Address: address("127.0.0.1", uint32(port)),
			FilterChains: []*listener.FilterChain{{Filters: []*listener.Filter{{
				Name: "hcm", ConfigType: &listener.Filter_TypedConfig{TypedConfig: packed(t, filter)},
			}}}},
		}
		if v >= refusedByEnvoy {
			l.FilterChains = append(l.FilterChains, proto.Clone(l.FilterChains[0]).(*listener.FilterChain)) // the same match twice
		}
		return l
	}
	w.route = func(name string, v int) proto.Message {
		host := func(n string, domains ...string) *route.VirtualHost {
			return &route.VirtualHost{Name: n, Domains: domains, Routes: []*route.Route{{
				Match:  &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: "/"}},
				Action: &route.Route_Route{Route: &route.RouteAction{ClusterSpecifier: &route.RouteAction_Cluster{Cluster: fmt.Sprint("c", v)}}},
			}}}
		}
		r := &route.RouteConfiguration{Name: name, VirtualHosts: []*route.VirtualHost{host("all", "*")}}
		if v >= refusedByEnvoy {
			r.VirtualHosts = append(r.VirtualHosts, host("again", "*"))
		}
		return r
	}
	return w
}

func packed(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// startEnvoy starts an Envoy on one of the protocols.
func startEnvoy(t *testing.T, s *served, w *world, port int, isSotW bool) *envoy {
	t.Helper()
	host, adsPort, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "admin.sock")
	api := "DELTA_GRPC"
	if isSotW {
		api = "GRPC"
	}
	bootstrap := fmt.Sprintf(`{
 "node": {"id": "sidecar~127.0.0.1~web.default~default.svc.cluster.local", "cluster": "web"},
 "admin": {"address": {"pipe": {"path": %q}}},
 "dynamic_resources": {
  "ads_config": {"api_type": %q, "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]},
  "cds_config": {"ads": {}, "resource_api_version": "V3"}, "lds_config": {"ads": {}, "resource_api_version": "V3"}},
 "static_resources": {"clusters": [{"name": "xds", "connect_timeout": "1s", "type": "STATIC",
  "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
   "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}},
  "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": %q, "port_value": %s}}}}]}]}}]}
}`, socket, api, host, adsPort)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }))
	t.Cleanup(upstream.Close)
	e := &envoy{t: t, world: w, port: port, upstream: upstream.Listener.Addr().String()}
	envoytest.Start(t, []byte(bootstrap))
	e.admin = envoytest.Admin(t, socket)
	return e
}

// serves has every cluster lead to the upstream.
func (e *envoy) endpoints(names ...string) {
	e.t.Helper()
	for _, n := range names {
		e.world.endpoints(n, e.upstream)
	}
}

// get makes one request through the Envoy, on a connection of its own.
func (e *envoy) get() (int, error) {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	resp, err := c.Get(fmt.Sprintf("http://127.0.0.1:%d/", e.port))
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

func (e *envoy) works() {
	e.t.Helper()
	envoytest.Eventually(e.t, 20*time.Second, func() string {
		status, err := e.get()
		if err != nil || status != 200 {
			return fmt.Sprintf("status %d, %v\n%s", status, err, e.state())
		}
		return ""
	})
}

// traffic makes requests until stop is called, and counts what fails.
func (e *envoy) traffic() (stop func()) {
	e.t.Helper()
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			default:
			}
			e.requests.Add(1)
			if status, err := e.get(); err != nil || status != 200 {
				e.failures.Add(1)
				e.t.Logf("a request failed: %d %v", status, err)
			}
		}
	}()
	return func() {
		close(quit)
		<-done
		if n := e.failures.Load(); n > 0 {
			e.t.Errorf("%d of %d requests failed", n, e.requests.Load())
		}
	}
}

// state is what the Envoy has, as far as the tests look at it.
func (e *envoy) state() string {
	_, dump, err := envoytest.Get(e.admin, "/config_dump")
	if err != nil {
		return err.Error()
	}
	var d struct {
		Configs []map[string]json.RawMessage `json:"configs"`
	}
	if err := json.Unmarshal([]byte(dump), &d); err != nil {
		return err.Error()
	}
	var out []string
	for _, c := range d.Configs {
		for _, key := range []string{"dynamic_active_clusters", "dynamic_warming_clusters", "dynamic_listeners", "dynamic_route_configs"} {
			var list []struct {
				Name    string `json:"name"`
				Cluster struct {
					Name    string
					Timeout string `json:"connect_timeout"`
				} `json:"cluster"`
				ActiveState *struct{}                 `json:"active_state"`
				Warming     *struct{}                 `json:"warming_state"`
				Error       *struct{ Details string } `json:"error_state"`
				Route       struct {
					Name  string
					Hosts []struct {
						Routes []struct{ Route struct{ Cluster string } }
					} `json:"virtual_hosts"`
				} `json:"route_config"`
			}
			if c[key] == nil {
				continue
			}
			if err := json.Unmarshal(c[key], &list); err != nil {
				return err.Error()
			}
			for _, x := range list {
				switch key {
				case "dynamic_active_clusters":
					out = append(out, fmt.Sprintf("%s=%s", x.Cluster.Name, x.Cluster.Timeout))
				case "dynamic_warming_clusters":
					out = append(out, fmt.Sprintf("%s=%s warming", x.Cluster.Name, x.Cluster.Timeout))
				case "dynamic_listeners":
					if x.ActiveState != nil {
						out = append(out, x.Name)
					}
					if x.Warming != nil {
						out = append(out, x.Name+" warming")
					}
				default:
					out = append(out, x.Route.Name+"->"+x.Route.Hosts[0].Routes[0].Route.Cluster)
				}
			}
		}
	}
	return strings.Join(out, " ")
}

func (e *envoy) has(want string) {
	e.t.Helper()
	envoytest.Eventually(e.t, 20*time.Second, func() string {
		if got := e.state(); got != want {
			return fmt.Sprintf("Envoy has\n%s, want\n%s", got, want)
		}
		return ""
	})
}

// withEnvoy runs a case with a real Envoy over both protocols.
func withEnvoy(t *testing.T, f func(t *testing.T, s *served, e *envoy)) {
	for _, p := range []string{"delta", "sotw"} {
		t.Run(p, func(t *testing.T) {
			port := envoytest.FreePort(t)
			w := envoyWorld(t, port)
			w.edit(func(c *content) {
				set(c.clusters, "c1", "c2")
				set(c.listeners, "l")
				set(c.routes, "main")
			})
			s := serve(t, w, snapshot.Options{})
			e := startEnvoy(t, s, w, port, p == "sotw")
			e.endpoints("c1", "c2")
			e.has("c1=1s c2=1s l main->c1")
			e.works()
			f(t, s, e)
		})
	}
}
