package access

import (
	"strings"
	"testing"
)

// TestPractice has policies as people write and ask about them, with what
// Istio's documentation says that they mean.
func TestPractice(t *testing.T) {
	a, b := newIssuer(t, "a.example.com"), newIssuer(t, "b.example.com")
	tokens := authentication(a.rule(""), b.rule(""))
	bearer := func(i *issuer, c claims) string { return "Authorization: Bearer " + i.token(t, c) }
	namespace := func(name, action, rules string) string {
		return "\n---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: " + name + ", namespace: default}\nspec: {action: " + action + ", rules: " + rules + "}\n"
	}
	ops, dev := bearer(a, claims{"groups": []string{"ops", "all"}}), bearer(a, claims{"groups": []string{"dev", "all"}})
	start(t).decide([]theme{
		{"no claim of an issuer, outside of a path", tokens + policy("DENY", "[{when: [{key: 'request.auth.claims[iss]', notValues: ['*']}], to: [{operation: {notPaths: ['/test/*']}}]}]"), []request{
			{path: "/x", want: denied}, {path: "/test/x", want: ok}, {path: "/test", want: denied}, {path: "/x", header: ops, want: ok},
		}},
		{"all but a path, and the path for a group", tokens + named("open", "ALLOW", "[{to: [{operation: {notPaths: ['/internal*']}}]}]") +
			named("internal", "ALLOW", "[{to: [{operation: {paths: ['/internal*']}}], when: [{key: 'request.auth.claims[groups]', values: [ops]}]}]"), []request{
			{path: "/internal", want: denied}, {path: "/x", want: ok}, {path: "/internal/x", header: ops, want: ok}, {path: "/internal/x", header: dev, want: denied}, {path: "/internal?x", want: denied},
		}},
		{"any namespace is one of the mesh", policy("ALLOW", "[{from: [{source: {namespaces: ['*']}}]}]"), []request{
			{from: "default/plain", want: denied}, {want: ok}, {from: "other/guest", want: ok}, {bytes: "hi", want: ok},
		}},
		// Connections came through with the policy before.
		{"a method that is not, ALLOW, for connections", policy("ALLOW", "[{to: [{operation: {notMethods: [POST]}}]}]"), []request{{bytes: "hi", want: closed}, {want: ok}, {method: "POST", want: denied}}},
		{"a host is the very one", policy("ALLOW", "[{to: [{operation: {hosts: [web.default]}}]}]"), []request{
			{from: "default/plain", host: "web", want: denied}, {from: "default/plain", host: "web.default", want: ok}, {from: "default/plain", host: "web.default.svc.cluster.local", want: denied},
		}},
		{"any of several sources and operations", policy("ALLOW", "[{from: [{source: {namespaces: [other]}}, {source: {principals: ['*/sa/friend']}}], to: [{operation: {methods: [GET]}}, {operation: {methods: [POST], paths: [/post]}}]}]"), []request{
			{from: "default/plain", want: denied}, {want: ok}, {from: "other/guest", path: "/any", want: ok}, {method: "POST", path: "/post", want: ok}, {method: "POST", path: "/x", want: denied},
		}},
		{"all fields of one source", policy("ALLOW", "[{from: [{source: {namespaces: [other], principals: ['*/sa/friend']}}]}]"), []request{{want: denied}, {from: "other/guest", want: denied}}},
		{"all conditions, any of their values", policy("ALLOW", "[{when: [{key: 'request.headers[x-a]', values: [one, two]}, {key: 'request.headers[x-b]', values: ['*'], notValues: [never]}]}]"), []request{
			{want: denied}, {header: "X-A: two\nX-B: yes", want: ok}, {header: "X-A: three\nX-B: yes", want: denied}, {header: "X-A: one\nX-B: never", want: denied}, {header: "X-A: one", want: denied},
		}},
		{"a method is case-sensitive", policy("ALLOW", "[{to: [{operation: {methods: [get]}}]}]"), []request{{want: denied}}},
		{"a path is case-sensitive", policy("DENY", "[{to: [{operation: {paths: [/Admin]}}]}]"), []request{{path: "/Admin", want: denied}, {path: "/admin", want: ok}}},
		{"any method is one of requests", policy("ALLOW", "[{to: [{operation: {methods: ['*']}}]}]"), []request{{bytes: "hi", want: closed}, {want: ok}, {method: "OPTIONS", want: ok}}},
		{"no path at all", policy("ALLOW", "[{to: [{operation: {notPaths: ['*']}}]}]"), []request{{want: denied}, {path: "/x", want: denied}}},
		{"a method that is not, DENY, for connections", policy("DENY", "[{to: [{operation: {notMethods: [GET]}}]}]"), []request{{bytes: "hi", want: closed}, {want: ok}, {method: "POST", want: denied}}},
		{"a port beside a path, DENY, for connections", policy("DENY", "[{to: [{operation: {ports: ['9000'], paths: [/x]}}]}]"), []request{{bytes: "hi", want: closed}, {path: "/x", want: ok}}},
		{"not these ports", policy("DENY", "[{to: [{operation: {notPorts: ['8080']}}]}]"), []request{{bytes: "hi", want: closed}, {want: ok}, {port: 8880, want: denied}}},
		{"the workload's port, not the Service's", policy("ALLOW", "[{to: [{operation: {ports: ['8880']}}]}]"), []request{{port: 8880, want: denied}, {want: denied}}},
		{"of the namespace and of the workload, together", namespace("all", "ALLOW", "[{to: [{operation: {paths: [/all]}}]}]") + policy("ALLOW", "[{to: [{operation: {paths: [/web]}}]}]"), []request{
			{path: "/x", want: denied}, {path: "/all", want: ok}, {path: "/web", want: ok},
		}},
		{"nothing for the namespace, something for the workload", namespace("nothing", "ALLOW", "[]") + policy("ALLOW", "[{to: [{operation: {paths: [/web]}}]}]"), []request{{path: "/x", want: denied}, {path: "/web", want: ok}}},
		{"denied in the mesh, allowed for the workload", mesh("DENY", "[{to: [{operation: {paths: [/never]}}]}]") + policy("ALLOW", "[{}]"), []request{{path: "/never", want: denied}, {path: "/x", want: ok}}},
		{"audited and denied", named("watch", "AUDIT", "[{}]") + policy("DENY", "[{to: [{operation: {paths: [/never]}}]}]"), []request{{path: "/never", want: denied}, {path: "/x", want: ok}}},
		// Gateways write the header, and sidecars believe it, as Istio's do.
		{"who is remote is whom the header names last", policy("DENY", "[{from: [{source: {remoteIpBlocks: [192.0.2.0/24]}}]}]"), []request{
			{want: ok}, {from: "default/plain", header: "X-Forwarded-For: 198.51.100.1, 192.0.2.7", want: denied}, {from: "default/plain", header: "X-Forwarded-For: 192.0.2.7, 198.51.100.1", want: ok},
		}},
		{"tokens of one issuer", tokens + policy("ALLOW", "[{from: [{source: {requestPrincipals: ['a.example.com/*']}}]}]"), []request{
			{header: bearer(b, nil), want: denied}, {header: bearer(a, nil), want: ok}, {want: denied}, {header: "Authorization: Bearer x.y.z", want: unauthenticated},
		}},
		{"no group of these", tokens + policy("DENY", "[{when: [{key: 'request.auth.claims[groups]', values: [dev]}]}]"), []request{{header: dev, want: denied}, {header: ops, want: ok}, {want: ok}}},
		{"all but a group", tokens + policy("ALLOW", "[{when: [{key: 'request.auth.claims[groups]', values: ['*'], notValues: [dev]}]}]"), []request{{header: dev, want: denied}, {header: ops, want: ok}}},
		{"a selector of nothing is for all", strings.Replace(policy("DENY", "[{to: [{operation: {paths: [/never]}}]}]"), "{matchLabels: {app: web}}", "{matchLabels: {}}", 1), []request{{path: "/never", want: denied}, {path: "/x", want: ok}}},
		{"a path with encoded letters", policy("DENY", "[{to: [{operation: {paths: ['/caf%C3%A9', /tea]}}]}]"), []request{{path: "/caf%C3%A9", want: denied}, {path: "/%74ea", want: denied}, {path: "/cafe", want: ok}}},
	})
}
