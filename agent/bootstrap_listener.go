package agent

import (
	"net/netip"
	"strconv"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	metrics "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func (a Address) proto() *core.Address {
	if a.Path != "" {
		return &core.Address{Address: &core.Address_Pipe{Pipe: &core.Pipe{Path: a.Path}}}
	}
	return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address: a.Host, PortSpecifier: &core.SocketAddress_PortValue{PortValue: a.Port},
	}}}
}

func (a Address) discovery() cluster.Cluster_DiscoveryType {
	if _, err := netip.ParseAddr(a.Host); a.Path == "" && err != nil {
		return cluster.Cluster_STRICT_DNS
	}
	return cluster.Cluster_STATIC
}

// pathRoute sends one path to a cluster, as rewritten unless empty.
func pathRoute(path, to, rewrite string) *route.Route {
	return &route.Route{
		Match: &route.RouteMatch{PathSpecifier: &route.RouteMatch_Path{Path: path}},
		Action: &route.Route_Route{Route: &route.RouteAction{
			ClusterSpecifier: &route.RouteAction_Cluster{Cluster: to},
			PrefixRewrite:    rewrite,
		}},
	}
}

// httpListener serves one route on a static port. Every other path is 404.
func httpListener(host string, port uint32, r *route.Route) (*listener.Listener, error) {
	if host == "" {
		host = "0.0.0.0"
	}
	at := Address{Host: host, Port: port}.proto()
	at.GetSocketAddress().Ipv4Compat = host == "::"
	filter, err := anypb.New(&router.Router{})
	if err != nil {
		return nil, err
	}
	stat := "agent"
	if port == StatsPort {
		stat = "stats"
	}
	manager, err := anypb.New(&hcm.HttpConnectionManager{
		StatPrefix: stat,
		RouteSpecifier: &hcm.HttpConnectionManager_RouteConfig{RouteConfig: &route.RouteConfiguration{
			VirtualHosts: []*route.VirtualHost{{Name: "backend", Domains: []string{"*"}, Routes: []*route.Route{r}}},
		}},
		HttpFilters: []*hcm.HttpFilter{{
			Name: "envoy.filters.http.router", ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: filter},
		}},
	})
	if err != nil {
		return nil, err
	}
	return &listener.Listener{
		Name:    host + "_" + strconv.FormatUint(uint64(port), 10),
		Address: at,
		FilterChains: []*listener.FilterChain{{Filters: []*listener.Filter{{
			Name: "envoy.filters.network.http_connection_manager", ConfigType: &listener.Filter_TypedConfig{TypedConfig: manager},
		}}}},
		IgnoreGlobalConnLimit: true,
		BypassOverloadManager: true,
	}, nil
}

// statsTags are the tags by which Istio's dashboards read Envoy's own
// statistics. The first group of an expression is cut from the statistic's
// name, the second is the tag's value. A name that contains dots ends with ";".
func statsTags(keep *metrics.StatsMatcher) *metrics.StatsConfig {
	tags := []struct{ name, regex string }{
		{"cluster_name", `^cluster\.((.+(?=;\.)|[^.;]+);?\.)`},
		{"http_conn_manager_prefix", `^http\.((.+(?=;\.)|[^.;]+);?\.)`},
		{"listener_address", `^listener\.((.+(?=;\.)|[^.;]+);?\.)`},
		{"tcp_prefix", `^tcp\.((.+(?=;\.)|[^.;]+);?\.)`},
		{"response_code", `_rq(_(\d{3}))$`},
		{"response_code_class", `_rq(_(\dxx))$`},
	}
	out := &metrics.StatsConfig{UseAllDefaultTags: wrapperspb.Bool(false), StatsMatcher: keep}
	for _, t := range tags {
		out.StatsTags = append(out.StatsTags, &metrics.TagSpecifier{
			TagName: t.name, TagValue: &metrics.TagSpecifier_Regex{Regex: t.regex},
		})
	}
	return out
}
