package translate

import (
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	forward "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dynamic_forward_proxy/v3"
	dfp "github.com/envoyproxy/go-control-plane/envoy/extensions/common/dynamic_forward_proxy/v3"
	proxyproto "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	rawbuffer "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"

	networking "istio.io/api/networking/v1alpha3"
)

const forwardingCluster = "envoy.clusters.dynamic_forward_proxy"

// dnsCache is where a forwarding cluster and the filter before it share what
// they resolved; Envoy wants both to describe it alike.
func dnsCache(name string, ipv6Only bool) *dfp.DnsCacheConfig {
	return &dfp.DnsCacheConfig{Name: dnsCacheName(name), DnsLookupFamily: lookupFamily(ipv6Only)}
}

func dnsCacheName(host string) string { return host + "-dfp-dns-cache" }

// lookupFamily is which addresses of a name to use. IPv6 addresses are asked
// for where there is no other, which costs a proxy without IPv6 nothing.
func lookupFamily(ipv6Only bool) cluster.Cluster_DnsLookupFamily {
	if ipv6Only {
		return cluster.Cluster_V6_ONLY
	}
	return cluster.Cluster_V4_PREFERRED
}

// forwardByName sends each request to the host that it asks for.
func (d *clusterDraft) forwardByName() {
	d.out.LbPolicy = cluster.Cluster_CLUSTER_PROVIDED
	d.setForwarding(d.policy.GetTls().GetMode() == networking.ClientTLSSettings_DISABLE)
}

// forwards reports whether the cluster sends requests to the host that they ask
// for.
func (d *clusterDraft) forwards() bool {
	return d.out.GetClusterType().GetName() == forwardingCluster
}

// allowInsecure lets a forwarding cluster go without checking that the server
// is the host that the request asked for.
func (d *clusterDraft) allowInsecure() { d.setForwarding(true) }

func (d *clusterDraft) setForwarding(insecure bool) {
	d.out.ClusterDiscoveryType = &cluster.Cluster_ClusterType{ClusterType: &cluster.Cluster_CustomClusterType{
		Name: forwardingCluster,
		TypedConfig: packed(&forward.ClusterConfig{
			ClusterImplementationSpecifier: &forward.ClusterConfig_DnsCacheConfig{
				DnsCacheConfig: dnsCache(d.service.Hostname, d.traits.ipv6Only),
			},
			AllowInsecureClusterOptions: insecure,
		}),
	}}
}

// proxyProtocol sends the client's address ahead of each connection, inside
// whatever transport the cluster has.
func (d *clusterDraft) proxyProtocol() {
	p := d.policy.GetProxyProtocol()
	if p == nil {
		return
	}
	version := core.ProxyProtocolConfig_V1
	if p.GetVersion() == networking.TrafficPolicy_ProxyProtocol_V2 {
		version = core.ProxyProtocolConfig_V2
	}
	around := func(inner *core.TransportSocket) *core.TransportSocket {
		return &core.TransportSocket{
			Name: "envoy.transport_sockets.upstream_proxy_protocol",
			ConfigType: &core.TransportSocket_TypedConfig{TypedConfig: packed(&proxyproto.ProxyProtocolUpstreamTransport{
				Config: &core.ProxyProtocolConfig{Version: version}, TransportSocket: inner,
			})},
		}
	}
	for _, m := range d.out.TransportSocketMatches {
		m.TransportSocket = around(m.TransportSocket)
	}
	if d.out.TransportSocket == nil {
		d.out.TransportSocket = rawTransport()
	}
	d.out.TransportSocket = around(d.out.TransportSocket)
}

func rawTransport() *core.TransportSocket {
	return &core.TransportSocket{
		Name:       "envoy.transport_sockets.raw_buffer",
		ConfigType: &core.TransportSocket_TypedConfig{TypedConfig: packed(&rawbuffer.RawBuffer{})},
	}
}
