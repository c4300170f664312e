package translate

import (
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	jwt "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
)

const (
	jwtFilter = "envoy.filters.http.jwt_authn"
	// tokenPayload is where in the request's metadata a token's claims are, for
	// AuthorizationPolicies and routes.
	tokenPayload     = "payload"
	keysFetchTimeout = time.Second
)

// tokenFilter checks tokens: one that is there must be good, and none is fine,
// since only AuthorizationPolicies require one.
func (e *listenerEnv) tokenFilter(c *httpChain) []*hcm.HttpFilter {
	rules := e.policies.tokens
	if len(rules) == 0 || c.from == Outbound {
		return nil
	}
	out := &jwt.JwtAuthentication{Providers: map[string]*jwt.JwtProvider{}, BypassCorsPreflight: true}
	var each, all []*jwt.JwtRequirement
	for i := range rules {
		name := tokenProviderName(i)
		out.Providers[name] = e.tokenProvider(&rules[i])
		one := &jwt.JwtRequirement{RequiresType: &jwt.JwtRequirement_ProviderName{ProviderName: name}}
		each = append(each, one)
		all = append(all, anyOf(one, &jwt.JwtRequirement{
			RequiresType: &jwt.JwtRequirement_AllowMissing{AllowMissing: &emptypb.Empty{}},
		}))
	}
	required := all[0]
	if len(rules) > 1 {
		// Issuers may share a place for their tokens. Then one of them
		// accepting it is enough; in places of their own all must be good.
		required = anyOf(append(each, &jwt.JwtRequirement{RequiresType: &jwt.JwtRequirement_RequiresAll{
			RequiresAll: &jwt.JwtRequirementAndList{Requirements: all},
		}})...)
	}
	out.Rules = []*jwt.RequirementRule{{
		Match:           &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: "/"}},
		RequirementType: &jwt.RequirementRule_Requires{Requires: required},
	}}
	return httpFilter(jwtFilter, out)
}

func anyOf(list ...*jwt.JwtRequirement) *jwt.JwtRequirement {
	return &jwt.JwtRequirement{RequiresType: &jwt.JwtRequirement_RequiresAny{
		RequiresAny: &jwt.JwtRequirementOrList{Requirements: list},
	}}
}

func (e *listenerEnv) tokenProvider(t *TokenRule) *jwt.JwtProvider {
	r := t.Spec
	p := &jwt.JwtProvider{
		Issuer:               r.GetIssuer(),
		Audiences:            r.GetAudiences(),
		Forward:              r.GetForwardOriginalToken(),
		ForwardPayloadHeader: r.GetOutputPayloadToHeader(),
		PayloadInMetadata:    tokenPayload,
		NormalizePayloadInMetadata: &jwt.JwtProvider_NormalizePayload{
			SpaceDelimitedClaims: sortedSet(append([]string{"permission", "scope"}, r.GetSpaceDelimitedClaims()...)),
		},
		FromParams:  r.GetFromParams(),
		FromCookies: r.GetFromCookies(),
		// Routes of gateways may ask for claims.
		ClearRouteCache: e.side == GatewaySide,
		JwksSourceSpecifier: &jwt.JwtProvider_LocalJwks{LocalJwks: &core.DataSource{
			Specifier: &core.DataSource_InlineString{InlineString: t.Keys},
		}},
	}
	if t.Keys == "" || r.GetIssuer() == "" { // without an issuer Envoy would take any
		p.JwksSourceSpecifier = nobodysKeys()
	}
	// What Envoy would refuse the whole listener for is left out; the checks
	// tell.
	if !headerName.MatchString(p.ForwardPayloadHeader) {
		p.ForwardPayloadHeader = ""
	}
	for _, h := range r.GetFromHeaders() {
		if headerName.MatchString(h.GetName()) {
			p.FromHeaders = append(p.FromHeaders, &jwt.JwtHeader{Name: h.GetName(), ValuePrefix: h.GetPrefix()})
		}
	}
	for _, c := range r.GetOutputClaimToHeaders() {
		if headerName.MatchString(c.GetHeader()) && c.GetClaim() != "" {
			p.ClaimToHeaders = append(p.ClaimToHeaders, &jwt.JwtClaimToHeader{HeaderName: c.GetHeader(), ClaimName: c.GetClaim()})
		}
	}
	return p
}

// nobodysKeys are keys that can never be had, so that every token is refused.
// Envoy takes no empty key set, and a key made up for this would be somebody's.
func nobodysKeys() *jwt.JwtProvider_RemoteJwks {
	return &jwt.JwtProvider_RemoteJwks{RemoteJwks: &jwt.RemoteJwks{HttpUri: &core.HttpUri{
		Uri: "http://" + BlackHoleCluster, Timeout: durationpb.New(keysFetchTimeout),
		HttpUpstreamType: &core.HttpUri_Cluster{Cluster: BlackHoleCluster},
	}}}
}
