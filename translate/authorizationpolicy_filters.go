package translate

import (
	"maps"

	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbac "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httprbac "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcprbac "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	security "istio.io/api/security/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

const (
	httpAccessFilter = "envoy.filters.http.rbac"
	tcpAccessFilter  = "envoy.filters.network.rbac"
	tcpAccessStats   = "tcp."
)

// accessStep is one of the filters that decide: what it enforces, and what it
// only tries out. Nil stands for nothing.
type accessStep struct {
	rules, tried *rbac.RBAC
	triedPrefix  string
}

// accessSteps are the decisions in the order of Istio's precedence: whoever a
// DENY rule names is refused; if there are ALLOW policies, only whom they name
// comes through. CUSTOM policies go before all (see authorizerFilters).
func (e *listenerEnv) accessSteps(connections bool) []accessStep {
	var out []accessStep
	for _, kind := range []struct {
		action security.AuthorizationPolicy_Action
		envoy  rbac.RBAC_Action
		prefix string
	}{
		{security.AuthorizationPolicy_AUDIT, rbac.RBAC_LOG, ""},
		{security.AuthorizationPolicy_DENY, rbac.RBAC_DENY, "istio_dry_run_deny_"},
		{security.AuthorizationPolicy_ALLOW, rbac.RBAC_ALLOW, "istio_dry_run_allow_"},
	} {
		step := accessStep{triedPrefix: kind.prefix}
		for _, p := range e.policies.access.policies {
			if actionOf(p) != kind.action {
				continue
			}
			into := &step.rules
			if dryRun(p) {
				into = &step.tried
			}
			if *into == nil {
				*into = &rbac.RBAC{Action: kind.envoy, Policies: map[string]*rbac.Policy{}}
			}
			maps.Copy((*into).Policies, newRuleWriter(p, trustDomains(e.mesh), connections).policies(""))
		}
		if step.rules != nil || step.tried != nil {
			out = append(out, step)
		}
	}
	return out
}

// actionOf is a policy's action. One with a number that the API does not name
// allows nothing (see ruleWriter.policies).
func actionOf(p *config.AuthorizationPolicy) security.AuthorizationPolicy_Action {
	if _, known := security.AuthorizationPolicy_Action_name[int32(p.Spec.GetAction())]; !known {
		return security.AuthorizationPolicy_ALLOW
	}
	return p.Spec.GetAction()
}

// accessFilters decide about requests.
func (t *listenerTexts) accessFilters(c *httpChain) []*hcm.HttpFilter {
	if c.from == Outbound {
		return nil
	}
	out := t.authorizerFilters()
	for _, s := range t.env.accessSteps(false) {
		out = append(out, httpFilter(httpAccessFilter, &httprbac.RBAC{
			Rules: s.rules, ShadowRules: s.tried, ShadowRulesStatPrefix: triedPrefix(&s),
		})...)
	}
	return out
}

// connectionFilters decide about connections.
func (t *listenerTexts) connectionFilters() []*listener.Filter {
	if t.env.side == Outbound {
		return nil
	}
	out := t.connectionAuthorizers()
	for _, s := range t.env.accessSteps(true) {
		out = append(out, networkFilter(tcpAccessFilter, &tcprbac.RBAC{
			Rules: s.rules, ShadowRules: s.tried, ShadowRulesStatPrefix: triedPrefix(&s), StatPrefix: tcpAccessStats,
		}))
	}
	return out
}

func triedPrefix(s *accessStep) string {
	if s.tried == nil {
		return ""
	}
	return s.triedPrefix
}
