package translate

import (
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	upstreams "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// clusterDraft is one outbound or inbound cluster in the making: its inputs,
// and the message so far.
type clusterDraft struct {
	settings *config.Settings
	traits   clusterTraits
	service  *VisibleService // nil for an inbound port without a service
	port     config.ServicePort
	subset   *networking.Subset // nil for the whole service
	policy   *networking.TrafficPolicy
	// sni: the cluster of an AUTO_PASSTHROUGH gateway, which hands on mesh
	// TLS as it is.
	sni     bool
	inbound bool

	out      *cluster.Cluster
	http     *upstreams.HttpProtocolOptions // nil: Envoy's defaults
	refs     Refs
	problems []config.Problem
}

func newClusterDraft(s *config.Settings, t clusterTraits, v *VisibleService, p config.ServicePort, subset *networking.Subset, sni bool) *clusterDraft {
	d := &clusterDraft{settings: s, traits: t, service: v, port: p, subset: subset, sni: sni}
	d.policy = effectivePolicy(s.Mesh, v.Rule, p.Number, subset.GetName())
	name := OutboundCluster(p.Number, subset.GetName(), v.Hostname)
	if sni {
		name = SNICluster(p.Number, subset.GetName(), v.Hostname)
	}
	d.out = &cluster.Cluster{
		Name: name, AltStatName: d.statName(name),
		CommonLbConfig: &cluster.Cluster_CommonLbConfig{},
		Metadata:       d.outboundMetadata(),
	}
	if keepsDraining(v.Service) {
		d.out.CommonLbConfig.OverrideHostStatus = &core.HealthStatusSet{Statuses: []core.HealthStatus{
			core.HealthStatus_HEALTHY, core.HealthStatus_DRAINING, core.HealthStatus_UNKNOWN, core.HealthStatus_DEGRADED,
		}}
	}
	d.discover()
	d.protocol()
	d.applyPolicy()
	return d
}

// applyPolicy runs through a traffic policy. The order matters: an upgrade to
// HTTP/2 decides which connection settings apply, the load balancer may turn
// the cluster into one that follows the original destination, and PROXY
// protocol wraps whatever transport TLS left.
func (d *clusterDraft) applyPolicy() {
	d.upgrade()
	d.connectionPool()
	d.outlierDetection()
	d.loadBalancer()
	if !d.sni {
		d.tls()
		d.proxyProtocol()
	}
	if d.out.GetType() == cluster.Cluster_ORIGINAL_DST {
		d.out.LbPolicy = cluster.Cluster_CLUSTER_PROVIDED
	}
}

// finish fills in what depends on everything before.
func (d *clusterDraft) finish() {
	if n := d.traits.bufferLimit; n != 0 {
		d.out.PerConnectionBufferLimitBytes = wrapperspb.UInt32(n)
	}
	if d.isEDS() {
		// The assignment has the cluster's name, Envoy's default.
		d.out.EdsClusterConfig = &cluster.Cluster_EdsClusterConfig{EdsConfig: adsConfig()}
	}
	if d.http != nil {
		if d.http.UpstreamProtocolOptions == nil {
			d.http.UpstreamProtocolOptions = explicitHTTP1(nil)
		}
		if d.forwards() && d.http.UpstreamHttpProtocolOptions == nil {
			d.allowInsecure() // there is no TLS by which to check anything
		}
		d.out.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptionsName: packed(d.http)}
	}
}

func (d *clusterDraft) isEDS() bool {
	_, typed := d.out.ClusterDiscoveryType.(*cluster.Cluster_Type)
	return typed && d.out.GetType() == cluster.Cluster_EDS
}

func (d *clusterDraft) sources() []*config.Meta {
	if d.service == nil {
		return nil
	}
	out := []*config.Meta{&d.service.Meta}
	if d.service.Rule != nil {
		out = append(out, d.service.Rule.Sources...)
	}
	return out
}

// adsConfig takes a resource from the stream that configured the proxy, and
// waits for it as long as it takes.
func adsConfig() *core.ConfigSource {
	return &core.ConfigSource{
		ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
		InitialFetchTimeout:   durationpb.New(0 * time.Second),
		ResourceApiVersion:    core.ApiVersion_V3,
	}
}

// packed wraps a message of our own making, which always encodes.
func packed(m proto.Message) *anypb.Any {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		// Only text that is not UTF-8 fails, and then the enclosing message
		// must fail to encode as well: the invalid value stands for it.
		return &anypb.Any{TypeUrl: "\xff"}
	}
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName()), Value: b}
}
