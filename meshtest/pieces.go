package meshtest

import (
	"fmt"
	"strings"

	bootstrap "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	upstreams "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pilotfish-mesh/pilotfish/simulate"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// piece is one resource as a part of a static configuration: a cluster, or a
// listener, which holds a route table or an extension that is none itself.
type piece struct {
	kind     string // cluster, listener, route, extension
	resource *translate.Resource
	pod      *simulate.Pod // the first whose proxy is sent it
	part     *simulate.Part
	cluster  *cluster.Cluster
	listener *listener.Listener
}

func (p *piece) id() string { return fmt.Sprint(p.kind, " ", p.resource.Name, " ", p.resource.Version) }

// piecesOf are all resources of a part but endpoints.
func piecesOf(pod *simulate.Pod, part *simulate.Part) ([]*piece, error) {
	r := part.Resources()
	var out []*piece
	for _, set := range []struct {
		kind  string
		items *translate.Set
	}{{"cluster", r.Clusters}, {"listener", r.Listeners}, {"route", r.Routes}, {"extension", r.Extensions}} {
		for _, item := range set.items.Items() {
			p := &piece{kind: set.kind, resource: item, pod: pod, part: part}
			if err := p.decode(); err != nil {
				return nil, fmt.Errorf("%s %q: %w", p.kind, item.Name, err)
			}
			out = append(out, p)
		}
	}
	return out, nil
}

func (p *piece) decode() error {
	b := p.resource.Bytes()
	switch p.kind {
	case "cluster":
		p.cluster = &cluster.Cluster{}
		return proto.Unmarshal(b, p.cluster)
	case "listener":
		p.listener = &listener.Listener{}
		return proto.Unmarshal(b, p.listener)
	case "route":
		table := &route.RouteConfiguration{}
		if err := proto.Unmarshal(b, table); err != nil {
			return err
		}
		if table.GetValidateClusters() == nil {
			table.ValidateClusters = wrapperspb.Bool(false) // as for tables over RDS
		}
		return p.wrap(&hcm.HttpConnectionManager{RouteSpecifier: &hcm.HttpConnectionManager_RouteConfig{RouteConfig: table}})
	}
	ext := &core.TypedExtensionConfig{}
	if err := proto.Unmarshal(b, ext); err != nil {
		return err
	}
	switch url := ext.GetTypedConfig().GetTypeUrl(); {
	case strings.Contains(url, ".filters.listener."):
		return p.wrap(&hcm.HttpConnectionManager{}, &listener.ListenerFilter{
			Name: ext.GetName(), ConfigType: &listener.ListenerFilter_TypedConfig{TypedConfig: ext.GetTypedConfig()},
		})
	case strings.Contains(url, ".filters.network."):
		p.listener = p.alone([]*listener.Filter{{Name: ext.GetName(), ConfigType: &listener.Filter_TypedConfig{TypedConfig: ext.GetTypedConfig()}}})
		return nil
	}
	return p.wrap(&hcm.HttpConnectionManager{HttpFilters: []*hcm.HttpFilter{
		{Name: ext.GetName(), ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: ext.GetTypedConfig()}},
	}})
}

// wrap makes the listener of an HTTP connection manager.
func (p *piece) wrap(m *hcm.HttpConnectionManager, first ...*listener.ListenerFilter) error {
	last, err := anypb.New(&router.Router{})
	if err != nil {
		return err
	}
	m.StatPrefix = "lint"
	m.HttpFilters = append(m.HttpFilters, &hcm.HttpFilter{
		Name: "envoy.filters.http.router", ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: last},
	})
	if m.RouteSpecifier == nil {
		m.RouteSpecifier = &hcm.HttpConnectionManager_RouteConfig{RouteConfig: &route.RouteConfiguration{}}
	}
	packed, err := anypb.New(m)
	if err != nil {
		return err
	}
	p.listener = p.alone([]*listener.Filter{{
		Name: "envoy.filters.network.http_connection_manager", ConfigType: &listener.Filter_TypedConfig{TypedConfig: packed},
	}})
	p.listener.ListenerFilters = first
	return nil
}

// alone is a listener at an address that no other has.
func (p *piece) alone(filters []*listener.Filter) *listener.Listener {
	return &listener.Listener{
		Name:         p.id(),
		Address:      &core.Address{Address: &core.Address_Pipe{Pipe: &core.Pipe{Path: "@pilotfish-lint/" + p.kind + "/" + p.resource.Version.String()}}},
		FilterChains: []*listener.FilterChain{{Filters: filters}},
	}
}

// The clusters that every proxy's bootstrap has.
var bootstrapClusters = []string{
	"xds-grpc", "sds-grpc", "pilotfish-telemetry", "pilotfish-modules", "envoy_accesslog_service", "envoy_metrics_service", "prometheus_stats", "agent",
}

// bootstrapOf is a bootstrap with these pieces as static resources, encoded.
func bootstrapOf(list []*piece) ([]byte, error) {
	static := &bootstrap.Bootstrap_StaticResources{}
	has := map[string]bool{}
	for _, p := range list {
		if p.cluster != nil {
			static.Clusters = append(static.Clusters, p.cluster)
			has[p.cluster.GetName()] = true
		} else {
			static.Listeners = append(static.Listeners, p.listener)
		}
	}
	for _, name := range bootstrapClusters {
		if !has[name] {
			c, err := standIn(name)
			if err != nil {
				return nil, err
			}
			static.Clusters = append(static.Clusters, c)
		}
	}
	runtime, err := structpb.NewStruct(map[string]any{"re2.max_program_size.error_level": 32768}) // as the proxies' bootstrap says
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&bootstrap.Bootstrap{
		Node: &core.Node{Id: "lint", Cluster: "lint"},
		DynamicResources: &bootstrap.Bootstrap_DynamicResources{AdsConfig: &core.ApiConfigSource{
			ApiType: core.ApiConfigSource_DELTA_GRPC, TransportApiVersion: core.ApiVersion_V3,
			GrpcServices: []*core.GrpcService{{TargetSpecifier: &core.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &core.GrpcService_EnvoyGrpc{ClusterName: "xds-grpc"},
			}}},
		}},
		StaticResources: static,
		LayeredRuntime: &bootstrap.LayeredRuntime{Layers: []*bootstrap.RuntimeLayer{{
			Name: "static", LayerSpecifier: &bootstrap.RuntimeLayer_StaticLayer{StaticLayer: runtime},
		}}},
	})
}

// standIn is a cluster that has nothing but its name.
func standIn(name string) (*cluster.Cluster, error) {
	http2, err := anypb.New(&upstreams.HttpProtocolOptions{UpstreamProtocolOptions: &upstreams.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &upstreams.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &upstreams.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &core.Http2ProtocolOptions{}},
		},
	}})
	if err != nil {
		return nil, err
	}
	return &cluster.Cluster{
		Name: name, ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_STATIC},
		LoadAssignment:                &endpoint.ClusterLoadAssignment{ClusterName: name},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
	}, nil
}

// settle gives a listener other addresses than those of other proxies'. A
// proxy's own are left to be in each other's way.
func (p *piece) settle(places map[string]*simulate.Part) {
	all := []*core.Address{p.listener.GetAddress()}
	for _, a := range p.listener.GetAdditionalAddresses() {
		all = append(all, a.GetAddress())
	}
	for _, a := range all {
		s := a.GetSocketAddress()
		if s == nil {
			continue
		}
		for n := len(places); ; n++ {
			at := fmt.Sprint(s.GetProtocol(), s.GetAddress(), s.GetPortValue())
			if part, used := places[at]; !used || part == p.part {
				places[at] = p.part
				break
			}
			format := "127.%d.%d.%d"
			if strings.Contains(s.GetAddress(), ":") {
				format = "fd00::%x:%x:%x"
			}
			s.Address = fmt.Sprintf(format, n>>16&255, n>>8&255, n&255)
		}
	}
}
