package translate

import (
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	xdstype "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
)

// loadBalancer picks how the cluster spreads its requests; the default is the
// least loaded of two endpoints.
func (d *clusterDraft) loadBalancer() {
	if d.inbound || d.service.isForwarded() {
		return
	}
	lb := d.policy.GetLoadBalancer()
	if d.out.CommonLbConfig.HealthyPanicThreshold == nil {
		d.out.CommonLbConfig.HealthyPanicThreshold = &xdstype.Percent{Value: 0}
	}
	d.localityConfig()
	if d.out.GetType() == cluster.Cluster_ORIGINAL_DST {
		return
	}
	switch lb.GetSimple() {
	case networking.LoadBalancerSettings_PASSTHROUGH:
		d.setType(cluster.Cluster_ORIGINAL_DST)
		d.out.LoadAssignment = nil
		return
	case networking.LoadBalancerSettings_RANDOM:
		d.out.LbPolicy = cluster.Cluster_RANDOM
	case networking.LoadBalancerSettings_ROUND_ROBIN:
		d.roundRobin(lb)
	default:
		d.leastRequest(lb)
	}
	if lb.GetConsistentHash() != nil {
		d.consistentHash(lb.GetConsistentHash())
	}
}

func (d *clusterDraft) roundRobin(lb *networking.LoadBalancerSettings) {
	d.out.LbPolicy = cluster.Cluster_ROUND_ROBIN
	if s := slowStart(lb); s != nil {
		d.out.LbConfig = &cluster.Cluster_RoundRobinLbConfig_{
			RoundRobinLbConfig: &cluster.Cluster_RoundRobinLbConfig{SlowStartConfig: s},
		}
	}
}

func (d *clusterDraft) leastRequest(lb *networking.LoadBalancerSettings) {
	d.out.LbPolicy = cluster.Cluster_LEAST_REQUEST
	if s := slowStart(lb); s != nil {
		d.out.LbConfig = &cluster.Cluster_LeastRequestLbConfig_{
			LeastRequestLbConfig: &cluster.Cluster_LeastRequestLbConfig{SlowStartConfig: s},
		}
	}
}

// slowStart is how a new endpoint's share grows. The API's defaults: linearly,
// from 10 %.
func slowStart(lb *networking.LoadBalancerSettings) *cluster.Cluster_SlowStartConfig {
	w := lb.GetWarmup()
	if w == nil {
		if lb.GetWarmupDurationSecs() == nil {
			return nil
		}
		return &cluster.Cluster_SlowStartConfig{SlowStartWindow: lb.GetWarmupDurationSecs()}
	}
	out := &cluster.Cluster_SlowStartConfig{
		SlowStartWindow:  w.GetDuration(),
		Aggression:       &core.RuntimeDouble{DefaultValue: 1, RuntimeKey: "lb.slow_start.aggression"},
		MinWeightPercent: &xdstype.Percent{Value: 10},
	}
	if w.GetAggression() != nil {
		out.Aggression.DefaultValue = w.GetAggression().GetValue()
	}
	if w.GetMinimumPercent() != nil {
		out.MinWeightPercent.Value = w.GetMinimumPercent().GetValue()
	}
	return out
}

// defaultRingSize is Envoy's own; it is written out because the API's
// minimumRingSize documents it.
const defaultRingSize = 1024

// consistentHash picks the ring or the table; what is hashed is up to the
// routes.
func (d *clusterDraft) consistentHash(c *networking.LoadBalancerSettings_ConsistentHashLB) {
	d.out.LbConfig = nil
	if m := c.GetMaglev(); m != nil {
		d.out.LbPolicy = cluster.Cluster_MAGLEV
		if m.GetTableSize() != 0 {
			d.out.LbConfig = &cluster.Cluster_MaglevLbConfig_{MaglevLbConfig: &cluster.Cluster_MaglevLbConfig{
				TableSize: wrapperspb.UInt64(m.GetTableSize()),
			}}
		}
		return
	}
	size := c.GetRingHash().GetMinimumRingSize()
	if c.GetRingHash() == nil {
		size = c.GetMinimumRingSize() //nolint:staticcheck // deprecated in the API, still in use
		if size == 0 {
			size = defaultRingSize
		}
	}
	d.out.LbPolicy = cluster.Cluster_RING_HASH
	if size != 0 {
		d.out.LbConfig = &cluster.Cluster_RingHashLbConfig_{RingHashLbConfig: &cluster.Cluster_RingHashLbConfig{
			MinimumRingSize: wrapperspb.UInt64(size),
		}}
	}
}

// localityConfig lets the weights of the assignment's localities count, where
// the policy sets such weights or orders localities by hand. Otherwise they
// would only skew the choice among endpoints.
func (d *clusterDraft) localityConfig() {
	p := d.localityPolicy()
	switch {
	case p.zoneAware != nil:
		d.out.CommonLbConfig.LocalityConfigSpecifier = zoneAwareConfig(p.zoneAware)
	case len(p.setting.GetDistribute()) > 0,
		p.failover && (len(p.setting.GetFailover()) > 0 || len(p.setting.GetFailoverPriority()) > 0):
		d.out.CommonLbConfig.LocalityConfigSpecifier = &cluster.Cluster_CommonLbConfig_LocalityWeightedLbConfig_{
			LocalityWeightedLbConfig: &cluster.Cluster_CommonLbConfig_LocalityWeightedLbConfig{},
		}
	}
}

func zoneAwareConfig(z *networking.ZoneAwareLoadBalancerSetting) *cluster.Cluster_CommonLbConfig_ZoneAwareLbConfig_ {
	out := &cluster.Cluster_CommonLbConfig_ZoneAwareLbConfig{}
	if m := z.GetMinClusterSize(); m != nil {
		out.MinClusterSize = wrapperspb.UInt64(uint64(m.GetValue()))
	}
	if !enabled(z.GetEnabled()) {
		out.RoutingEnabled = &xdstype.Percent{Value: 0}
	}
	return &cluster.Cluster_CommonLbConfig_ZoneAwareLbConfig_{ZoneAwareLbConfig: out}
}

// enabled reads a switch that is on unless it says otherwise.
func enabled(b *wrapperspb.BoolValue) bool { return b == nil || b.GetValue() }
