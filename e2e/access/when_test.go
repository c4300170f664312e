package access

import (
	"fmt"
	"strings"
	"testing"
)

// TestWhen: each key of conditions, and its negation. A value that holds makes
// ALLOW let the request through and DENY refuse it, and notValues the other way
// round; one that does not hold the opposite.
func TestWhen(t *testing.T) {
	a := newIssuer(t, "a.example.com")
	header := "X-Key: one\nAuthorization: Bearer " + a.token(t, claims{
		"aud": []string{"web", "x"}, "azp": "app", "group": []string{"dev", "ops"}, "nested": claims{"level": "high"}, "scope": "read write", "number": 7,
	})
	// What a policy that is only tried out leaves for other filters.
	tried := strings.Replace(named("tried", "DENY", "[{to: [{operation: {paths: [/tried]}}]}]"), "namespace: default}", "namespace: default, annotations: {istio.io/dry-run: 'true'}}", 1)
	type group struct {
		action, field string
		rules         strings.Builder
		requests      []request
	}
	allow, deny, denyNot := group{action: "ALLOW", field: "values"}, group{action: "DENY", field: "values"}, group{action: "DENY", field: "notValues"}
	// add has a condition decide about a path of its own.
	add := func(g *group, key, value, want string) {
		path, other := fmt.Sprint("/", len(g.requests)), "nothing.at.all"
		switch {
		case strings.HasSuffix(key, ".ip"):
			other = "203.0.113.9"
		case strings.HasSuffix(key, ".port"):
			other = "1"
		}
		fmt.Fprintf(&g.rules, "\n  - {to: [{operation: {ports: ['8080'], paths: [%s]}}], when: [{key: %q, %s: [%q, %q]}]}", path, key, g.field, other, value)
		g.requests = append(g.requests, request{path: path, header: header, want: want})
	}
	for _, k := range []struct{ key, holds, not string }{
		{"request.headers[x-key]", "one", "two"}, {"request.headers[x-key]", "o*", "*o"}, {"request.headers[x-key]", "*e", "e*"}, {"request.headers[X-KEY]", "*", "nothing"},
		{"request.headers[:method]", "GET", "POST"},
		{"source.ip", "127.0.0.0/8", "10.0.0.0/8"}, {"source.ip", "127.0.0.1", "127.0.0.2"}, {"remote.ip", "127.0.0.0/8", "192.0.2.1"},
		{"source.namespace", "default", "other"}, {"source.namespace", "def*", "*def"}, {"source.namespace", "*", "defaul"},
		{"source.principal", "cluster.local/ns/default/sa/friend", "cluster.local/ns/default/sa/friends"}, {"source.principal", "*/sa/friend", "*/sa/end"},
		{"source.principal", "cluster.local/ns/default/*", "ns/default/*"}, {"source.principal", "*", "spiffe"},
		{"source.serviceAccount", "friend", "web"}, {"source.serviceAccount", "default/friend", "other/friend"},
		{"source.trustDomain", "cluster.local", "cluster"}, {"source.trustDomain", "cluster.*", "*.example"},
		{"request.auth.principal", "a.example.com/me", "a.example.com/you"}, {"request.auth.principal", "a.example.com/*", "b.example.com/*"}, {"request.auth.principal", "*", "me"},
		{"request.auth.audiences", "web", "we"}, {"request.auth.presenter", "app", "ap"},
		{"request.auth.claims[group]", "ops", "op"}, {"request.auth.claims[group]", "d*", "*d"}, {"request.auth.claims[nested][level]", "high", "low"},
		{"request.auth.claims[scope]", "write", "writ"}, {"request.auth.claims[iss]", "a.example.com", "a"},
		{"destination.ip", "127.0.0.0/8", "10.1.2.3"}, {"destination.port", "8080", "8880"},
		{"connection.sni", "outbound_.8080_._.web.default.svc.cluster.local", "web"}, {"connection.sni", "outbound_*", "inbound_*"}, {"connection.sni", "*.cluster.local", "*.local.cluster"},
		{"experimental.envoy.filters.http.rbac[istio_dry_run_deny_shadow_engine_result]", "allowed", "denied"},
	} {
		add(&allow, k.key, k.holds, ok)
		add(&allow, k.key, k.not, denied)
		if strings.HasPrefix(k.key, "experimental.") {
			continue // the filter that denies notes it only afterwards
		}
		add(&deny, k.key, k.holds, denied)
		add(&deny, k.key, k.not, ok)
		add(&denyNot, k.key, k.holds, ok)
		add(&denyNot, k.key, k.not, denied)
	}
	// What is no text, and what there is none of, matches nothing.
	for key, value := range map[string]string{"request.auth.claims[nested]": "*", "request.auth.claims[number]": "7", "request.auth.claims[none]": "*", "request.headers[x-none]": "*"} {
		add(&allow, key, value, denied)
		add(&deny, key, value, ok)
		add(&denyNot, key, value, denied)
	}
	var themes []theme
	for _, g := range []*group{&allow, &deny, &denyNot} {
		themes = append(themes, theme{g.action + " " + g.field, authentication(a.rule("")) + tried + policy(g.action, g.rules.String()), g.requests})
	}
	start(t).decide(themes)
}
