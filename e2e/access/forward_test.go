package access

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
)

// TestForwarding: what of a token reaches the application, and that nobody
// else can write it there.
func TestForwarding(t *testing.T) {
	a := newIssuer(t, "a.example.com")
	token := a.token(t, claims{"group": "dev", "nested": claims{"level": 3}, "list": []string{"x", "y"}})
	bearer := "Authorization: Bearer " + token
	payload := strings.Split(token, ".")[1]
	outputs := "    outputPayloadToHeader: x-payload\n    outputClaimToHeaders: [{header: x-sub, claim: sub}, {header: x-level, claim: nested.level}]\n"
	start(t).decide([]theme{
		{"the payload, and claims", authentication(a.rule(outputs)), []request{
			{header: bearer, want: ok, seen: `"X-Payload":["` + payload + `"]`},
			{header: bearer, want: ok, seen: `"X-Sub":["me"]`}, {header: bearer, want: ok, seen: `"X-Level":["3"]`},
			{header: bearer + "\nX-Sub: root\nX-Level: 9\nX-Payload: forged", want: ok, seen: `"X-Sub":["me"]`, unseen: "forged"},
			{header: bearer + "\nX-Level: 9", want: ok, seen: `"X-Level":["3"]`},
			{header: "X-Sub: root", want: ok, unseen: "root"}, {header: "X-Payload: forged", want: ok, unseen: "forged"},
		}},
		{"the token is taken out", authentication(a.rule("")), []request{{header: bearer, want: ok, unseen: token}}},
		{"the token stays", authentication(a.rule("    forwardOriginalToken: true\n")), []request{{header: bearer, want: ok, seen: token}}},
		{"a parameter is taken out", authentication(a.rule("    fromParams: [token]\n")), []request{
			{path: "/?a=b&token=" + token, want: ok, seen: "a=b", unseen: token}, {path: "/?a=b&token=" + token + "x", want: unauthenticated},
		}},
		{"a header with a prefix", authentication(a.rule("    fromHeaders: [{name: x-jwt, prefix: 'Token '}, {name: x-other}]\n")), []request{
			{header: "X-Jwt: Token " + token + "x", want: unauthenticated}, {header: "X-Other: " + token, want: ok, unseen: token},
			{header: "X-Other: " + token + "x", want: unauthenticated}, {header: "X-Jwt: " + token + "x", want: ok}, // not with that prefix
		}},
		{"a header of a claim that is none", authentication(a.rule("    outputClaimToHeaders: [{header: x-none, claim: nothing}]\n")), []request{
			{header: bearer + "\nX-None: forged", want: ok, unseen: "forged"},
		}},
	})
}

// TestIssuersThatDoNotAnswer: slow ones, broken key sets, and metadata that
// leads nowhere: their tokens are refused, with a problem that says why, and
// nothing else is affected. An issuer's metadata may tell where its keys are.
func TestIssuersThatDoNotAnswer(t *testing.T) {
	good := newIssuer(t, "good.example.com")
	slow := newIssuer(t, "slow.example.com")
	end := make(chan struct{})
	var metadata *issuer
	mux := http.NewServeMux()
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-end:
		}
	})
	text := func(path, body string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, body) })
	}
	text("/html", "<html>")
	text("/empty", `{"keys": []}`)
	text("/none/.well-known/openid-configuration", `{}`)
	mux.HandleFunc("/meta/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"jwks_uri": "http://%s/keys"}`, r.Host)
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, metadata.jwks()) })
	s := httptest.NewServer(mux)
	defer s.Close()
	defer close(end)
	metadata = newIssuer(t, s.URL+"/meta")
	rule := func(issuer, more string) string { return "  - issuer: " + issuer + "\n" + more }
	bearer := func(i *issuer) string { return "Authorization: Bearer " + i.token(t, nil) }
	named := func(name string) *issuer { return &issuer{name, slow.key} }
	w := start(t)
	w.decide([]theme{{"", authentication(
		good.rule(""),
		rule("slow.example.com", "    jwksUri: "+s.URL+"/slow\n    timeout: 100ms\n"),
		rule("html.example.com", "    jwksUri: "+s.URL+"/html\n"),
		rule("empty.example.com", "    jwksUri: "+s.URL+"/empty\n"),
		rule(s.URL+"/none", ""), rule(metadata.name, ""),
	), []request{
		{header: bearer(metadata), want: ok}, {header: bearer(good), want: ok}, {want: ok}, {bytes: "hi", want: ok},
		{header: bearer(slow), want: unauthenticated}, {header: bearer(named("html.example.com")), want: unauthenticated},
		{header: bearer(named("empty.example.com")), want: unauthenticated}, {header: bearer(named(s.URL + "/none")), want: unauthenticated},
		{header: bearer(named(good.name)), want: unauthenticated}, {header: bearer(named(metadata.name)), want: unauthenticated},
	}}})
	for name, why := range map[string]string{
		"slow.example.com": "deadline exceeded", "html.example.com": "/html", "empty.example.com": "/empty", s.URL + "/none": "names no jwks_uri",
	} {
		envoytest.Eventually(t, stage.Patience, func() string { return w.unfetched(name, why) })
	}
	// Written into the object, a broken set is refused with it.
	w.decide([]theme{{"inline", strings.ReplaceAll(authentication(good.rule(""), rule("broken.example.com", "    jwks: '{\"keys\": [{\"kty\": \"RSA\"}]}'\n")), "tokens,", "inline,"), []request{
		{header: bearer(named("broken.example.com")), want: unauthenticated}, {header: bearer(good), want: ok}, {want: ok}, {bytes: "hi", want: ok},
	}}})
}

// unfetched looks for the problem that an issuer's keys cannot be had.
func (w *world) unfetched(issuer, why string) string {
	for _, p := range w.Plane().Problems() {
		if p.Code == "KeysNotFetched" && strings.Contains(p.Message, issuer) && strings.Contains(p.Message, why) && strings.Contains(p.Message, "refused") {
			return ""
		}
	}
	return fmt.Sprintf("no problem says of %s %q: %v", issuer, why, w.Plane().Problems())
}
