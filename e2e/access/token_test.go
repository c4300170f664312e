package access

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// issuer signs tokens.
type issuer struct {
	name string
	key  *rsa.PrivateKey
}

func newIssuer(t *testing.T, name string) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{name, key}
}

// jwks is the issuer's key set.
func (i *issuer) jwks() string {
	enc := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf(`{"keys":[{"kty":"RSA","kid":"k","alg":"RS256","n":%q,"e":%q}]}`,
		enc(i.key.N.Bytes()), enc(big.NewInt(int64(i.key.E)).Bytes()))
}

type claims map[string]any

// token signs claims; iss and exp are added where they are missing.
func (i *issuer) token(t *testing.T, c claims) string {
	t.Helper()
	body := claims{"iss": i.name, "sub": "me", "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range c {
		body[k] = v
	}
	signed := part(t, claims{"alg": "RS256", "kid": "k", "typ": "JWT"}) + "." + part(t, body)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func part(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// authentication is a RequestAuthentication for web.
func authentication(rules ...string) string {
	return `
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: default}
spec:
  selector: {matchLabels: {app: web}}
  jwtRules:
` + strings.Join(rules, "")
}

// rule is a JWT rule with the issuer's keys.
func (i *issuer) rule(more string) string {
	return "  - issuer: " + i.name + "\n    jwks: '" + i.jwks() + "'\n" + more
}

// headers is an EnvoyFilter by which proxies take so many KiB of headers.
func headers(kib int) string {
	return fmt.Sprintf(`
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: headers, namespace: istio-system}
spec:
  configPatches:
  - applyTo: NETWORK_FILTER
    match: {listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}
    patch:
      operation: MERGE
      value: {typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, max_request_headers_kb: %d}}
`, kib)
}

// TestTokens: a token that is there must be good, and policies see its claims.
func TestTokens(t *testing.T) {
	a, b := newIssuer(t, "a.example.com"), newIssuer(t, "https://b.example.com/realm")
	stranger := newIssuer(t, a.name)
	bearer := func(token string) string { return "Authorization: Bearer " + token }
	good := bearer(a.token(t, nil))
	none := part(t, claims{"alg": "none"}) + "." + part(t, claims{"iss": a.name, "sub": "me"}) + "."
	many := claims{}
	for i := range 500 {
		many[fmt.Sprint("claim", i)] = i
	}
	huge := claims{}
	for i := range 10_000 {
		huge[fmt.Sprint("claim", i)] = i
	}
	huge["last"] = "here"
	start(t).decide([]theme{
		{"a token must be good", authentication(a.rule("")), []request{
			{header: bearer(stranger.token(t, nil)), want: unauthenticated}, {header: good, want: ok}, {want: ok},
			{header: bearer("nonsense"), want: unauthenticated}, {header: bearer(none), want: unauthenticated},
			{header: bearer(a.token(t, claims{"exp": 1000})), want: unauthenticated},
			{header: bearer(a.token(t, claims{"nbf": time.Now().Add(time.Hour).Unix()})), want: unauthenticated},
			{header: bearer(b.token(t, nil)), want: unauthenticated}, {header: bearer(a.token(t, many)), want: ok},
			{header: bearer(stranger.token(t, huge)), want: tooLarge}, {header: bearer(a.token(t, huge)), want: tooLarge}, {header: good, want: ok},
			{header: bearer(good + "x"), want: unauthenticated}, {method: "OPTIONS", header: "Origin: x\nAccess-Control-Request-Method: GET", want: ok},
		}},
		// A token is a part of the headers, of which Envoy takes 60 KiB.
		{"as many claims as headers may hold", authentication(a.rule("")) + headers(1024) + policy("ALLOW", "[{when: [{key: 'request.auth.claims[last]', values: [here]}]}]"), []request{
			{header: good, want: denied}, {header: bearer(a.token(t, huge)), want: ok}, {header: bearer(stranger.token(t, huge)), want: unauthenticated},
		}},
		{"audiences", authentication(a.rule("    audiences: [web]\n")), []request{
			{header: good, want: denied}, {header: bearer(a.token(t, claims{"aud": "web"})), want: ok}, {header: bearer(a.token(t, claims{"aud": []string{"x", "web"}})), want: ok},
		}},
		{"two issuers", authentication(a.rule(""), b.rule("")), []request{
			{header: bearer(stranger.token(t, nil)), want: unauthenticated}, {header: good, want: ok}, {header: bearer(b.token(t, nil)), want: ok}, {want: ok},
		}},
		{"keys that nobody has", authentication(a.rule(""), "  - issuer: "+b.name+"\n    jwksUri: https://127.0.0.1:1/keys\n"), []request{
			{header: bearer(b.token(t, nil)), want: unauthenticated}, {header: good, want: ok}, {want: ok},
		}},
		{"places", authentication(a.rule("    fromHeaders: [{name: x-jwt, prefix: 'Token '}]\n    fromParams: [token]\n    fromCookies: [session]\n")), []request{
			{header: "X-Jwt: Token " + stranger.token(t, nil), want: unauthenticated}, {header: "X-Jwt: Token " + a.token(t, nil), want: ok},
			{path: "/?token=" + stranger.token(t, nil), want: unauthenticated}, {path: "/?token=" + a.token(t, nil), want: ok},
			{header: "Cookie: session=" + stranger.token(t, nil), want: unauthenticated}, {header: "Cookie: session=" + a.token(t, nil), want: ok},
			{header: bearer("nonsense"), want: ok}, // not one of the places
		}},
		{"required", authentication(a.rule(""), b.rule("")) + policy("DENY", "[{from: [{source: {notRequestPrincipals: ['*']}}], to: [{operation: {paths: [/private]}}]}]"), []request{
			{path: "/private", want: denied}, {path: "/private", header: good, want: ok}, {path: "/", want: ok}, {path: "/private", header: bearer("nonsense"), want: unauthenticated},
			{path: "/private?x=1", want: denied}, {path: "/private#x", want: denied},
		}},
		{"requestPrincipals", authentication(a.rule(""), b.rule("")) + policy("ALLOW", "[{from: [{source: {requestPrincipals: [a.example.com/me, 'https://b.example.com/*']}}]}]"), []request{
			{want: denied}, {header: good, want: ok}, {header: bearer(a.token(t, claims{"sub": "you"})), want: denied}, {header: bearer(b.token(t, nil)), want: denied}, {bytes: "hi", want: closed},
		}},
		{"requestPrincipals of an issuer", authentication(a.rule(""), b.rule("")) + policy("ALLOW", "[{from: [{source: {requestPrincipals: ['https://b.example.com/realm/*']}}]}]"), []request{
			{header: good, want: denied}, {header: bearer(b.token(t, nil)), want: ok},
		}},
		{"claims", authentication(a.rule("")) + policy("ALLOW", "[{when: [{key: 'request.auth.claims[groups]', values: [admin]}, {key: 'request.auth.claims[nested][level]', values: ['1*']}]}]"), []request{
			{header: good, want: denied},
			{header: bearer(a.token(t, claims{"groups": []string{"x", "admin"}, "nested": claims{"level": "10"}})), want: ok},
			{header: bearer(a.token(t, claims{"groups": "admin", "nested": claims{"level": "2"}})), want: denied},
			{header: bearer(a.token(t, claims{"groups": "administrators", "nested": claims{"level": "1"}})), want: denied},
		}},
		{"scopes in one text", authentication(a.rule("    spaceDelimitedClaims: [roles]\n")) + policy("ALLOW", "[{when: [{key: 'request.auth.claims[scope]', values: [write]}]}, {when: [{key: 'request.auth.claims[roles]', values: [boss]}]}]"), []request{
			{header: bearer(a.token(t, claims{"scope": "read"})), want: denied}, {header: bearer(a.token(t, claims{"scope": "read write"})), want: ok}, {header: bearer(a.token(t, claims{"roles": "hand boss"})), want: ok},
		}},
		{"audiences and presenter", authentication(a.rule("")) + policy("ALLOW", "[{when: [{key: request.auth.audiences, values: [web]}, {key: request.auth.presenter, values: [app]}]}]"), []request{
			{header: bearer(a.token(t, claims{"aud": "web"})), want: denied}, {header: bearer(a.token(t, claims{"aud": []string{"web"}, "azp": "app"})), want: ok},
		}},
	})
}

// TestFetchedKeys: the control plane fetches an issuer's keys. While it cannot,
// the issuer's tokens are refused and nothing else is; keys that were fetched
// stay when the issuer is away, and new ones replace them.
func TestFetchedKeys(t *testing.T) {
	a, b := newIssuer(t, "a.example.com"), newIssuer(t, "b.example.com")
	var keys atomic.Value
	keys.Store("")
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if text, _ := keys.Load().(string); text != "" {
			_, _ = fmt.Fprint(w, text)
			return
		}
		http.Error(w, "away", http.StatusServiceUnavailable)
	}))
	defer s.Close()
	w := start(t)
	bearer := func(i *issuer) string { return "Authorization: Bearer " + i.token(t, nil) }
	alone := "  - issuer: " + b.name + "\n    jwksUri: " + s.URL + "\n"
	rules := authentication(a.rule(""), alone)
	// The only rule: without it nobody would look at tokens.
	w.decide([]theme{{"before, alone", authentication(alone), []request{{header: bearer(b), want: unauthenticated}, {header: bearer(a), want: unauthenticated}, {want: ok}}}})
	w.decide([]theme{{"before", rules, []request{
		{header: bearer(b), want: unauthenticated}, {header: bearer(a), want: ok}, {want: ok}, {bytes: "hi", want: ok},
	}}})
	keys.Store(b.jwks())
	w.decide([]theme{{"after", "", []request{{header: bearer(b), want: ok}, {header: bearer(a), want: ok}}}})
	keys.Store("")
	other := newIssuer(t, b.name)
	w.decide([]theme{{"away", rules + policy("DENY", "[{to: [{operation: {paths: [/never]}}]}]"), []request{{header: bearer(b), want: ok}, {header: bearer(other), want: unauthenticated}}}})
}
