package translate

import (
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	networking "istio.io/api/networking/v1alpha3"
)

// hashPolicy is what of a request decides which endpoint it sticks to, as the
// Rule's consistentHash says for a port and subset; nil if it does not. The
// subset's word counts more than the host's, and a port's more than that of
// all ports.
func hashPolicy(rule *Rule, port uint32, subset string) *route.RouteAction_HashPolicy {
	if rule == nil {
		return nil
	}
	hash := consistentHash(rule.Spec.GetTrafficPolicy(), port)
	if subset != "" {
		for _, s := range rule.Spec.GetSubsets() {
			if s.GetName() != subset {
				continue
			}
			if h := consistentHash(s.GetTrafficPolicy(), port); h != nil {
				hash = h
			}
			break
		}
	}
	return hashPolicyOf(hash)
}

func consistentHash(p *networking.TrafficPolicy, port uint32) *networking.LoadBalancerSettings_ConsistentHashLB {
	for _, s := range p.GetPortLevelSettings() {
		if s.GetPort().GetNumber() != port {
			continue
		}
		if h := s.GetLoadBalancer().GetConsistentHash(); h != nil {
			return h
		}
		break
	}
	return p.GetLoadBalancer().GetConsistentHash()
}

func hashPolicyOf(h *networking.LoadBalancerSettings_ConsistentHashLB) *route.RouteAction_HashPolicy {
	switch k := h.GetHashKey().(type) {
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpHeaderName:
		return &route.RouteAction_HashPolicy{PolicySpecifier: &route.RouteAction_HashPolicy_Header_{
			Header: &route.RouteAction_HashPolicy_Header{HeaderName: k.HttpHeaderName},
		}}
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpCookie:
		cookie := &route.RouteAction_HashPolicy_Cookie{
			Name: k.HttpCookie.GetName(), Ttl: k.HttpCookie.GetTtl(), Path: k.HttpCookie.GetPath(),
		}
		for _, a := range k.HttpCookie.GetAttributes() {
			cookie.Attributes = append(cookie.Attributes, &route.RouteAction_HashPolicy_CookieAttribute{
				Name: a.GetName(), Value: a.GetValue(),
			})
		}
		return &route.RouteAction_HashPolicy{PolicySpecifier: &route.RouteAction_HashPolicy_Cookie_{Cookie: cookie}}
	case *networking.LoadBalancerSettings_ConsistentHashLB_UseSourceIp:
		return &route.RouteAction_HashPolicy{PolicySpecifier: &route.RouteAction_HashPolicy_ConnectionProperties_{
			ConnectionProperties: &route.RouteAction_HashPolicy_ConnectionProperties{SourceIp: k.UseSourceIp},
		}}
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpQueryParameterName:
		return &route.RouteAction_HashPolicy{PolicySpecifier: &route.RouteAction_HashPolicy_QueryParameter_{
			QueryParameter: &route.RouteAction_HashPolicy_QueryParameter{Name: k.HttpQueryParameterName},
		}}
	}
	return nil
}
