package translate

import (
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	statevalue "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	cors "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	forward "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_forward_proxy/v3"
	fault "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	grpcweb "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_web/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	setstate "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_filter_state/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	alpn "istio.io/api/envoy/config/filter/http/alpn/v2alpha1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// httpFilters are a chain's HTTP filters. This list is the one place that
// says their order: what decides whether a request may pass comes before what
// changes it, and the router ends the list.
func (t *listenerTexts) httpFilters(c *httpChain) []*hcm.HttpFilter {
	var out []*hcm.HttpFilter
	for _, step := range [][]*hcm.HttpFilter{
		t.env.istioPeersFilter(c),
		grpcWebFilter(c),
		t.env.grpcStatsFilter(),
		t.requestExtensions(beforeTokens),
		t.env.tokenFilter(c),
		t.requestExtensions(beforeAccess),
		t.accessFilters(c),
		t.requestExtensions(afterAccess),
		t.env.alpnFilter(c),
		t.env.announceFilter(c),
		httpFilter("envoy.filters.http.fault", &fault.HTTPFault{}), // configured by routes
		httpFilter("envoy.filters.http.cors", &cors.Cors{}),        // configured by routes
		t.env.dynamicForwardFilters(c),
		t.requestExtensions(atTheEnd),
		t.env.istioStatsFilter(),
		httpFilter("envoy.filters.http.router", &router.Router{
			SuppressEnvoyHeaders: t.env.proxy.GetProxyHeaders().GetEnvoyDebugHeaders().GetDisabled().GetValue(),
		}),
	} {
		out = append(out, step...)
	}
	return out
}

func httpFilter(name string, m proto.Message) []*hcm.HttpFilter {
	return []*hcm.HttpFilter{{Name: name, ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: packed(m)}}}
}

func grpcWebFilter(c *httpChain) []*hcm.HttpFilter {
	if c.protocol != config.ProtocolGRPCWeb {
		return nil
	}
	return httpFilter("envoy.filters.http.grpc_web", &grpcweb.GrpcWeb{})
}

// alpnFilter tells the upstream TLS connection which protocol the request came
// in, so that a sidecar at the other end need not sniff. Only Envoys built
// with Istio's extensions have it.
func (e *listenerEnv) alpnFilter(c *httpChain) []*hcm.HttpFilter {
	if !e.traits.IstioFilters || c.from == Inbound {
		return nil
	}
	override := func(p alpn.FilterConfig_Protocol, names ...string) *alpn.FilterConfig_AlpnOverride {
		return &alpn.FilterConfig_AlpnOverride{UpstreamProtocol: p, AlpnOverride: names}
	}
	return httpFilter("istio.alpn", &alpn.FilterConfig{AlpnOverride: []*alpn.FilterConfig_AlpnOverride{
		override(alpn.FilterConfig_HTTP10, "istio-http/1.0", "istio", "http/1.0"),
		override(alpn.FilterConfig_HTTP11, "istio-http/1.1", "istio", "http/1.1"),
		override(alpn.FilterConfig_HTTP2, "istio-h2", "istio", "h2"),
	}})
}

// stateFilter is Envoy's own filter that sets filter state.
const stateFilter = "envoy.filters.http.set_filter_state"

// announceFilter does what alpnFilter does in Envoys without it: the cluster's
// metadata holds what its requests announce (see announceRequests).
func (e *listenerEnv) announceFilter(c *httpChain) []*hcm.HttpFilter {
	if !e.traits.SetsState || !e.traits.Certificates || c.from == Inbound {
		return nil
	}
	return httpFilter(stateFilter, &setstate.Config{OnRequestHeaders: []*statevalue.FilterStateValue{{
		Key: &statevalue.FilterStateValue_ObjectKey{ObjectKey: "envoy.network.application_protocols"},
		Value: &statevalue.FilterStateValue_FormatString{FormatString: &core.SubstitutionFormatString{
			Format: &core.SubstitutionFormatString_TextFormatSource{TextFormatSource: &core.DataSource{
				Specifier: &core.DataSource_InlineString{InlineString: "%CLUSTER_METADATA(" + provenanceFilter + ":" + alpnField + ")%"},
			}},
			OmitEmptyValues: true,
		}},
		SkipIfEmpty: true,
	}}})
}

// dynamicForwardFilters resolve the host that a request asks for where a
// wildcard service has resolution DYNAMIC_DNS. Each leaves requests alone
// that its own cluster does not get.
func (e *listenerEnv) dynamicForwardFilters(c *httpChain) []*hcm.HttpFilter {
	var out []*hcm.HttpFilter
	for _, host := range c.dynamic {
		out = append(out, httpFilter("envoy.filters.http.dynamic_forward_proxy", &forward.FilterConfig{
			ImplementationSpecifier: &forward.FilterConfig_DnsCacheConfig{DnsCacheConfig: dnsCache(host, e.traits.IPv6Only)},
		})...)
	}
	return out
}

// dynamicHosts are the hosts in reach that Envoy resolves when asked for.
func dynamicHosts(views []*Egress) []string {
	var out []string
	for _, e := range views {
		for _, v := range e.Services {
			if v.Resolution == config.ResolveDynamicDNS {
				out = append(out, v.Hostname)
			}
		}
	}
	return sortedSet(out)
}
