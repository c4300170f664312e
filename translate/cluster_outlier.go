package translate

import (
	"strconv"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/config/common/matcher/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	upstreams "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matchertype "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	xdstype "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
)

// outlierDetection ejects endpoints that fail. Only the detectors that the API
// names are on; those by success rate are off.
func (d *clusterDraft) outlierDetection() {
	o := d.policy.GetOutlierDetection()
	if o == nil || d.inbound {
		return
	}
	out := &cluster.OutlierDetection{
		EnforcingSuccessRate: wrapperspb.UInt32(0),
		Interval:             o.GetInterval(),
		BaseEjectionTime:     o.GetBaseEjectionTime(),
	}
	if n := o.GetConsecutive_5XxErrors(); n != nil {
		out.Consecutive_5Xx, out.EnforcingConsecutive_5Xx = detector(n)
	}
	if n := o.GetConsecutiveGatewayErrors(); n != nil {
		out.ConsecutiveGatewayFailure, out.EnforcingConsecutiveGatewayFailure = detector(n)
	}
	setLimit(&out.MaxEjectionPercent, o.GetMaxEjectionPercent())
	if o.GetSplitExternalLocalOriginErrors() {
		out.SplitExternalLocalOriginErrors = true
		out.EnforcingLocalOriginSuccessRate = wrapperspb.UInt32(0)
		if n := o.GetConsecutiveLocalOriginFailures(); n.GetValue() > 0 {
			out.ConsecutiveLocalOriginFailure, out.EnforcingConsecutiveLocalOriginFailure = detector(n)
		}
	}
	d.out.OutlierDetection = out
	d.panicThreshold(o)
	d.outlierCodes(o.GetOutlierDetectionHttpErrorCodes())
}

// detector is a threshold and whether it is enforced, in percent: 0 turns the
// detector off.
func detector(n *wrapperspb.UInt32Value) (threshold, enforcing *wrapperspb.UInt32Value) {
	if n.GetValue() == 0 {
		return wrapperspb.UInt32(0), wrapperspb.UInt32(0)
	}
	return wrapperspb.UInt32(n.GetValue()), wrapperspb.UInt32(100)
}

// panicThreshold is the share of healthy endpoints below which Envoy ignores
// health. Endpoints that are not ready are sent along, so it is off unless the
// rule asks for it.
func (d *clusterDraft) panicThreshold(o *networking.OutlierDetection) {
	percent := o.GetMinHealthPercent()
	if percent < 0 || d.service.Distribution != "" {
		percent = 0
	}
	d.out.CommonLbConfig.HealthyPanicThreshold = &xdstype.Percent{Value: float64(percent)}
}

// outlierCodes replaces the responses that count as errors, by default 5xx.
func (d *clusterDraft) outlierCodes(codes []uint32) {
	if len(codes) == 0 {
		return
	}
	rules := make([]*matcher.MatchPredicate, 0, len(codes))
	for _, code := range codes {
		rules = append(rules, statusIs(code))
	}
	predicate := rules[0]
	if len(rules) > 1 {
		predicate = &matcher.MatchPredicate{Rule: &matcher.MatchPredicate_OrMatch{
			OrMatch: &matcher.MatchPredicate_MatchSet{Rules: rules},
		}}
	}
	d.httpOptions().OutlierDetection = &upstreams.HttpProtocolOptions_OutlierDetection{ErrorMatcher: predicate}
}

func statusIs(code uint32) *matcher.MatchPredicate {
	exact := &matchertype.StringMatcher{MatchPattern: &matchertype.StringMatcher_Exact{Exact: strconv.FormatUint(uint64(code), 10)}}
	return &matcher.MatchPredicate{Rule: &matcher.MatchPredicate_HttpResponseHeadersMatch{
		HttpResponseHeadersMatch: &matcher.HttpHeadersMatch{Headers: []*route.HeaderMatcher{{
			Name:                 ":status",
			HeaderMatchSpecifier: &route.HeaderMatcher_StringMatch{StringMatch: exact},
		}}},
	}}
}
