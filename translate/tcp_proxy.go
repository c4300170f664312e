package translate

import (
	"net"
	"slices"
	"strconv"

	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	sniforward "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3"
	tcp "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// tcpChain is what a filter chain that forwards connections does.
type tcpChain struct {
	statPrefix string
	// clusters has one entry, or several that share by weight.
	clusters []weightedCluster
	// idle and lifetime bound a connection; nil means Envoy's default.
	idle, lifetime *durationpb.Duration
	// bySourceIP sends connections from one address to one endpoint.
	bySourceIP bool
	tunnel     *networking.TrafficPolicy_TunnelSettings
	// silent chains write no access log.
	silent bool
	// dynamic resolves the host that the client's SNI names.
	dynamic *sniDynamic
}

type weightedCluster struct {
	name   string
	weight uint32
}

// sniDynamic resolves hosts matched by a wildcard service at the moment they
// are asked for.
type sniDynamic struct {
	host string
	port uint32
}

func toCluster(name string) *tcpChain {
	return &tcpChain{statPrefix: name, clusters: []weightedCluster{{name: name}}}
}

func (c *tcpChain) addTo(h config.Hasher) {
	h.Str(c.statPrefix).Uint(uint64(len(c.clusters)))
	for _, w := range c.clusters {
		h.Str(w.name).Uint(uint64(w.weight))
	}
	for _, d := range []*durationpb.Duration{c.idle, c.lifetime} {
		h.Bool(d != nil).Uint(uint64(d.GetSeconds())).Uint(uint64(d.GetNanos()))
	}
	h.Bool(c.bySourceIP).Bool(c.silent).Bool(c.tunnel != nil).Bool(c.dynamic != nil)
	if c.tunnel != nil {
		h.Proto(c.tunnel)
	}
	if c.dynamic != nil {
		h.Str(c.dynamic.host).Uint(uint64(c.dynamic.port))
	}
}

func (t *listenerTexts) tcpFilters(c *tcpChain) []*listener.Filter {
	p := &tcp.TcpProxy{
		StatPrefix:                      c.statPrefix,
		IdleTimeout:                     c.idle,
		MaxDownstreamConnectionDuration: c.lifetime,
	}
	if !c.silent {
		p.AccessLog = t.accessLogs(tcpLog)
		if t.env.countsConnections() {
			p.AccessLogOptions = &tcp.TcpProxy_TcpAccessLogOptions{
				FlushAccessLogOnConnected: true, AccessLogFlushInterval: t.env.telemetry.metrics.interval,
			}
		}
	}
	for _, w := range c.clusters {
		t.refs.clusters = append(t.refs.clusters, w.name)
	}
	if len(c.clusters) == 1 {
		p.ClusterSpecifier = &tcp.TcpProxy_Cluster{Cluster: c.clusters[0].name}
	} else {
		split := &tcp.TcpProxy_WeightedCluster{}
		for _, w := range c.clusters {
			split.Clusters = append(split.Clusters, &tcp.TcpProxy_WeightedCluster_ClusterWeight{Name: w.name, Weight: w.weight})
		}
		p.ClusterSpecifier = &tcp.TcpProxy_WeightedClusters{WeightedClusters: split}
	}
	if c.bySourceIP {
		p.HashPolicy = []*typev3.HashPolicy{{PolicySpecifier: &typev3.HashPolicy_SourceIp_{SourceIp: &typev3.HashPolicy_SourceIp{}}}}
	}
	if c.tunnel != nil {
		p.TunnelingConfig = &tcp.TcpProxy_TunnelingConfig{
			Hostname: net.JoinHostPort(c.tunnel.GetTargetHost(), strconv.FormatUint(uint64(c.tunnel.GetTargetPort()), 10)),
			UsePost:  c.tunnel.GetProtocol() == "POST",
		}
	}
	var out []*listener.Filter
	if !c.silent {
		out = slices.Concat(t.connectionExtensions(beforeTokens, beforeAccess), t.connectionFilters(), t.connectionExtensions(afterAccess, atTheEnd), t.env.istioConnectionStatsFilter())
	}
	if c.dynamic != nil {
		out = append(out, t.env.sniForwardFilter(c.dynamic))
	}
	return append(out, networkFilter("envoy.filters.network.tcp_proxy", p))
}

// sniForwardFilter resolves the host that the client's SNI names.
func (e *listenerEnv) sniForwardFilter(d *sniDynamic) *listener.Filter {
	return networkFilter("envoy.filters.network.sni_dynamic_forward_proxy", &sniforward.FilterConfig{
		DnsCacheConfig: dnsCache(d.host, e.traits.IPv6Only),
		PortSpecifier:  &sniforward.FilterConfig_PortValue{PortValue: d.port},
	})
}
