package translate

import (
	"regexp"
	"slices"
	"strings"

	rbac "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	security "istio.io/api/security/v1beta1"
)

// source is who calls: all of what it names.
func (w *ruleWriter) source(s *security.Source) []*rbac.Principal {
	var out []*rbac.Principal
	for _, c := range []struct {
		values, notValues []string
		of                func(string) *rbac.Principal
	}{
		{w.inDomains(s.GetPrincipals()), w.inDomains(s.GetNotPrincipals()), principalNamed},
		{s.GetRequestPrincipals(), s.GetNotRequestPrincipals(), requestsOnly(w, tokenNamed)},
		{s.GetNamespaces(), s.GetNotNamespaces(), namespaceNamed},
		{s.GetServiceAccounts(), s.GetNotServiceAccounts(), w.accountNamed},
		{w.withAliases(s.GetTrustDomains()), w.withAliases(s.GetNotTrustDomains()), domainNamed},
		{s.GetIpBlocks(), s.GetNotIpBlocks(), peerAddress},
		{s.GetRemoteIpBlocks(), s.GetNotRemoteIpBlocks(), clientAddress},
	} {
		out = append(out, w.principals(c.values, c.notValues, c.of)...)
	}
	return out
}

func (w *ruleWriter) principals(values, notValues []string, of func(string) *rbac.Principal) []*rbac.Principal {
	return matches(w, values, notValues, of, orPrincipals, notPrincipal)
}

// inDomains adds to principals of one of the mesh's trust domains those of the
// others: they are the same workloads. Patterns for a domain's beginning are
// left alone.
func (w *ruleWriter) inDomains(principals []string) []string {
	var out []string
	for _, p := range principals {
		out = append(out, p)
		domain, rest, ok := strings.Cut(p, "/")
		if !ok || domain == "*" {
			continue
		}
		suffix, wild := strings.CutPrefix(domain, "*")
		if !slices.ContainsFunc(w.domains, func(d string) bool { return d == domain || wild && strings.HasSuffix(d, suffix) }) && domain != defaultTrustDomain {
			continue
		}
		for _, d := range w.domains {
			if q := d + "/" + rest; !slices.Contains(out, q) {
				out = append(out, q)
			}
		}
	}
	return out
}

func (w *ruleWriter) withAliases(domains []string) []string {
	var out []string
	for _, d := range domains {
		out = append(out, d)
		if slices.Contains(w.domains, d) {
			for _, alias := range w.domains {
				if !slices.Contains(out, alias) {
					out = append(out, alias)
				}
			}
		}
	}
	return out
}

func authenticated(m *matcher.StringMatcher) *rbac.Principal {
	return &rbac.Principal{Identifier: &rbac.Principal_Authenticated_{
		Authenticated: &rbac.Principal_Authenticated{PrincipalName: m},
	}}
}

func exactly(s string) *matcher.StringMatcher {
	return &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Exact{Exact: s}}
}

func beginning(s string) *matcher.StringMatcher {
	return &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Prefix{Prefix: s}}
}

func ending(s string) *matcher.StringMatcher {
	return &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Suffix{Suffix: s}}
}

func matching(expression string) *matcher.StringMatcher {
	return &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_SafeRegex{SafeRegex: &matcher.RegexMatcher{Regex: expression}}}
}

// stringIs is a value with a wildcard at one end.
func stringIs(v string) *matcher.StringMatcher {
	switch kind, rest := wildcardOf(v); kind {
	case wildcardAny:
		return matching(".+")
	case wildcardPrefix:
		return beginning(rest)
	case wildcardSuffix:
		return ending(rest)
	default:
		return exactly(rest)
	}
}

// principalNamed is an identity without its scheme.
func principalNamed(v string) *rbac.Principal {
	switch kind, rest := wildcardOf(v); kind {
	case wildcardAny:
		return authenticated(matching(".+"))
	case wildcardPrefix:
		return authenticated(beginning(spiffeScheme + rest))
	case wildcardSuffix:
		return authenticated(matching(spiffeScheme + ".*" + regexp.QuoteMeta(rest)))
	default:
		return authenticated(exactly(spiffeScheme + rest))
	}
}

func namespaceNamed(v string) *rbac.Principal {
	return authenticated(matching(spiffeScheme + "[^/]+/ns/" + wild(v, "[^/]*") + "/sa/.+"))
}

// accountNamed is namespace/account, or an account of the policy's namespace.
func (w *ruleWriter) accountNamed(v string) *rbac.Principal {
	ns, account, ok := strings.Cut(v, "/")
	if !ok {
		ns, account = w.policy.Namespace, v
	}
	return authenticated(matching(spiffeScheme + "[^/]+/ns/" + regexp.QuoteMeta(ns) + "/sa/" + regexp.QuoteMeta(account)))
}

func domainNamed(v string) *rbac.Principal {
	if v == "*" {
		return authenticated(beginning(spiffeScheme))
	}
	return authenticated(matching(spiffeScheme + wild(v, "[^/]*") + "/.*"))
}

// wild is the expression for a value in which * stands for one.
func wild(v, star string) string {
	parts := strings.Split(v, "*")
	for i, p := range parts {
		parts[i] = regexp.QuoteMeta(p)
	}
	return strings.Join(parts, star)
}

func peerAddress(v string) *rbac.Principal {
	r := cidrRange(v)
	if r == nil {
		return nil
	}
	return &rbac.Principal{Identifier: &rbac.Principal_DirectRemoteIp{DirectRemoteIp: r}}
}

func clientAddress(v string) *rbac.Principal {
	r := cidrRange(v)
	if r == nil {
		return nil
	}
	return &rbac.Principal{Identifier: &rbac.Principal_RemoteIp{RemoteIp: r}}
}

// tokenNamed is issuer/subject of a token that was checked. An issuer may
// hold slashes, a subject none.
func tokenNamed(v string) *rbac.Principal {
	issuer, subject := v, ""
	i := strings.LastIndexByte(v, '/')
	if i >= 0 {
		issuer, subject = v[:i], v[i+1:]
	}
	something := matching(".+")
	iss, sub := exactly(issuer), exactly(subject)
	switch kind, rest := wildcardOf(v); {
	case kind == wildcardAny:
		iss, sub = something, something
	case kind == wildcardSuffix && i < 0:
		iss, sub = something, ending(rest)
	case kind == wildcardPrefix && i < 0:
		iss, sub = beginning(rest), something
	case kind == wildcardSuffix:
		iss = stringIs(issuer)
	case kind == wildcardPrefix:
		sub = stringIs(subject)
	}
	return andPrincipals([]*rbac.Principal{claimIs([]string{"iss"}, textValue(iss)), claimIs([]string{"sub"}, textValue(sub))})
}

func textValue(m *matcher.StringMatcher) *matcher.ValueMatcher {
	return &matcher.ValueMatcher{MatchPattern: &matcher.ValueMatcher_StringMatch{StringMatch: m}}
}

func anyValue(list ...*matcher.ValueMatcher) *matcher.ValueMatcher {
	if len(list) == 1 {
		return list[0]
	}
	return &matcher.ValueMatcher{MatchPattern: &matcher.ValueMatcher_OrMatch{OrMatch: &matcher.OrMatcher{ValueMatchers: list}}}
}

// inList is a list of which an element is so.
func inList(v *matcher.ValueMatcher) *matcher.ValueMatcher {
	return &matcher.ValueMatcher{MatchPattern: &matcher.ValueMatcher_ListMatch{
		ListMatch: &matcher.ListMatcher{MatchPattern: &matcher.ListMatcher_OneOf{OneOf: v}},
	}}
}

func metadataAt(filter string, path []string, v *matcher.ValueMatcher) *matcher.MetadataMatcher {
	out := &matcher.MetadataMatcher{Filter: filter, Value: v}
	for _, key := range path {
		out.Path = append(out.Path, &matcher.MetadataMatcher_PathSegment{Segment: &matcher.MetadataMatcher_PathSegment_Key{Key: key}})
	}
	return out
}

// claimIs is a claim of a token that was checked.
func claimIs(claim []string, v *matcher.ValueMatcher) *rbac.Principal {
	return &rbac.Principal{Identifier: &rbac.Principal_Metadata{
		Metadata: metadataAt(jwtFilter, append([]string{tokenPayload}, claim...), v), //nolint:staticcheck // older proxies know no other form
	}}
}

// claimNamed makes the forms of a claim's values: a list has one of them.
func claimNamed(claim []string) func(string) *rbac.Principal {
	return func(v string) *rbac.Principal {
		if len(claim) == 0 || slices.Contains(claim, "") {
			return nil
		}
		is := textValue(stringIs(v))
		return claimIs(claim, anyValue(inList(is), is))
	}
}

// headerNamed makes the forms of a request header's values.
func headerNamed(name string) func(string) *rbac.Principal {
	return func(v string) *rbac.Principal {
		if !headerName.MatchString(strings.TrimPrefix(name, ":")) {
			return nil
		}
		return &rbac.Principal{Identifier: &rbac.Principal_Header{Header: headerIs(name, v)}}
	}
}

func headerIs(name, v string) *route.HeaderMatcher {
	h := &route.HeaderMatcher{Name: name}
	if v == "*" {
		h.HeaderMatchSpecifier = &route.HeaderMatcher_PresentMatch{PresentMatch: true}
	} else {
		h.HeaderMatchSpecifier = &route.HeaderMatcher_StringMatch{StringMatch: stringIs(v)}
	}
	return h
}
