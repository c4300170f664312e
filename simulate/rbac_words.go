package simulate

import (
	"cmp"
	"fmt"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacpb "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// notPermission is why a negated permission does not hold, or "".
func (a *access) notPermission(p *rbacpb.Permission) string {
	if a.permission(p) != "" {
		return ""
	}
	if p.GetAny() {
		return neverMatches
	}
	return "it must not be that " + a.asksOf(p)
}

// notPrincipal is the same for a negated principal.
func (a *access) notPrincipal(p *rbacpb.Principal) string {
	if a.principal(p) != "" {
		return ""
	}
	if p.GetAny() {
		return neverMatches
	}
	return "it must not be that " + a.asksWho(p)
}

// neverMatches is said of a rule that holds for nothing: "not any".
const neverMatches = "it matches nothing"

// asksOf says in words what a permission asks, of several alternatives that
// one which holds.
func (a *access) asksOf(p *rbacpb.Permission) string {
	switch r := p.GetRule().(type) {
	case *rbacpb.Permission_AndRules:
		return together(r.AndRules.GetRules(), a.asksOf)
	case *rbacpb.Permission_OrRules:
		return theOneThat(r.OrRules.GetRules(), a.permission, a.asksOf)
	case *rbacpb.Permission_NotRule:
		return "not " + a.asksOf(r.NotRule)
	case *rbacpb.Permission_Any:
		return "anything is asked for"
	case *rbacpb.Permission_Header:
		return headerWords(r.Header)
	case *rbacpb.Permission_UrlPath:
		return "the path " + describeString(r.UrlPath.GetPath())
	case *rbacpb.Permission_UriTemplate:
		template, _ := a.template(r.UriTemplate)
		return "the path is one of " + template
	case *rbacpb.Permission_DestinationIp:
		return "the destination is in " + rangeWords(r.DestinationIp)
	case *rbacpb.Permission_DestinationPort:
		return fmt.Sprintf("the port is %d", r.DestinationPort)
	case *rbacpb.Permission_DestinationPortRange:
		return fmt.Sprintf("the port is from %d to below %d", r.DestinationPortRange.GetStart(), r.DestinationPortRange.GetEnd())
	case *rbacpb.Permission_Metadata:
		return metadataWords(r.Metadata) //nolint:staticcheck // Envoy still takes the old field
	case *rbacpb.Permission_SourcedMetadata:
		return metadataWords(r.SourcedMetadata.GetMetadataMatcher())
	case *rbacpb.Permission_RequestedServerName:
		return "the SNI " + describeString(r.RequestedServerName)
	}
	return fmt.Sprintf("%T holds", p.GetRule())
}

// asksWho is asksOf for principals.
func (a *access) asksWho(p *rbacpb.Principal) string {
	switch i := p.GetIdentifier().(type) {
	case *rbacpb.Principal_AndIds:
		return together(i.AndIds.GetIds(), a.asksWho)
	case *rbacpb.Principal_OrIds:
		return theOneThat(i.OrIds.GetIds(), a.principal, a.asksWho)
	case *rbacpb.Principal_NotId:
		return "not " + a.asksWho(i.NotId)
	case *rbacpb.Principal_Any:
		return "anybody calls"
	case *rbacpb.Principal_Authenticated_:
		return identityWords(i.Authenticated.GetPrincipalName())
	case *rbacpb.Principal_DirectRemoteIp:
		return "the source is in " + rangeWords(i.DirectRemoteIp)
	case *rbacpb.Principal_RemoteIp:
		return "the client is in " + rangeWords(i.RemoteIp)
	case *rbacpb.Principal_Header:
		return headerWords(i.Header)
	case *rbacpb.Principal_UrlPath:
		return "the path " + describeString(i.UrlPath.GetPath())
	case *rbacpb.Principal_Metadata:
		return metadataWords(i.Metadata) //nolint:staticcheck // Envoy still takes the old field
	case *rbacpb.Principal_SourcedMetadata:
		return metadataWords(i.SourcedMetadata.GetMetadataMatcher())
	case *rbacpb.Principal_FilterState:
		return identityWords(i.FilterState.GetStringMatch())
	}
	return fmt.Sprintf("%T holds", p.GetIdentifier())
}

func together[T any](list []T, words func(T) string) string {
	var out []string
	for _, item := range list {
		out = append(out, words(item))
	}
	return strings.Join(out, " and ")
}

func theOneThat[T any](list []T, why, words func(T) string) string {
	for _, item := range list {
		if why(item) == "" {
			return words(item)
		}
	}
	return together(list, words)
}

func identityWords(m *matcher.StringMatcher) string {
	if m == nil {
		return "the client has an identity"
	}
	return "the identity " + describeString(m)
}

func rangeWords(r *core.CidrRange) string {
	return fmt.Sprintf("%s/%d", r.GetAddressPrefix(), r.GetPrefixLen().GetValue())
}

func headerWords(m *route.HeaderMatcher) string {
	name := headerName(m)
	not := ""
	if m.GetInvertMatch() {
		not = "not "
	}
	if present, is := presence(m); is {
		return name + " is " + map[bool]string{true: "there", false: "absent"}[present != m.GetInvertMatch()]
	}
	_, what, _ := matchHeaderValue(m, "")
	return name + " " + not + what
}

func metadataWords(m *matcher.MetadataMatcher) string {
	var names []string
	for _, segment := range m.GetPath() {
		names = append(names, segment.GetKey())
	}
	not := ""
	if m.GetInvert() {
		not = "not "
	}
	return strings.TrimSpace(strings.Join(names, ".") + " " + not + cmp.Or(valueWords(m.GetValue()), "matches"))
}
