package simulate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacpb "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbac "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	network "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
)

// access is what RBAC rules are evaluated about: a request, or a connection
// alone.
type access struct {
	*exchange
	http   *HTTP      // nil for a connection
	client netip.Addr // whose it is
	md     metadata
}

func (r *request) rbac(name string, t *rbac.RBAC) bool {
	if a := r.perRoute(name); a != nil {
		m, err := r.config.unpack(a)
		own, ok := m.(*rbac.RBACPerRoute)
		if err != nil || !ok {
			r.hop.unknown("a route's configuration of filter " + name)
			return true
		}
		if own.GetRbac() == nil {
			return true // switched off for the route
		}
		t = own.GetRbac()
	}
	if t.GetMatcher() != nil || t.GetShadowMatcher() != nil {
		r.hop.unknown("filter " + name + " decides by a matcher tree")
	}
	a := &access{r.exchange, r.http, r.client, r.md}
	a.dry(name, t.GetShadowRulesStatPrefix(), t.GetShadowRules())
	if decidesNothing(t.GetRules()) {
		return true
	}
	v := a.decide(name, t.GetRules())
	r.hop.Filters = append(r.hop.Filters, v)
	if !v.Allowed {
		r.hop.Reply = &Reply{Status: 403, Reason: "RBAC: " + v.Why, Flag: "UAEX", Source: v.Source}
	}
	return v.Allowed
}

func (e *exchange) networkRBAC(name string, t *network.RBAC) bool {
	a := &access{e, nil, e.conn.Source, e.md}
	a.dry(name, t.GetShadowRulesStatPrefix(), t.GetShadowRules())
	if decidesNothing(t.GetRules()) {
		return true
	}
	v := a.decide(name, t.GetRules())
	e.hop.Filters = append(e.hop.Filters, v)
	if !v.Allowed {
		e.hop.Reply = &Reply{Reason: "RBAC: " + v.Why + ": the connection is closed", Flag: "UAEX", Source: v.Source}
	}
	return v.Allowed
}

// decidesNothing: there are no rules, or none that could keep anything out.
func decidesNothing(rules *rbacpb.RBAC) bool {
	return rules == nil || rules.GetAction() == rbacpb.RBAC_DENY && len(rules.GetPolicies()) == 0
}

// dry evaluates rules that only log.
func (a *access) dry(name, prefix string, rules *rbacpb.RBAC) {
	if len(rules.GetPolicies()) == 0 {
		return
	}
	v := a.decide(name, rules)
	v.Dry = true
	a.hop.Filters = append(a.hop.Filters, v)
	if v.Rule != "" { // a filter behind it may ask
		if a.md[name] == nil {
			a.md[name] = map[string]any{}
		}
		a.md[name][prefix+shadowPolicy] = v.Rule
	}
}

// shadowPolicy is the name under which rules that only log leave which of them
// matched, after the prefix of their own.
const shadowPolicy = "shadow_effective_policy_id"

// decide evaluates a set of policies (envoy config.rbac.v3 RBAC): ALLOW lets
// in what one of them matches, DENY keeps it out.
func (a *access) decide(name string, rules *rbacpb.RBAC) Verdict {
	v := Verdict{Filter: name}
	var names []string
	for n := range rules.GetPolicies() {
		names = append(names, n)
	}
	slices.Sort(names)
	matched := ""
	for _, n := range names {
		if why := a.policy(rules.GetPolicies()[n]); why != "" {
			v.Passed = append(v.Passed, Passed{Name: n, Source: policySource(n), Why: why})
		} else if matched == "" {
			matched = n
		}
	}
	v.Rule, v.Source = matched, policySource(matched)
	if matched == "" && len(names) > 0 {
		v.Source = policySource(names[0])
	}
	switch {
	case rules.GetAction() == rbacpb.RBAC_LOG:
		v.Allowed, v.Why = true, "it only logs"
	case rules.GetAction() == rbacpb.RBAC_ALLOW && matched != "":
		v.Allowed, v.Why = true, "policy "+matched+" allows it"
	case rules.GetAction() == rbacpb.RBAC_ALLOW:
		v.Why = "no ALLOW policy matches"
	case matched != "":
		v.Why = "policy " + matched + " denies it"
	default:
		v.Allowed, v.Why = true, "no DENY policy matches"
	}
	return v
}

// policy is why a policy does not match, or "".
func (a *access) policy(p *rbacpb.Policy) string {
	if p.GetCondition() != nil || p.GetCheckedCondition() != nil {
		a.hop.unknown("an RBAC condition in CEL")
		return "cannot be decided"
	}
	why := ""
	for _, perm := range p.GetPermissions() {
		if why = a.permission(perm); why == "" {
			break
		}
	}
	if why != "" {
		return why
	}
	for _, id := range p.GetPrincipals() {
		if why = a.principal(id); why == "" {
			break
		}
	}
	return why
}

func (a *access) permission(p *rbacpb.Permission) string {
	switch r := p.GetRule().(type) {
	case *rbacpb.Permission_AndRules:
		return all(r.AndRules.GetRules(), a.permission)
	case *rbacpb.Permission_OrRules:
		return some(r.OrRules.GetRules(), a.permission)
	case *rbacpb.Permission_NotRule:
		return a.notPermission(r.NotRule)
	case *rbacpb.Permission_Any:
		return yes(r.Any, "it matches nothing")
	case *rbacpb.Permission_Header:
		if a.http == nil {
			return "a connection has no headers"
		}
		return a.note(matchHeader(a.http, r.Header))
	case *rbacpb.Permission_UrlPath:
		if a.http == nil {
			return "a connection has no path"
		}
		match, _ := matchString(r.UrlPath.GetPath(), a.http.path())
		return yes(match, fmt.Sprintf("path %q is not one that %s", a.http.path(), describeString(r.UrlPath.GetPath())))
	case *rbacpb.Permission_UriTemplate:
		return a.pathTemplate(r.UriTemplate)
	case *rbacpb.Permission_DestinationIp:
		return inRange(r.DestinationIp, a.conn.Destination.Addr(), "destination")
	case *rbacpb.Permission_DestinationPort:
		return yes(r.DestinationPort == uint32(a.conn.Destination.Port()), fmt.Sprintf("port %d is not %d", a.conn.Destination.Port(), r.DestinationPort))
	case *rbacpb.Permission_DestinationPortRange:
		port := int32(a.conn.Destination.Port())
		return yes(port >= r.DestinationPortRange.GetStart() && port < r.DestinationPortRange.GetEnd(), fmt.Sprintf("port %d is out of range", port))
	case *rbacpb.Permission_Metadata:
		return a.note(matchMetadata(a.md, r.Metadata)) //nolint:staticcheck // Envoy still takes the old field
	case *rbacpb.Permission_SourcedMetadata:
		return a.sourced(r.SourcedMetadata)
	case *rbacpb.Permission_RequestedServerName:
		match, _ := matchString(r.RequestedServerName, a.sni)
		return yes(match, fmt.Sprintf("SNI %s is not one that %s", orNone(a.sni), describeString(r.RequestedServerName)))
	}
	a.hop.unknown(fmt.Sprintf("RBAC permission %T", p.GetRule()))
	return "cannot be decided"
}

func (a *access) principal(p *rbacpb.Principal) string {
	switch i := p.GetIdentifier().(type) {
	case *rbacpb.Principal_AndIds:
		return all(i.AndIds.GetIds(), a.principal)
	case *rbacpb.Principal_OrIds:
		return some(i.OrIds.GetIds(), a.principal)
	case *rbacpb.Principal_NotId:
		return a.notPrincipal(i.NotId)
	case *rbacpb.Principal_Any:
		return yes(i.Any, "it matches nobody")
	case *rbacpb.Principal_Authenticated_:
		return a.authenticated(i.Authenticated)
	case *rbacpb.Principal_DirectRemoteIp:
		return inRange(i.DirectRemoteIp, a.conn.Source, "source")
	case *rbacpb.Principal_RemoteIp:
		return inRange(i.RemoteIp, a.client, "client")
	case *rbacpb.Principal_Header:
		if a.http == nil {
			return "a connection has no headers"
		}
		return a.note(matchHeader(a.http, i.Header))
	case *rbacpb.Principal_UrlPath:
		if a.http == nil {
			return "a connection has no path"
		}
		match, _ := matchString(i.UrlPath.GetPath(), a.http.path())
		return yes(match, fmt.Sprintf("path %q is not one that %s", a.http.path(), describeString(i.UrlPath.GetPath())))
	case *rbacpb.Principal_Metadata:
		return a.note(matchMetadata(a.md, i.Metadata)) //nolint:staticcheck // Envoy still takes the old field
	case *rbacpb.Principal_SourcedMetadata:
		return a.sourced(i.SourcedMetadata)
	case *rbacpb.Principal_FilterState:
		return a.filterState(i)
	}
	a.hop.unknown(fmt.Sprintf("RBAC principal %T", p.GetIdentifier()))
	return "cannot be decided"
}

// authenticated tests the identity in the client's certificate.
func (a *access) authenticated(p *rbacpb.Principal_Authenticated) string {
	d := a.hop.Downstream
	if d == nil || d.Mode == Plaintext || d.Passthrough {
		return "the connection is plaintext: the client has no identity"
	}
	if p.GetPrincipalName() == nil {
		return ""
	}
	match, ok := matchString(p.GetPrincipalName(), d.Identity)
	if !ok {
		a.hop.unknown("RBAC principal name")
	}
	match = match || slices.ContainsFunc(d.principals, func(n string) bool { m, _ := matchString(p.GetPrincipalName(), n); return m })
	return yes(match, fmt.Sprintf("identity %s is not one that %s", orNone(d.Identity), describeString(p.GetPrincipalName())))
}

// peerPrincipal is the filter state in which Istio's proxies keep the peer's
// identity.
const peerPrincipal = "io.istio.peer_principal"

func (a *access) filterState(p *rbacpb.Principal_FilterState) string {
	if p.FilterState.GetKey() != peerPrincipal || p.FilterState.GetStringMatch() == nil {
		a.hop.unknown("RBAC on filter state " + p.FilterState.GetKey())
		return "cannot be decided"
	}
	return a.authenticated(&rbacpb.Principal_Authenticated{PrincipalName: p.FilterState.GetStringMatch()})
}

// sourced tests metadata that filters left.
func (a *access) sourced(m *rbacpb.SourcedMetadata) string {
	if m.GetMetadataSource() != rbacpb.MetadataSource_DYNAMIC {
		a.hop.unknown("RBAC on metadata of " + m.GetMetadataSource().String())
		return "cannot be decided"
	}
	return a.note(matchMetadata(a.md, m.GetMetadataMatcher()))
}

// note keeps what cannot be decided.
func (a *access) note(m mismatch) string {
	if m.unknown != "" {
		a.hop.unknown(m.unknown)
	}
	return m.why
}

func inRange(r *core.CidrRange, ip netip.Addr, what string) string {
	prefix, err := netip.ParseAddr(r.GetAddressPrefix())
	in := err == nil && ip.IsValid() && netip.PrefixFrom(prefix, int(r.GetPrefixLen().GetValue())).Contains(ip.Unmap())
	return yes(in, fmt.Sprintf("%s %s is not in %s/%d", what, ip, r.GetAddressPrefix(), r.GetPrefixLen().GetValue()))
}

func yes(match bool, otherwise string) string {
	if match {
		return ""
	}
	return otherwise
}

func all[T any](list []T, why func(T) string) string {
	for _, item := range list {
		if w := why(item); w != "" {
			return w
		}
	}
	return ""
}

func some[T any](list []T, why func(T) string) string {
	var last []string
	for _, item := range list {
		w := why(item)
		if w == "" {
			return ""
		}
		if !slices.Contains(last, w) {
			last = append(last, w)
		}
	}
	return strings.Join(last, "; ")
}
