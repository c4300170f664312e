package translate

import (
	"strings"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	dns "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/common/dns/v3"
	dnsclusters "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	cares "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// isForwarded reports whether the name of each request decides where it goes:
// a wildcard host of resolution DYNAMIC_DNS.
func (v *VisibleService) isForwarded() bool {
	return v.Resolution == config.ResolveDynamicDNS
}

// discover decides how the proxy finds the cluster's endpoints.
func (d *clusterDraft) discover() {
	switch d.service.Resolution {
	case config.ResolveDNS:
		d.resolveNames(cluster.Cluster_STRICT_DNS)
	case config.ResolveDNSRoundRobin:
		d.resolveNames(cluster.Cluster_LOGICAL_DNS)
	case config.ResolveDynamicDNS:
		d.forwardByName()
	case config.ResolvePassthrough:
		d.passThrough()
	default:
		d.setType(cluster.Cluster_EDS)
	}
}

func (d *clusterDraft) setType(t cluster.Cluster_DiscoveryType) {
	d.out.ClusterDiscoveryType = &cluster.Cluster_Type{Type: t}
}

// passThrough follows the connection's original destination. Where
// connections carry none (gateways, interception NONE), the control plane's
// endpoints stand in.
func (d *clusterDraft) passThrough() {
	if d.traits.gateway || (!d.traits.captured && d.service.Kubernetes) {
		d.setType(cluster.Cluster_EDS)
		return
	}
	d.setType(cluster.Cluster_ORIGINAL_DST)
	if p := d.port.TargetPort; !d.service.Kubernetes && p != 0 && p != d.port.Number {
		d.out.LbConfig = &cluster.Cluster_OriginalDstLbConfig_{OriginalDstLbConfig: &cluster.Cluster_OriginalDstLbConfig{
			UpstreamPortOverride: wrapperspb.UInt32(p),
		}}
	}
}

// resolveNames makes a cluster whose endpoints' names the proxy resolves. One
// that has no endpoints stays as an empty static cluster, so that no route
// points at nothing.
func (d *clusterDraft) resolveNames(t cluster.Cluster_DiscoveryType) {
	a := d.inlineAssignment(t == cluster.Cluster_LOGICAL_DNS)
	if len(a.Endpoints) == 0 {
		d.setType(cluster.Cluster_STATIC)
		return
	}
	d.out.LoadAssignment = a
	if d.traits.dnsCluster {
		d.out.ClusterDiscoveryType = d.dnsCluster(t == cluster.Cluster_LOGICAL_DNS)
		return
	}
	d.setType(t)
	d.out.DnsLookupFamily = lookupFamily(d.traits.ipv6Only)
	d.out.DnsRefreshRate = d.settings.Mesh.GetDnsRefreshRate() //nolint:staticcheck // older proxies know no other form
	d.out.RespectDnsTtl = true                                 //nolint:staticcheck // as above
	d.out.DnsJitter = durationpb.New(dnsJitter)                //nolint:staticcheck // as above
	d.out.TypedDnsResolverConfig = d.dnsResolver()
}

// dnsClusterName is Envoy's extension for clusters whose names it resolves; the
// cluster's own fields for that are deprecated.
const dnsClusterName = "envoy.cluster.dns"

func (d *clusterDraft) dnsCluster(single bool) *cluster.Cluster_ClusterType {
	family := dns.DnsLookupFamily_V4_PREFERRED
	if d.traits.ipv6Only {
		family = dns.DnsLookupFamily_V6_ONLY
	}
	return &cluster.Cluster_ClusterType{ClusterType: &cluster.Cluster_CustomClusterType{
		Name: dnsClusterName,
		TypedConfig: packed(&dnsclusters.DnsCluster{
			DnsRefreshRate:               d.settings.Mesh.GetDnsRefreshRate(),
			DnsJitter:                    durationpb.New(dnsJitter),
			RespectDnsTtl:                true,
			DnsLookupFamily:              family,
			AllAddressesInSingleEndpoint: single,
			TypedDnsResolverConfig:       d.dnsResolver(),
		}),
	}}
}

// dnsResolver is nil where the bootstrap's resolver is to stay.
func (d *clusterDraft) dnsResolver() *core.TypedExtensionConfig {
	if d.traits.ownResolver {
		return nil
	}
	return &core.TypedExtensionConfig{
		Name:        "envoy.network.dns_resolver.cares",
		TypedConfig: packed(&cares.CaresDnsResolverConfig{UdpMaxQueries: wrapperspb.UInt32(caresQueriesPerSocket)}),
	}
}

// inlineAssignment is the load assignment of a cluster whose endpoints the
// proxy resolves itself; single keeps the first endpoint only, all that
// LOGICAL_DNS takes.
func (d *clusterDraft) inlineAssignment(single bool) *endpoint.ClusterLoadAssignment {
	spec := d.endpointSpec()
	eps := d.inlineEndpoints()
	if single {
		for i := range eps {
			if config.Selects(spec.Subset, eps[i].Labels) {
				eps = eps[i : i+1]
				break
			}
		}
	}
	return assign(&spec, eps, spec.Reads(d.traits.near))
}

// inlineEndpoints are the endpoints that the service names, or else its host.
func (d *clusterDraft) inlineEndpoints() []config.Endpoint {
	if d.service.Inline != nil {
		return d.service.Inline.ByPort[d.port.Name]
	}
	if strings.HasPrefix(d.service.Hostname, "*") || d.service.Selector != nil {
		return nil
	}
	port := d.port.TargetPort
	if port == 0 {
		port = d.port.Number
	}
	return []config.Endpoint{{Address: d.service.Hostname, Port: port}}
}
