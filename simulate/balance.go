package simulate

import (
	"math"
	"strings"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
)

// level is one priority of a cluster.
type level struct {
	groups         []*endpoint.LocalityLbEndpoints
	total, healthy int
	load           float64 // percent
	panic          bool    // health is disregarded
}

const (
	overprovisioning = 1.4
	defaultPanic     = 50.0 // percent
)

// pick distributes a cluster's requests over its endpoints (Envoy's
// documentation of load balancing: priority levels, panic threshold, locality
// weighted load balancing).
func (e *exchange) pick(d *Destination, c *cluster.Cluster, a *endpoint.ClusterLoadAssignment, no unavailable) {
	levels := levelsOf(a)
	threshold := defaultPanic
	if t := c.GetCommonLbConfig().GetHealthyPanicThreshold(); t != nil {
		threshold = t.GetValue()
	}
	distribute(levels, threshold, a.GetPolicy().GetOverprovisioningFactor().GetValue())
	byLocality := c.GetCommonLbConfig().GetLocalityWeightedLbConfig() != nil
	for i := range levels {
		l := &levels[i]
		for _, g := range l.groups {
			share := l.share(g, byLocality)
			weights := groupWeight(g, l.panic)
			for _, lb := range g.GetLbEndpoints() {
				ep := endpointOf(g, lb)
				if l.panic || healthy(lb) {
					ep.Percent = l.load * share * weightOf(lb) / weights
				}
				if math.IsNaN(ep.Percent) {
					ep.Percent = 0
				}
				d.Endpoints = append(d.Endpoints, e.secured(c, lb, ep))
			}
		}
	}
	for _, ep := range d.Endpoints {
		if ep.Percent > 0 {
			return
		}
	}
	why := "cluster " + d.Cluster + " has no endpoint"
	if len(d.Endpoints) > 0 {
		why = "cluster " + d.Cluster + " has no healthy endpoint"
	}
	d.Reply = no(why, "UH")
}

func endpointOf(g *endpoint.LocalityLbEndpoints, lb *endpoint.LbEndpoint) Endpoint {
	out := Endpoint{
		Address:  addressText(lb.GetEndpoint().GetAddress()),
		Locality: localityText(g.GetLocality()), Priority: g.GetPriority(),
	}
	if !healthy(lb) {
		out.Health = strings.ToLower(lb.GetHealthStatus().String())
	}
	return out
}

func healthy(lb *endpoint.LbEndpoint) bool {
	switch lb.GetHealthStatus() {
	case core.HealthStatus_UNHEALTHY, core.HealthStatus_DRAINING, core.HealthStatus_TIMEOUT:
		return false
	}
	return true
}

func weightOf(lb *endpoint.LbEndpoint) float64 {
	if w := lb.GetLoadBalancingWeight(); w != nil {
		return float64(w.GetValue())
	}
	return 1
}

func groupWeight(g *endpoint.LocalityLbEndpoints, all bool) (sum float64) {
	for _, lb := range g.GetLbEndpoints() {
		if all || healthy(lb) {
			sum += weightOf(lb)
		}
	}
	return sum
}

func levelsOf(a *endpoint.ClusterLoadAssignment) []level {
	var out []level
	for _, g := range a.GetEndpoints() {
		for len(out) <= int(g.GetPriority()) {
			out = append(out, level{})
		}
		l := &out[g.GetPriority()]
		l.groups = append(l.groups, g)
		for _, lb := range g.GetLbEndpoints() {
			l.total++
			if healthy(lb) {
				l.healthy++
			}
		}
	}
	return out
}

// distribute gives each priority its load: the first one as much as its
// health allows, the next ones what is left.
func distribute(levels []level, threshold float64, factor uint32) {
	over := overprovisioning
	if factor != 0 {
		over = float64(factor) / 100
	}
	sum := 0.0
	health := make([]float64, len(levels))
	for i := range levels {
		if levels[i].total > 0 {
			health[i] = math.Floor(min(100, over*100*float64(levels[i].healthy)/float64(levels[i].total)))
		}
		sum += health[i]
	}
	normal := min(sum, 100)
	if normal == 0 {
		allPanic(levels, threshold)
		return
	}
	left := 100.0
	for i := range levels {
		l := &levels[i]
		l.load = min(left, math.Floor(health[i]*100/normal))
		left -= l.load
		if l.total > 0 && normal < 100 {
			l.panic = 100*float64(l.healthy)/float64(l.total) < threshold
		}
	}
	for i := range levels { // what rounding left over
		if levels[i].load > 0 {
			levels[i].load += left
			break
		}
	}
}

// allPanic is for a cluster without a healthy endpoint.
func allPanic(levels []level, threshold float64) {
	total := 0
	for i := range levels {
		total += levels[i].total
	}
	for i := range levels {
		if threshold > 0 && total > 0 {
			levels[i].panic = true
			levels[i].load = 100 * float64(levels[i].total) / float64(total)
		}
	}
}

// share is a locality's part of its priority's requests.
func (l *level) share(g *endpoint.LocalityLbEndpoints, byLocality bool) float64 {
	weight := func(g *endpoint.LocalityLbEndpoints) float64 {
		if !byLocality {
			return groupWeight(g, l.panic)
		}
		n, well := float64(len(g.GetLbEndpoints())), 0.0
		for _, lb := range g.GetLbEndpoints() {
			if l.panic || healthy(lb) {
				well++
			}
		}
		if n == 0 {
			return 0
		}
		return float64(g.GetLoadBalancingWeight().GetValue()) * min(1, overprovisioning*well/n)
	}
	sum := 0.0
	for _, other := range l.groups {
		sum += weight(other)
	}
	if sum == 0 {
		return 0
	}
	return weight(g) / sum
}
