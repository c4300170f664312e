package simulate

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	jwt "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
)

// jwtFilter is the name under which the filter leaves claims.
const jwtFilter = "envoy.filters.http.jwt_authn"

// jwt validates the request's token. Its signature is taken to be good;
// issuer and audience are tested.
func (r *request) jwt(name string, t *jwt.JwtAuthentication) bool {
	if r.perRoute(name) != nil {
		r.hop.unknown("a route's configuration of filter " + name)
	}
	r.dropForged(t)
	if t.GetBypassCorsPreflight() && r.http.preflight() {
		return true
	}
	for _, rule := range t.GetRules() {
		if r.matchRoute(rule.GetMatch(), r.http, r.md).why != "" {
			continue
		}
		requires := rule.GetRequires()
		if n := rule.GetRequirementName(); n != "" {
			requires = t.GetRequirementMap()[n]
		}
		if requires == nil {
			return true
		}
		why := r.requirement(t, requires)
		v := r.tokenVerdict(Verdict{Filter: name, Allowed: why == "", Why: why})
		r.hop.Filters = append(r.hop.Filters, v)
		if !v.Allowed {
			r.hop.Reply = &Reply{Status: 401, Reason: "JWT: " + why, Flag: "UAEX"}
			if strings.HasPrefix(why, "audience") || strings.Contains(why, "; audience") { // of the provider that has the issuer
				r.hop.Reply.Status = 403
			}
			return false
		}
		if r.http.Claims != nil {
			r.findRoute() // claims may lead elsewhere
		}
		return true
	}
	return true
}

// tokenVerdict says by which provider it was decided: the one that accepted the
// token, or the one that came furthest; the others are passed.
func (r *request) tokenVerdict(v Verdict) Verdict {
	if v.Allowed {
		v.Why = "no token is needed"
		switch {
		case r.accepted != "":
			v.Why, v.provider = "the token is accepted", r.accepted
		case r.http.Claims != nil:
			v.Why = "the token is not where one is looked for"
		}
	}
	for _, p := range r.tried {
		if v.provider == "" && !strings.HasPrefix(p.Why, "issuer ") && p.Why != noToken {
			v.provider = p.provider
		}
	}
	if v.provider == "" && len(r.tried) > 0 {
		v.provider = r.tried[0].provider
	}
	for _, p := range r.tried {
		if p.provider != v.provider {
			v.Passed = append(v.Passed, p)
		}
	}
	return v
}

// dropForged takes off the headers that only the filter may set.
func (r *request) dropForged(t *jwt.JwtAuthentication) {
	for _, p := range t.GetProviders() {
		for _, c := range p.GetClaimToHeaders() {
			r.http.Header = r.http.Header.without(c.GetHeaderName())
		}
		if h := p.GetForwardPayloadHeader(); h != "" {
			r.http.Header = r.http.Header.without(h)
		}
	}
}

// requirement is why a requirement is not met, or "".
func (r *request) requirement(t *jwt.JwtAuthentication, q *jwt.JwtRequirement) string {
	switch k := q.GetRequiresType().(type) {
	case *jwt.JwtRequirement_ProviderName:
		return r.provider(k.ProviderName, t.GetProviders()[k.ProviderName], nil)
	case *jwt.JwtRequirement_ProviderAndAudiences:
		n := k.ProviderAndAudiences.GetProviderName()
		return r.provider(n, t.GetProviders()[n], k.ProviderAndAudiences.GetAudiences())
	case *jwt.JwtRequirement_RequiresAny:
		return r.anyRequirement(t, k.RequiresAny.GetRequirements())
	case *jwt.JwtRequirement_RequiresAll:
		return all(k.RequiresAll.GetRequirements(), func(q *jwt.JwtRequirement) string { return r.requirement(t, q) })
	case *jwt.JwtRequirement_AllowMissingOrFailed:
		return ""
	case *jwt.JwtRequirement_AllowMissing:
		return r.missing(slices.Collect(maps.Values(t.GetProviders())))
	}
	r.hop.unknown(fmt.Sprintf("JWT requirement %T", q.GetRequiresType()))
	return ""
}

// missing allows that no provider sees a token.
func (r *request) missing(providers []*jwt.JwtProvider) string {
	if !slices.ContainsFunc(providers, func(p *jwt.JwtProvider) bool { _, found := r.tokenPlace(p); return found }) {
		return ""
	}
	if r.http.Claims == nil {
		return "what is there is no token"
	}
	return "no provider has the token's issuer " + orNone(claimText(r.http.Claims["iss"]))
}

// anyRequirement tries in order; a missing token is the last resort, where the
// providers beside it look for one.
func (r *request) anyRequirement(t *jwt.JwtAuthentication, list []*jwt.JwtRequirement) string {
	var beside []*jwt.JwtProvider
	for _, q := range list {
		if n := q.GetProviderName() + q.GetProviderAndAudiences().GetProviderName(); n != "" {
			beside = append(beside, t.GetProviders()[n])
		}
	}
	return some(list, func(q *jwt.JwtRequirement) string {
		if q.GetAllowMissing() != nil {
			return r.missing(beside)
		}
		return r.requirement(t, q)
	})
}

// noToken is why a provider without a token does not accept.
const noToken = "the token is missing"

// provider is why a provider does not accept the token, or "".
func (r *request) provider(name string, p *jwt.JwtProvider, audiences []string) string {
	why := r.accepts(p, audiences)
	if why == "" && r.accepted == "" {
		r.accepted = name
	}
	if !slices.ContainsFunc(r.tried, func(t Passed) bool { return t.provider == name }) {
		r.tried = append(r.tried, Passed{Name: "issuer " + orNone(p.GetIssuer()), Why: why, provider: name})
	}
	return why
}

// clockSkew is by how much Envoy's clock and the issuer's may differ (envoy
// jwt_authn.v3 JwtProvider.clock_skew_seconds).
const clockSkew = 60

// outOfTime is why a token is not valid now, or "" (RFC 7519, sections 4.1.4 and 4.1.5).
func outOfTime(p *jwt.JwtProvider, claims map[string]any) string {
	skew := int64(p.GetClockSkewSeconds())
	if skew == 0 {
		skew = clockSkew
	}
	now := time.Now().Unix()
	for _, name := range []string{"nbf", "exp"} {
		claim, there := claims[name]
		if !there {
			continue
		}
		at, is := number(claim)
		when := time.Unix(int64(at), 0).UTC().Format(time.RFC3339)
		switch {
		case !is || at < 0:
			return fmt.Sprintf("claim %s %v is no time", name, claim)
		case name == "nbf" && now+skew < int64(at):
			return "it is not valid before " + when
		case name == "exp" && now > int64(at)+skew:
			return "it expired at " + when
		}
	}
	return ""
}

func (r *request) accepts(p *jwt.JwtProvider, audiences []string) string {
	claims := r.http.Claims
	at, found := r.tokenPlace(p)
	if !found {
		return noToken
	}
	if at.junk || claims == nil {
		return "what is there is no token"
	}
	iss := claimText(claims["iss"])
	if p.GetIssuer() != "" && iss != p.GetIssuer() {
		return fmt.Sprintf("issuer %s is not %s", orNone(iss), p.GetIssuer())
	}
	if why := outOfTime(p, claims); why != "" {
		return why
	}
	if len(audiences) == 0 {
		audiences = p.GetAudiences()
	}
	if len(audiences) > 0 && !slices.ContainsFunc(claimList(claims["aud"]), func(a string) bool { return slices.Contains(audiences, a) }) {
		return fmt.Sprintf("audience %s is not one of %s", orNone(strings.Join(claimList(claims["aud"]), ",")), strings.Join(audiences, ", "))
	}
	if key := p.GetPayloadInMetadata(); key != "" {
		if r.md[jwtFilter] == nil {
			r.md[jwtFilter] = map[string]any{}
		}
		r.md[jwtFilter][key] = r.payload(p)
	}
	r.claimHeaders(p)
	if !p.GetForward() {
		r.http.take(at)
	}
	return ""
}

// payload is the claims as metadata. Istio's proxies normalize the scopes,
// which are one text, to lists.
func (r *request) payload(p *jwt.JwtProvider) map[string]any {
	out := map[string]any{}
	for k, v := range r.http.Claims {
		out[k] = v
	}
	for _, k := range p.GetNormalizePayloadInMetadata().GetSpaceDelimitedClaims() {
		if s, ok := out[k].(string); ok {
			list := []any{}
			for _, word := range strings.Fields(s) {
				list = append(list, word)
			}
			out[k] = list
		}
	}
	return out
}

// claimHeader is a claim as a header has it: lists and objects as base64 of
// their JSON.
func claimHeader(v any) string {
	switch v.(type) {
	case []any, []string, map[string]any:
		if b, err := json.Marshal(v); err == nil {
			return base64.StdEncoding.EncodeToString(b)
		}
	}
	return claimText(v)
}

func claimText(v any) string {
	switch t := v.(type) {
	case nil:
		return ""
	case string:
		return t
	}
	return fmt.Sprint(v)
}

func claimList(v any) []string {
	switch t := v.(type) {
	case nil:
		return nil
	case []any:
		var out []string
		for _, item := range t {
			out = append(out, claimText(item))
		}
		return out
	case []string:
		return t
	}
	return []string{claimText(v)}
}
