package simulate

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	jwt "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
)

// TokenText stands for a request's token in its headers, its path and its
// cookies. A request with claims and without it has it in its Authorization.
const TokenText = "{jwt}"

const authorization = "authorization"

// placeToken puts the token of a request that does not say where it is.
func (h *HTTP) placeToken() {
	if h.Claims != nil && !h.hasToken() {
		h.Header = append(h.Header.without(authorization), Field{authorization, "Bearer " + TokenText})
	}
}

func (h *HTTP) hasToken() bool {
	return strings.Contains(h.Path, TokenText) || slices.ContainsFunc(h.Header, func(f Field) bool { return strings.Contains(f.Value, TokenText) })
}

// place is where a provider finds a token.
type place struct {
	header, param string
	// junk: something else is there, which is taken for a token.
	junk bool
}

// tokenPlace is where a provider sees a token: in one of its own places, or
// without such ones in Authorization or the parameter access_token.
func (r *request) tokenPlace(p *jwt.JwtProvider) (at place, found bool) {
	headers, params := p.GetFromHeaders(), p.GetFromParams()
	if len(headers) == 0 && len(params) == 0 && len(p.GetFromCookies()) == 0 {
		headers, params = []*jwt.JwtHeader{{Name: authorization, ValuePrefix: "Bearer "}}, []string{"access_token"}
	}
	for _, h := range headers {
		value, _ := r.http.get(h.GetName())
		if _, token, ok := strings.Cut(value, h.GetValuePrefix()); ok && token != "" {
			return place{header: h.GetName(), junk: !strings.HasPrefix(token, TokenText)}, true
		}
	}
	query := queryOf(r.http.query())
	for _, name := range params {
		if value := query.Get(name); value != "" {
			return place{param: name, junk: value != TokenText}, true
		}
	}
	cookies, _ := r.http.get("cookie")
	for _, c := range strings.Split(cookies, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(c), "=")
		if value != "" && slices.Contains(p.GetFromCookies(), name) {
			return place{junk: value != TokenText}, true // it stays
		}
	}
	return place{}, false
}

func queryOf(text string) url.Values {
	out := url.Values{}
	for _, item := range strings.Split(text, "&") {
		name, value, _ := strings.Cut(item, "=")
		out.Add(name, value)
	}
	return out
}

// take takes the token away from where it was. Parameters that are left come
// in the order of their names.
func (h *HTTP) take(at place) {
	if at.header != "" {
		h.Header = h.Header.without(at.header)
	}
	if at.param == "" {
		return
	}
	base, query, _ := strings.Cut(h.Path, "?")
	var left []string
	for _, item := range strings.Split(query, "&") {
		if name, _, _ := strings.Cut(item, "="); name != at.param {
			left = append(left, item)
		}
	}
	slices.SortStableFunc(left, func(a, b string) int {
		a, _, _ = strings.Cut(a, "=")
		b, _, _ = strings.Cut(b, "=")
		return strings.Compare(a, b)
	})
	h.Path = base
	if len(left) > 0 {
		h.Path += "?" + strings.Join(left, "&")
	}
}

// claimHeaders puts claims and the payload into headers.
func (r *request) claimHeaders(p *jwt.JwtProvider) {
	for _, c := range p.GetClaimToHeaders() {
		if v, ok := claimAt(r.http.Claims, c.GetClaimName()); ok {
			r.http.Header = append(r.http.Header.without(c.GetHeaderName()), Field{c.GetHeaderName(), claimHeader(v)})
		}
	}
	if name := p.GetForwardPayloadHeader(); name != "" {
		if b, err := json.Marshal(r.http.Claims); err == nil {
			encoding := base64.RawURLEncoding
			if p.GetPadForwardPayloadHeader() {
				encoding = base64.URLEncoding
			}
			r.http.Header = append(r.http.Header.without(name), Field{name, encoding.EncodeToString(b)})
		}
	}
}

// claimAt is a claim, a nested one by names with dots between them.
func claimAt(claims map[string]any, name string) (any, bool) {
	if v, ok := claims[name]; ok {
		return v, true
	}
	first, rest, nested := strings.Cut(name, ".")
	if inner, ok := claims[first].(map[string]any); nested && ok {
		return claimAt(inner, rest)
	}
	return nil, false
}
