package translate

import (
	"math"
	"sort"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// shape weighs or orders localities as the policy says, seen from v.
func (l *localityPolicy) shape(groups []*group, v Viewer) []*group {
	switch {
	case l.zoneAware != nil:
		if !l.failover {
			return groups
		}
		groups = byLabels(groups, v, l.zoneAware.GetFailoverPriority())
		return inOrder(groups, func(g *group) uint32 { return g.priority*zoneRanks + zoneRank(l.zoneAware, g, v) })
	case l.setting == nil:
		return groups
	case len(l.setting.GetDistribute()) > 0:
		return distribute(groups, v, l.setting.GetDistribute())
	case !l.failover:
		return groups
	}
	priority, failover := l.setting.GetFailoverPriority(), l.setting.GetFailover()
	if len(priority) > 0 {
		groups = byLabels(groups, v, priority)
		if len(failover) == 0 {
			return groups
		}
	}
	return inOrder(groups, func(g *group) uint32 { return g.priority*nearRanks + nearRank(failover, g, v) })
}

// inOrder gives each group the priority that its rank comes to among those
// that occur: Envoy wants priorities without gaps.
func inOrder(groups []*group, rank func(*group) uint32) []*group {
	ranks := make([]uint32, len(groups))
	distinct := map[uint32]uint32{}
	var sorted []uint32
	for i, g := range groups {
		ranks[i] = rank(g)
		if _, ok := distinct[ranks[i]]; !ok {
			distinct[ranks[i]] = 0
			sorted = append(sorted, ranks[i])
		}
	}
	sort.Slice(sorted, func(i, j int) bool { return sorted[i] < sorted[j] })
	for i, r := range sorted {
		distinct[r] = uint32(i)
	}
	for i, g := range groups {
		g.priority = distinct[ranks[i]]
	}
	return groups
}

// nearRanks is the number of ranks that nearRank gives.
const nearRanks = 5

// nearRank is how far a group is from the viewer: the same subzone, zone,
// region, the region that takes over from the viewer's, or elsewhere. Where
// no region is named, all others are alike.
func nearRank(failover []*networking.LocalityLoadBalancerSetting_Failover, g *group, v Viewer) uint32 {
	a, b := g.locality, v.Locality
	switch {
	case a == b:
		return 0
	case a.Region == b.Region && a.Zone == b.Zone:
		return 1
	case a.Region == b.Region:
		return 2
	}
	for _, f := range failover {
		if f.GetFrom() == b.Region {
			if a.Region != f.GetTo() {
				return 4
			}
			break
		}
	}
	return 3
}

// zoneRanks is the number of ranks that zoneRank gives.
const zoneRanks = 3

// zoneRank is nearRank for zone-aware balancing, which spreads over the zones
// of a region by itself.
func zoneRank(z *networking.ZoneAwareLoadBalancerSetting, g *group, v Viewer) uint32 {
	if g.locality.Region == v.Locality.Region {
		return 0
	}
	for _, f := range z.GetFailover() {
		if f.GetFrom() == v.Locality.Region {
			if g.locality.Region == f.GetTo() {
				return 1
			}
			break
		}
	}
	return 2
}

// byLabels splits each group by how many of the labels, in their order, an
// endpoint shares with the viewer: the more, the better. A first label that
// names the network ranks before all others.
func byLabels(groups []*group, v Viewer, priority []string) []*group {
	if len(priority) == 0 {
		return groups
	}
	labels := parseLabels(v.Labels)
	var out []*group
	for _, g := range groups {
		split := map[uint32]*group{}
		var parts []*group
		for _, e := range g.endpoints {
			rank := labelRank(priority, v, labels, e)
			part, ok := split[rank]
			if !ok {
				part = &group{locality: g.locality, priority: rank, by: g.by}
				split[rank] = part
				parts = append(parts, part)
			}
			part.add(e)
		}
		sort.Slice(parts, func(i, j int) bool { return parts[i].priority < parts[j].priority })
		out = append(out, parts...)
	}
	return inOrder(out, func(g *group) uint32 { return g.priority })
}

func labelRank(priority []string, v Viewer, labels map[string]string, e *config.Endpoint) uint32 {
	n := uint32(len(priority))
	var elsewhere uint32
	for i, label := range priority {
		key, want, overridden := strings.Cut(label, "=")
		if !overridden {
			want = viewerLabel(v, labels, key)
		}
		if want == endpointLabel(e, key) {
			continue
		}
		if i == 0 && key == labelNetwork {
			elsewhere = n
			continue
		}
		return elsewhere + n - uint32(i)
	}
	return elsewhere
}

// viewerLabel is a label's value for a viewer: its place for the labels that
// stand for one, unless its author set them.
func viewerLabel(v Viewer, labels map[string]string, key string) string {
	if set, ok := labels[key]; ok {
		return set
	}
	return placeLabel(key, v.Locality, v.Network, v.Cluster, v.Node)
}

func endpointLabel(e *config.Endpoint, key string) string {
	if set, ok := e.Labels[key]; ok {
		return set
	}
	return placeLabel(key, e.Locality, e.Network, e.Cluster, e.Node)
}

func placeLabel(key string, l config.Locality, network, cluster, node string) string {
	switch key {
	case labelRegion:
		return l.Region
	case labelZone:
		return l.Zone
	case labelSubzone:
		return l.Subzone
	case labelNetwork:
		return network
	case labelCluster:
		return cluster
	case labelHostname:
		return node
	}
	return ""
}

// distribute gives localities the weights of the first entry that covers the
// viewer's. Localities that it does not name get nothing. Without such an
// entry all is as it was.
func distribute(groups []*group, v Viewer, entries []*networking.LocalityLoadBalancerSetting_Distribute) []*group {
	for _, d := range entries {
		if coversLocality(d.GetFrom(), v.Locality) {
			return weigh(groups, d.GetTo())
		}
	}
	return groups
}

func weigh(groups []*group, to map[string]uint32) []*group {
	patterns := make([]string, 0, len(to))
	for p := range to {
		patterns = append(patterns, p)
	}
	sort.Strings(patterns)
	matched := map[*group]string{}
	total := map[string]uint64{}
	var out []*group
	for _, g := range groups {
		for _, p := range patterns {
			if coversLocality(p, g.locality) {
				matched[g] = p
				total[p] += uint64(g.weight)
				out = append(out, g)
				break
			}
		}
	}
	for _, g := range out {
		p := matched[g]
		share := float64(g.weight) * float64(to[p]) / float64(total[p])
		g.weight = uint32(math.Max(1, math.Ceil(share)))
	}
	return out
}

// coversLocality reports whether region/zone/subzone, of which trailing parts
// may be "*" or missing, covers a locality.
func coversLocality(pattern string, l config.Locality) bool {
	parts := strings.SplitN(pattern, "/", 3)
	for i, have := range []string{l.Region, l.Zone, l.Subzone} {
		if i >= len(parts) || parts[i] == "*" || i > 0 && parts[i] == "" {
			continue
		}
		if parts[i] != have {
			return false
		}
	}
	return true
}
