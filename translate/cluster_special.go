package translate

import (
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	upstreams "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// anyHostCache stands for every host in the name of a DNS cache.
const anyHostCache = "allow_any"

// passthroughIdle closes connections to unknown destinations that carry no
// requests: their number has no other bound.
const passthroughIdle = 5 * time.Minute

// addSpecialClusters adds the clusters for traffic that no service names: one
// that refuses and, where connections carry their original destination, one
// that lets them on to it.
func (b *build) addSpecialClusters(traits clusterTraits) {
	b.special(traits, BlackHoleCluster, b.blackHole)
	if b.scope.Class.Side == Outbound {
		b.special(traits, PassthroughCluster, func(name string) *cluster.Cluster { return b.passthrough(traits, name) })
		if b.scope.Settings.Mesh.GetOutboundTrafficPolicy().GetMode() == meshconfig.MeshConfig_OutboundTrafficPolicy_ALLOW_ANY_DYNAMIC_DNS {
			b.special(traits, AllowAnyDynamicDNSCluster, func(name string) *cluster.Cluster { return b.anyHost(traits, name) })
		}
	}
}

// special adds a cluster that depends on the mesh's settings and the proxy's
// traits only.
func (b *build) special(traits clusterTraits, name string, make func(name string) *cluster.Cluster) {
	h := config.NewHasher().Str("special", name).Hash(b.scope.Settings.Hash)
	traits.addTo(h)
	r := b.resource(h.Sum(), func() (string, proto.Message, Refs, []*config.Meta, []config.Problem) {
		return name, make(name), Refs{}, nil, nil
	})
	if r != nil {
		b.clusters = append(b.clusters, r)
	}
}

func (b *build) blackHole(name string) *cluster.Cluster {
	return &cluster.Cluster{
		Name: name, AltStatName: name + statSuffix,
		ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_STATIC},
		ConnectTimeout:       b.scope.Settings.Mesh.GetConnectTimeout(),
	}
}

// passthrough follows the original destination, in the protocol that the
// client speaks. The mesh's default connection pool bounds it.
func (b *build) passthrough(traits clusterTraits, name string) *cluster.Cluster {
	d := &clusterDraft{settings: b.scope.Settings, traits: traits, inbound: true}
	d.out = &cluster.Cluster{
		Name: name, AltStatName: name + statSuffix,
		ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_ORIGINAL_DST},
		LbPolicy:             cluster.Cluster_CLUSTER_PROVIDED,
	}
	d.policy = meshDefaults(b.scope.Settings.Mesh.GetDefaultTrafficPolicy(), nil)
	d.connectionPool()
	options := &upstreams.HttpProtocolOptions{
		CommonHttpProtocolOptions: &core.HttpProtocolOptions{IdleTimeout: durationpb.New(passthroughIdle)},
		UpstreamProtocolOptions:   clientProtocol(d.http1Options()),
	}
	if common := d.http.GetCommonHttpProtocolOptions(); common != nil {
		proto.Merge(options.CommonHttpProtocolOptions, common)
	}
	d.out.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptionsName: packed(options)}
	return d.out
}

// anyHost resolves whatever host a request asks for (outboundTrafficPolicy
// ALLOW_ANY_DYNAMIC_DNS), with the TLS that the mesh asks for.
func (b *build) anyHost(traits clusterTraits, name string) *cluster.Cluster {
	d := &clusterDraft{
		settings: b.scope.Settings, traits: traits,
		service: &VisibleService{Service: &config.Service{Hostname: anyHostCache, Resolution: config.ResolveDynamicDNS, External: true}},
		policy:  &networking.TrafficPolicy{Tls: b.scope.Settings.Mesh.GetOutboundTrafficPolicy().GetTls()},
		out:     &cluster.Cluster{Name: name, AltStatName: name + statSuffix},
	}
	d.forwardByName()
	d.useClientProtocol()
	d.connectionPool()
	d.http.CommonHttpProtocolOptions = &core.HttpProtocolOptions{IdleTimeout: durationpb.New(passthroughIdle)}
	d.tls()
	d.finish()
	return d.out
}
