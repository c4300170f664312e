package access

import "testing"

// TestPoliciesThatCannotBeRead: a policy with something wrong in it would leave
// open what it restricts, so that it is as strict as it can have been meant;
// workloads that it does not select are as before. Each has a name of its own,
// since the last good version of a policy stays in effect.
func TestPoliciesThatCannotBeRead(t *testing.T) {
	a := newIssuer(t, "a.example.com")
	bearer := "Authorization: Bearer " + a.token(t, nil)
	const web = "selector: {matchLabels: {app: web}}"
	kind := func(kind, name, spec string) string {
		return "apiVersion: security.istio.io/v1\nkind: " + kind + "\nmetadata: {name: " + name + ", namespace: default}\nspec: " + spec + "\n"
	}
	none := []request{{want: denied}, {bytes: "hi", want: closed}, {port: 7070, want: denied}, {from: "default/plain", want: denied}}
	all := []request{{want: ok}, {bytes: "hi", want: ok}, {from: "default/plain", want: ok}}
	start(t).decide([]theme{
		{"nothing", "", all},
		{"an unknown field in a rule", kind("AuthorizationPolicy", "field", "{"+web+", action: ALLOW, rules: [{form: [{source: {namespaces: [default]}}]}]}"), none},
		{"for others", kind("AuthorizationPolicy", "others", "{selector: {matchLabels: {app: other}}, rules: [{form: []}]}"), all},
		{"an unknown selector", kind("AuthorizationPolicy", "selector", "{selektor: {matchLabels: {app: other}}, rules: [{}]}"), none},
		{"an unknown action", kind("AuthorizationPolicy", "action", "{"+web+", action: PERMIT, rules: [{}]}"), none},
		{"no YAML", kind("AuthorizationPolicy", "syntax", "{"+web+", rules: [{}"), none},
		{"nothing again", kind("AuthorizationPolicy", "open", "{"+web+", rules: [{}]}"), all},
		{"no token is good", kind("RequestAuthentication", "tokens", "{"+web+", jwtRules: [{issuer: a.example.com, audience: [b]}]}"), []request{
			{header: bearer, want: unauthenticated}, {want: ok}, {bytes: "hi", want: ok},
		}},
		{"mutual TLS only", kind("PeerAuthentication", "mtls", "{"+web+", mtls: {mode: DISABLED}}"), []request{
			{from: "default/plain", want: closed}, {want: ok}, {bytes: "hi", want: ok},
		}},
		{"good, and then not", kind("AuthorizationPolicy", "kept", "{"+web+", rules: [{to: [{operation: {paths: [/a]}}]}]}"), []request{{path: "/b", want: denied}, {path: "/a", want: ok}}},
		{"good, and now not", kind("AuthorizationPolicy", "kept", "{"+web+", rules: [{to: [{operation: {path: [/b]}}]}]}"), []request{{path: "/a", want: ok}, {path: "/b", want: denied}}},
	})
}
