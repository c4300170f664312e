package translate

import (
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
)

// destinations turns a rule's destinations into a route action.
type destinations struct {
	*ruled
	rule     *httpRule
	clusters []string // everything that the action names
}

// clusterOf is the name of a destination's cluster, whether the service is
// known or not: a name that no cluster has is a 503 until one does. Without a
// port the service's only one is meant, or the one that the client asked for.
func (d *destinations) clusterOf(to *networking.Destination) string {
	host := to.GetHost()
	if s := d.egress.service(host); s != nil && s.ExternalName != "" {
		host = d.egress.hosts.concrete(host)
	}
	cluster := OutboundCluster(d.portOf(to), to.GetSubset(), host)
	d.clusters = append(d.clusters, cluster)
	return cluster
}

func (d *destinations) portOf(to *networking.Destination) uint32 {
	if to.GetPort() != nil {
		return to.GetPort().GetNumber()
	}
	if s := d.egress.service(to.GetHost()); s != nil && len(s.Ports) == 1 {
		return s.Ports[0].Number
	}
	return d.port
}

// lead gives a route the action of forwarding requests.
func (d *destinations) lead(made *route.Route) {
	action := &route.RouteAction{}
	made.Action = &route.Route_Route{Route: action}
	setTimeout(action, d.rule.GetTimeout(), d.env)
	authority := authorityOf(d.rule.GetHeaders())
	if rw := d.rule.GetRewrite(); rw != nil {
		action.AppendXForwardedHost = d.env.forwardedHost
		rewritePath(action, rw)
		if rw.GetAuthority() != "" {
			authority = rw.GetAuthority()
		}
	}
	if authority != "" {
		action.HostRewriteSpecifier = &route.RouteAction_HostRewriteLiteral{HostRewriteLiteral: authority}
	}
	d.mirror(action)
	sticky := false
	if list := d.rule.GetRoute(); len(list) == 1 {
		sticky = d.single(made, action, list[0])
	} else {
		d.weighted(action, list)
	}
	retries := d.rule.GetRetries()
	if retries == nil {
		retries = d.env.retries
	}
	action.RetryPolicy = retryPolicy(retries, sticky)
}

// rewritePath replaces the path that was matched: Envoy puts the value in
// place of the matched prefix, or of the whole path if that was matched.
func rewritePath(a *route.RouteAction, rw *networking.HTTPRewrite) {
	if re := rw.GetUriRegexRewrite(); re != nil {
		a.RegexRewrite = &matcher.RegexMatchAndSubstitute{
			Pattern: &matcher.RegexMatcher{Regex: re.GetMatch()}, Substitution: re.GetRewrite(),
		}
		return
	}
	a.PrefixRewrite = rw.GetUri()
}

// single leads everything to one destination, whatever its weight. It reports
// whether requests stick to endpoints.
func (d *destinations) single(made *route.Route, a *route.RouteAction, to *networking.HTTPRouteDestination) bool {
	a.ClusterSpecifier = &route.RouteAction_Cluster{Cluster: d.clusterOf(to.GetDestination())}
	changes := headerChangesOf(to.GetHeaders())
	made.RequestHeadersToAdd = append(made.RequestHeadersToAdd, changes.requestAdd...)
	made.RequestHeadersToRemove = append(made.RequestHeadersToRemove, changes.requestRemove...)
	made.ResponseHeadersToAdd = append(made.ResponseHeadersToAdd, changes.responseAdd...)
	made.ResponseHeadersToRemove = append(made.ResponseHeadersToRemove, changes.responseRemove...)
	// The rule's own authority goes before the destination's.
	if auth := authorityOf(to.GetHeaders()); auth != "" && a.HostRewriteSpecifier == nil {
		a.HostRewriteSpecifier = &route.RouteAction_HostRewriteLiteral{HostRewriteLiteral: auth}
	}
	return d.stick(a, to.GetDestination())
}

// weighted splits requests. A destination of weight 0 gets none.
func (d *destinations) weighted(a *route.RouteAction, list []*networking.HTTPRouteDestination) {
	split := &route.WeightedCluster{}
	for _, to := range list {
		if to.GetWeight() <= 0 {
			continue
		}
		changes := headerChangesOf(to.GetHeaders())
		w := &route.WeightedCluster_ClusterWeight{
			Name: d.clusterOf(to.GetDestination()), Weight: wrapperspb.UInt32(uint32(to.GetWeight())),
			RequestHeadersToAdd: changes.requestAdd, RequestHeadersToRemove: changes.requestRemove,
			ResponseHeadersToAdd: changes.responseAdd, ResponseHeadersToRemove: changes.responseRemove,
		}
		if auth := authorityOf(to.GetHeaders()); auth != "" {
			w.HostRewriteSpecifier = &route.WeightedCluster_ClusterWeight_HostRewriteLiteral{HostRewriteLiteral: auth}
		}
		d.stick(a, to.GetDestination())
		split.Clusters = append(split.Clusters, w)
	}
	a.ClusterSpecifier = &route.RouteAction_WeightedClusters{WeightedClusters: split}
}

// stick adds the hash policy that the destination's load balancer asks for.
func (d *destinations) stick(a *route.RouteAction, to *networking.Destination) bool {
	s := d.egress.service(to.GetHost())
	if s == nil {
		return false
	}
	policy := hashPolicy(s.Rule, d.portOf(to), to.GetSubset())
	if policy != nil {
		a.HashPolicy = append(a.HashPolicy, policy)
	}
	return policy != nil
}

// mirror sends copies of requests whose responses nobody reads.
func (d *destinations) mirror(a *route.RouteAction) {
	if to := d.rule.GetMirror(); to != nil {
		d.addMirror(a, to, mirrorPercentage(d.rule.HTTPRoute))
	}
	for _, m := range d.rule.GetMirrors() {
		if m.GetDestination() != nil {
			d.addMirror(a, m.GetDestination(), fractionOr100(m.GetPercentage()))
		}
	}
}

func (d *destinations) addMirror(a *route.RouteAction, to *networking.Destination, share *core.RuntimeFractionalPercent) {
	if share == nil {
		return
	}
	a.RequestMirrorPolicies = append(a.RequestMirrorPolicies, &route.RouteAction_RequestMirrorPolicy{
		Cluster: d.clusterOf(to), RuntimeFraction: share, TraceSampled: wrapperspb.Bool(false),
		// Copies have the request's own host, by which the other side may route.
		DisableShadowHostSuffixAppend: true,
	})
}

// mirrorPercentage is the share of a rule's mirror; nil means none.
func mirrorPercentage(rule *networking.HTTPRoute) *core.RuntimeFractionalPercent {
	if rule.GetMirrorPercentage() == nil && rule.GetMirrorPercent() != nil { //nolint:staticcheck // the old field still counts
		return wholePercent(rule.GetMirrorPercent().GetValue()) //nolint:staticcheck // the old field still counts
	}
	return fractionOr100(rule.GetMirrorPercentage())
}
