package translate

import (
	"maps"
	"slices"
	"strings"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
)

// routeMatch is what a request must look like. All conditions must hold.
func routeMatch(m *networking.HTTPMatchRequest) *route.RouteMatch {
	out := anyPath()
	if m == nil {
		return out
	}
	switch u := m.GetUri().GetMatchType().(type) {
	case *networking.StringMatch_Exact:
		out.PathSpecifier = &route.RouteMatch_Path{Path: u.Exact}
	case *networking.StringMatch_Prefix:
		out.PathSpecifier = &route.RouteMatch_Prefix{Prefix: u.Prefix}
	case *networking.StringMatch_Regex:
		out.PathSpecifier = &route.RouteMatch_SafeRegex{SafeRegex: &matcher.RegexMatcher{Regex: u.Regex}}
	}
	out.CaseSensitive = wrapperspb.Bool(!m.GetIgnoreUriCase())
	addHeaderMatches(out, m.GetHeaders(), false)
	addHeaderMatches(out, m.GetWithoutHeaders(), true)
	slices.SortStableFunc(out.Headers, func(a, b *route.HeaderMatcher) int { return strings.Compare(a.Name, b.Name) })
	for _, special := range []struct {
		name string
		m    *networking.StringMatch
	}{{":method", m.GetMethod()}, {":authority", m.GetAuthority()}, {":scheme", m.GetScheme()}} {
		if special.m != nil {
			out.Headers = append(out.Headers, headerMatch(special.name, special.m))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.GetQueryParams())) {
		out.QueryParameters = append(out.QueryParameters, queryMatch(name, m.GetQueryParams()[name]))
	}
	return out
}

// addHeaderMatches adds conditions on headers, and on the claims of a token
// where the name says so. Without inverts them; a header that is not there
// then counts as empty.
func addHeaderMatches(out *route.RouteMatch, headers map[string]*networking.StringMatch, without bool) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		m := headers[name]
		if claim := claimPath(name); claim != nil {
			c := claimMatch(claim, m)
			c.Invert = without
			out.DynamicMetadata = append(out.DynamicMetadata, c)
			continue
		}
		h := headerMatch(name, m)
		h.InvertMatch = without
		h.TreatMissingHeaderAsEmpty = without && !isPresence(m)
		out.Headers = append(out.Headers, h)
	}
}

func headerMatch(name string, m *networking.StringMatch) *route.HeaderMatcher {
	h := &route.HeaderMatcher{Name: name}
	if isPresence(m) {
		h.HeaderMatchSpecifier = &route.HeaderMatcher_PresentMatch{PresentMatch: true}
	} else {
		h.HeaderMatchSpecifier = &route.HeaderMatcher_StringMatch{StringMatch: stringMatcher(m)}
	}
	return h
}

func queryMatch(name string, m *networking.StringMatch) *route.QueryParameterMatcher {
	q := &route.QueryParameterMatcher{Name: name}
	if isPresence(m) {
		q.QueryParameterMatchSpecifier = &route.QueryParameterMatcher_PresentMatch{PresentMatch: true}
	} else {
		q.QueryParameterMatchSpecifier = &route.QueryParameterMatcher_StringMatch{StringMatch: stringMatcher(m)}
	}
	return q
}

// isPresence reports whether a condition only asks for there to be a value:
// an empty one, or the regex "*", which is none but is used for this.
func isPresence(m *networking.StringMatch) bool {
	return m.GetMatchType() == nil || m.GetRegex() == "*"
}

// stringMatcher is Envoy's form of a condition that is no mere presence.
func stringMatcher(m *networking.StringMatch) *matcher.StringMatcher {
	switch t := m.GetMatchType().(type) {
	case *networking.StringMatch_Prefix:
		return &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Prefix{Prefix: t.Prefix}}
	case *networking.StringMatch_Regex:
		re := &matcher.RegexMatcher{Regex: t.Regex}
		return &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_SafeRegex{SafeRegex: re}}
	}
	return &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Exact{Exact: m.GetExact()}}
}

// claimHeader is the name under which VirtualService.http.match.headers reads
// claims of a request's validated JWT.
const claimHeader = "@request.auth.claims"

// claimPath is the claim that a header name stands for, or nil if it is a
// header: @request.auth.claims.group.id or @request.auth.claims[group][id].
func claimPath(name string) []string {
	if len(name) < len(claimHeader) || !strings.EqualFold(name[:len(claimHeader)], claimHeader) {
		return nil
	}
	rest := name[len(claimHeader):]
	switch {
	case strings.HasPrefix(rest, ".") && len(rest) > 1:
		return strings.Split(rest[1:], ".")
	case strings.HasPrefix(rest, "[") && strings.HasSuffix(rest, "]") && len(rest) > 2:
		return strings.Split(rest[1:len(rest)-1], "][")
	}
	return nil
}

// claimMatch tests a claim that the JWT filter left in the request's
// metadata; a list matches if one of its elements does.
func claimMatch(path []string, m *networking.StringMatch) *matcher.MetadataMatcher {
	value := &matcher.ValueMatcher{MatchPattern: &matcher.ValueMatcher_PresentMatch{PresentMatch: true}}
	if !isPresence(m) {
		value.MatchPattern = &matcher.ValueMatcher_StringMatch{StringMatch: stringMatcher(m)}
	}
	list := &matcher.ValueMatcher{MatchPattern: &matcher.ValueMatcher_ListMatch{
		ListMatch: &matcher.ListMatcher{MatchPattern: &matcher.ListMatcher_OneOf{OneOf: value}},
	}}
	out := &matcher.MetadataMatcher{
		Filter: "envoy.filters.http.jwt_authn",
		Value: &matcher.ValueMatcher{MatchPattern: &matcher.ValueMatcher_OrMatch{
			OrMatch: &matcher.OrMatcher{ValueMatchers: []*matcher.ValueMatcher{list, value}},
		}},
	}
	for _, key := range append([]string{"payload"}, path...) {
		out.Path = append(out.Path, &matcher.MetadataMatcher_PathSegment{
			Segment: &matcher.MetadataMatcher_PathSegment_Key{Key: key},
		})
	}
	return out
}
