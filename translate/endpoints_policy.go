package translate

import (
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// endpointPolicy is what of a service and its rules shapes an assignment.
// Immutable.
type endpointPolicy struct {
	locality localityPolicy
	// nodeLocal: only endpoints on the viewer's node (internalTrafficPolicy).
	nodeLocal bool
	// clusterLocal: only endpoints of the viewer's cluster (serviceSettings).
	clusterLocal bool
	// hideUnready leaves out endpoints that are not ready. Otherwise they are
	// sent as unhealthy, so that Envoy knows what share of a locality is left.
	hideUnready bool
	// allReady: endpoints count as ready before they are
	// (publishNotReadyAddresses).
	allReady bool
	// keepDraining sends draining endpoints, for requests that stick to one.
	keepDraining bool
	// meshTLSOnly leaves out endpoints without a sidecar that accepts mesh
	// TLS: the cluster hands such connections on as they are.
	meshTLSOnly bool
	// resolved leaves out endpoints whose address is a name: only clusters
	// that carry their endpoints have them resolved by the proxy.
	resolved bool
	// peers are the PeerAuthentications that may switch mesh TLS off, or nil.
	peers *peerRules
}

// localityPolicy is what prefers some localities over others.
type localityPolicy struct {
	setting   *networking.LocalityLoadBalancerSetting
	zoneAware *networking.ZoneAwareLoadBalancerSetting
	// failover: endpoints that fail are noticed, so that a lower priority can
	// take over.
	failover bool
}

// Labels that stand for a workload's place, not for something its author
// wrote.
const (
	labelNetwork  = "topology.istio.io/network"
	labelCluster  = "topology.istio.io/cluster"
	labelSubzone  = "topology.istio.io/subzone"
	labelRegion   = "topology.kubernetes.io/region"
	labelZone     = "topology.kubernetes.io/zone"
	labelHostname = "kubernetes.io/hostname"
)

// labelPersistentSession on a Service asks for requests that stick to one
// endpoint, even while it drains.
const (
	labelPersistentSession       = "istio.io/persistent-session"
	labelPersistentSessionHeader = "istio.io/persistent-session-header"
	// labelDraining on a workload takes it out of use by hand.
	labelDraining = "istio.io/draining"
)

// keepsDraining reports whether requests stick to endpoints of the service
// while these drain.
func keepsDraining(s *config.Service) bool {
	return s.Labels[labelPersistentSession] != "" || s.Labels[labelPersistentSessionHeader] != ""
}

// localityPolicy settles which of the rule, the Service and the mesh decides
// about localities, in that order; zone-aware balancing goes first in each.
func (d *clusterDraft) localityPolicy() localityPolicy {
	lb := d.policy.GetLoadBalancer()
	failover := d.policy.GetOutlierDetection() != nil
	zoneAware := func(z *networking.ZoneAwareLoadBalancerSetting) localityPolicy {
		return localityPolicy{zoneAware: z, failover: enabled(z.GetEnabled())}
	}
	byLocality := func(l *networking.LocalityLoadBalancerSetting) localityPolicy {
		if !enabled(l.GetEnabled()) {
			return localityPolicy{}
		}
		return localityPolicy{setting: l, failover: failover}
	}
	switch {
	case lb.GetZoneAwareLbSetting() != nil:
		return zoneAware(lb.GetZoneAwareLbSetting())
	case lb.GetLocalityLbSetting() != nil:
		return byLocality(lb.GetLocalityLbSetting())
	case distributionPriority(d.service.Distribution) != nil:
		return localityPolicy{failover: true, setting: &networking.LocalityLoadBalancerSetting{
			FailoverPriority: distributionPriority(d.service.Distribution),
		}}
	case d.settings.Mesh.GetZoneAwareLbSetting() != nil:
		return zoneAware(d.settings.Mesh.GetZoneAwareLbSetting())
	case d.settings.Mesh.GetLocalityLbSetting() != nil:
		return byLocality(d.settings.Mesh.GetLocalityLbSetting())
	}
	return localityPolicy{}
}

// distributionPriority spells a Service's trafficDistribution as the labels
// that a near endpoint shares with the client, nil for none.
func distributionPriority(distribution string) []string {
	switch distribution {
	case "PreferClose", "PreferSameZone":
		return []string{labelNetwork, labelRegion, labelZone}
	case "PreferSameNode":
		return []string{labelNetwork, labelRegion, labelZone, labelSubzone, labelHostname}
	}
	return nil
}

func (d *clusterDraft) endpointSpec() EndpointSpec {
	s := d.service
	p := &endpointPolicy{
		locality:     d.localityPolicy(),
		nodeLocal:    s.NodeLocal,
		clusterLocal: clusterLocal(d.settings, s.Hostname),
		hideUnready:  s.Distribution == "" && d.policy.GetOutlierDetection().GetMinHealthPercent() > 0,
		allReady:     s.PublishNotReady,
		keepDraining: keepsDraining(s.Service),
		meshTLSOnly:  d.sni,
		resolved:     d.isEDS(),
	}
	if s.Peers != nil {
		p.peers = s.Peers.rules
	}
	spec := EndpointSpec{
		Cluster: d.out.Name, Service: s.ID(), Port: d.port, Subset: d.subset.GetLabels(), policy: p,
	}
	h := config.NewHasher().Str(spec.Cluster, spec.Service.Hostname, spec.Service.Namespace, spec.Port.Name).
		Uint(uint64(spec.Port.Number)).Map(spec.Subset)
	p.addTo(h)
	spec.Hash = h.Sum()
	return spec
}

func (p *endpointPolicy) addTo(h config.Hasher) {
	for _, b := range []bool{
		p.nodeLocal, p.clusterLocal, p.hideUnready, p.allReady, p.keepDraining, p.meshTLSOnly, p.resolved,
		p.locality.failover, p.locality.setting != nil, p.locality.zoneAware != nil,
	} {
		h.Bool(b)
	}
	if p.peers != nil {
		h.Hash(p.peers.hash)
	}
	if p.locality.setting != nil {
		h.Proto(p.locality.setting)
	}
	if p.locality.zoneAware != nil {
		h.Proto(p.locality.zoneAware)
	}
}

// clusterLocal reports whether a service's endpoints are for clients of their
// own cluster only (MeshConfig.serviceSettings): the most specific host
// decides.
func clusterLocal(s *config.Settings, host string) bool {
	best, local := -1, false
	for _, set := range s.Mesh.GetServiceSettings() {
		for _, pattern := range set.GetHosts() {
			suffix, wildcard := strings.CutPrefix(pattern, "*")
			if pattern != host && !(wildcard && strings.HasSuffix(host, suffix)) {
				continue
			}
			n := len(pattern)
			if !wildcard {
				n++ // an exact host before a wildcard of its length
			}
			if n > best {
				best, local = n, set.GetSettings().GetClusterLocal()
			}
		}
	}
	return local
}

func (p *endpointPolicy) readsNothing() bool {
	return !p.nodeLocal && !p.clusterLocal && p.locality.zoneAware == nil && p.locality.setting == nil
}

func (p *endpointPolicy) reads(v Viewer) Viewer {
	var out Viewer
	if p.nodeLocal {
		out.Node = v.Node
		out.Cluster = v.Cluster
	}
	if p.clusterLocal {
		out.Cluster = v.Cluster
	}
	l := &p.locality
	priority := l.priorityLabels()
	switch {
	case l.zoneAware != nil:
		if l.failover {
			out.Locality.Region = v.Locality.Region
		}
	case len(l.setting.GetDistribute()) > 0:
		out.Locality = v.Locality
	case l.failover && l.setting != nil && (len(priority) == 0 || len(l.setting.GetFailover()) > 0):
		out.Locality = v.Locality
	}
	if len(priority) == 0 {
		return out
	}
	return readLabels(out, v, priority)
}

// priorityLabels are the failoverPriority labels that count, without their
// overridden values.
func (l *localityPolicy) priorityLabels() []string {
	if !l.failover || len(l.setting.GetDistribute()) > 0 {
		return nil
	}
	if l.zoneAware != nil {
		return l.zoneAware.GetFailoverPriority()
	}
	return l.setting.GetFailoverPriority()
}

// readLabels keeps of v what the priority labels look at.
func readLabels(out, v Viewer, priority []string) Viewer {
	keys := labelKeys{}
	for _, label := range priority {
		key, _, overridden := strings.Cut(label, "=")
		if overridden {
			continue
		}
		switch key {
		case labelRegion:
			out.Locality.Region = v.Locality.Region
		case labelZone:
			out.Locality.Zone = v.Locality.Zone
		case labelSubzone:
			out.Locality.Subzone = v.Locality.Subzone
		case labelNetwork:
			out.Network = v.Network
		case labelCluster:
			out.Cluster = v.Cluster
		case labelHostname:
			out.Node = v.Node
		}
		keys[key] = true
	}
	out.Labels = canonicalLabels(parseLabels(v.Labels), keys.sorted())
	return out
}
