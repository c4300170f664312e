package access

import (
	"strings"
	"testing"
)

// aliases has the mesh's trust domain be known by two other names.
const aliases = "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: '{trustDomainAliases: [old.example, older.example]}'}\n"

// mesh is a policy of the root namespace, for everyone.
func mesh(action, rules string) string {
	return "\n---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: mesh, namespace: istio-system}\nspec: {action: " + action + ", rules: " + rules + "}\n"
}

// TestPolicies compares what Envoys decide with what the policies' texts mean.
func TestPolicies(t *testing.T) {
	start(t).decide([]theme{
		{"none", "", []request{
			{want: ok}, {from: "default/plain", want: ok}, {bytes: "hi", want: ok}, {port: 7070, want: ok},
		}},
		{"ALLOW nothing", policy("ALLOW", "[]"), []request{
			{want: denied}, {bytes: "hi", want: closed}, {port: 7070, want: denied}, {from: "default/plain", want: denied},
		}},
		{"ALLOW everything", policy("ALLOW", "[{}]"), []request{{want: ok}, {bytes: "hi", want: ok}, {from: "default/plain", want: ok}}},
		{"DENY everything", policy("DENY", "[{}]"), []request{{want: denied}, {bytes: "hi", want: closed}, {port: 7070, want: denied}}},
		{"DENY nothing", policy("DENY", "[]"), []request{{want: ok}, {bytes: "hi", want: ok}}},
		{"AUDIT", policy("AUDIT", "[{}]"), []request{{want: ok}, {bytes: "hi", want: ok}}},
		{"DENY before ALLOW", named("a", "ALLOW", "[{to: [{operation: {ports: ['8080']}}]}]") + named("d", "DENY", "[{to: [{operation: {paths: [/secret]}}]}]"), []request{
			{path: "/secret", want: denied}, {path: "/", want: ok},
			// Connections cannot be told apart by paths, so DENY is for all.
			{bytes: "hi", want: closed},
		}},
		{"two ALLOW", named("a", "ALLOW", "[{to: [{operation: {paths: [/a]}}]}]") + named("b", "ALLOW", "[{to: [{operation: {paths: [/b]}}]}]"), []request{
			{path: "/c", want: denied}, {path: "/a", want: ok}, {path: "/b", want: ok},
		}},
		{"principals", policy("ALLOW", "[{from: [{source: {principals: [cluster.local/ns/default/sa/friend]}}]}]"), []request{
			{from: "other/guest", want: denied}, {want: ok}, {bytes: "hi", want: ok}, {from: "other/guest", bytes: "hi", want: closed}, {from: "default/plain", want: denied},
		}},
		{"principals by suffix", policy("ALLOW", "[{from: [{source: {principals: ['*/sa/friend']}}]}]"), []request{
			{from: "other/guest", want: denied}, {want: ok}, {bytes: "hi", want: ok}, {from: "other/guest", bytes: "hi", want: closed},
		}},
		{"any principal", policy("ALLOW", "[{from: [{source: {principals: ['*']}}]}]"), []request{
			{from: "default/plain", want: denied}, {want: ok}, {from: "other/guest", want: ok},
		}},
		{"notPrincipals", policy("DENY", "[{from: [{source: {notPrincipals: [cluster.local/ns/default/sa/friend]}}]}]"), []request{
			{from: "other/guest", want: denied}, {from: "default/plain", want: denied}, {want: ok},
		}},
		{"namespaces", policy("ALLOW", "[{from: [{source: {namespaces: [other]}}]}]"), []request{
			{want: denied}, {from: "other/guest", want: ok}, {from: "other/guest", bytes: "hi", want: ok}, {bytes: "hi", want: closed},
		}},
		{"part of a namespace's name", policy("ALLOW", "[{from: [{source: {namespaces: [oth]}}]}]"), []request{{from: "other/guest", want: denied}}},
		{"namespaces by prefix", policy("ALLOW", "[{from: [{source: {namespaces: ['oth*']}}]}]"), []request{{want: denied}, {from: "other/guest", want: ok}}},
		{"serviceAccounts", policy("ALLOW", "[{from: [{source: {serviceAccounts: [friend, other/nobody]}}]}]"), []request{
			{from: "other/guest", want: denied}, {want: ok},
		}},
		{"serviceAccounts with their namespace", policy("ALLOW", "[{from: [{source: {serviceAccounts: [default/friend]}}]}]"), []request{
			{from: "other/guest", want: denied}, {from: "default/plain", want: denied}, {want: ok}, {bytes: "hi", want: ok}, {from: "other/guest", bytes: "hi", want: closed},
		}},
		{"notServiceAccounts", policy("DENY", "[{from: [{source: {notServiceAccounts: [friend]}}]}]"), []request{
			{from: "other/guest", want: denied}, {from: "default/plain", want: denied}, {want: ok}, {bytes: "hi", want: ok}, {from: "other/guest", bytes: "hi", want: closed},
		}},
		{"notServiceAccounts, ALLOW", policy("ALLOW", "[{from: [{source: {notServiceAccounts: [other/guest, default/nobody]}}]}]"), []request{
			{from: "other/guest", want: denied}, {want: ok}, {from: "default/plain", want: ok},
		}},
		// An account without a namespace is of the policy's.
		{"serviceAccounts of the root namespace", mesh("DENY", "[{from: [{source: {serviceAccounts: [friend]}}]}, {from: [{source: {serviceAccounts: [other/guest]}}]}]"), []request{
			{from: "other/guest", want: denied}, {want: ok},
		}},
		{"source.serviceAccount", policy("DENY", "[{when: [{key: source.serviceAccount, notValues: [default/friend]}]}]"), []request{
			{from: "other/guest", want: denied}, {from: "default/plain", want: denied}, {want: ok},
		}},
		{"at v1beta1", strings.Replace(policy("ALLOW", "[{from: [{source: {serviceAccounts: [friend]}}]}]"), "security.istio.io/v1\n", "security.istio.io/v1beta1\n", 1), []request{
			{from: "other/guest", want: denied}, {want: ok},
		}},
		{"notTrustDomains", policy("DENY", "[{from: [{source: {notTrustDomains: [cluster.local]}}]}]"), []request{
			{from: "default/plain", want: denied}, {want: ok}, {bytes: "hi", want: ok},
		}},
		{"notTrustDomains by suffix, ALLOW", policy("ALLOW", "[{from: [{source: {notTrustDomains: ['*.local']}}]}]"), []request{
			{want: denied}, {bytes: "hi", want: closed}, {from: "default/plain", want: ok},
		}},
		{"trustDomains of others", policy("ALLOW", "[{from: [{source: {trustDomains: [cluster, local, cluster.localhost, '*.example']}}]}]"), []request{{want: denied}, {from: "default/plain", want: denied}}},
		{"aliases of the trust domain", aliases + policy("ALLOW", "[{from: [{source: {principals: [old.example/ns/default/sa/friend]}}], to: [{operation: {paths: [/a]}}]},"+
			" {from: [{source: {trustDomains: [old.example]}}], to: [{operation: {paths: [/b]}}]},"+
			" {when: [{key: source.principal, values: [older.example/ns/default/sa/friend]}], to: [{operation: {paths: [/c]}}]},"+
			" {from: [{source: {principals: [other.example/ns/default/sa/friend]}}], to: [{operation: {paths: [/d]}}]},"+
			" {from: [{source: {notPrincipals: [old.example/ns/other/sa/guest], principals: ['*']}}], to: [{operation: {paths: [/e]}}]}]"), []request{
			{path: "/x", want: denied}, {path: "/a", want: ok}, {from: "other/guest", path: "/a", want: denied}, {path: "/b", want: ok}, {path: "/c", want: ok},
			{path: "/d", want: denied}, {path: "/e", want: ok}, {from: "other/guest", path: "/e", want: denied},
		}},
		{"trustDomains", policy("DENY", "[{from: [{source: {trustDomains: [cluster.local]}}]}]"), []request{{want: denied}, {from: "default/plain", want: ok}}},
		{"ipBlocks", policy("DENY", "[{from: [{source: {ipBlocks: [127.0.0.0/8]}}]}]"), []request{{want: denied}, {bytes: "hi", want: closed}}},
		{"ipBlocks of others", policy("DENY", "[{from: [{source: {ipBlocks: [10.0.0.0/8], notIpBlocks: [10.1.0.0/16]}}]}]"), []request{{want: ok}}},
		{"from and to and when", policy("ALLOW", `
  - from: [{source: {namespaces: [default]}}]
    to: [{operation: {methods: [GET], paths: ["/a/*"]}}, {operation: {methods: [POST], paths: [/b]}}]
    when: [{key: "request.headers[x-key]", values: [one, "two*"]}]`), []request{
			{path: "/a/x", want: denied}, // no key
			{path: "/a/x", header: "X-Key: one", want: ok}, {path: "/a/x", header: "X-Key: twofold", want: ok}, {path: "/a/x", header: "X-Key: three", want: denied},
			{method: "POST", path: "/a/x", header: "X-Key: one", want: denied}, {method: "POST", path: "/b", header: "X-Key: one", want: ok},
			{from: "other/guest", path: "/a/x", header: "X-Key: one", want: denied}, {bytes: "hi", want: closed},
		}},
		{"notPaths and notMethods", policy("ALLOW", "[{to: [{operation: {notPaths: ['/secret*'], notMethods: [DELETE]}}]}]"), []request{
			{path: "/secrets", want: denied}, {path: "/", want: ok}, {method: "DELETE", path: "/", want: denied},
		}},
		{"path templates", policy("ALLOW", "[{to: [{operation: {paths: ['/v1/{*}/items', '/files/{**}', '/x/{*}/y/{**}']}}]}]"), []request{
			{path: "/v1/a/b/items", want: denied}, {path: "/v1/a/items", want: ok}, {path: "/v1/items", want: denied},
			{path: "/files/a/b/c", want: ok}, {path: "/x/1/y/2/3", want: ok}, {path: "/x/1/2/y/3", want: denied}, {path: "/v1/a/items?q=1", want: ok},
		}},
		{"paths by suffix", policy("ALLOW", "[{to: [{operation: {paths: ['*.txt', '/']}}]}]"), []request{
			{path: "/a.js", want: denied}, {path: "/a.txt", want: ok}, {path: "/a.txt?x", want: ok}, {path: "/?x=/a.txt", want: ok}, {path: "/b?x=.txt", want: denied},
		}},
		{"hosts", policy("ALLOW", "[{to: [{operation: {hosts: [web, '*.example.com', 'a.test:81']}}]}]"), []request{
			{from: "default/plain", host: "other", want: denied}, {want: ok}, {host: "web:8080", want: ok},
			{from: "default/plain", host: "WEB", want: ok}, {from: "default/plain", host: "a.Example.com:8080", want: ok}, {from: "default/plain", host: "example.com", want: denied},
			{from: "default/plain", host: "a.test:81", want: ok}, {from: "default/plain", host: "a.test", want: denied},
		}},
		{"ports", policy("DENY", "[{to: [{operation: {ports: ['9000']}}]}]"), []request{{bytes: "hi", want: closed}, {want: ok}, {port: 7070, want: ok}}},
		{"destination.port and not", policy("DENY", "[{when: [{key: destination.port, notValues: ['8080']}]}]"), []request{{bytes: "hi", want: closed}, {want: ok}, {port: 7070, want: denied}}},
		{"source.principal", policy("DENY", "[{when: [{key: source.principal, values: [cluster.local/ns/other/sa/guest]}]}]"), []request{{from: "other/guest", want: denied}, {want: ok}}},
		{"connection.sni", policy("ALLOW", "[{when: [{key: connection.sni, values: ['outbound_.8080_._.web.default.svc.cluster.local']}]}]"), []request{
			{from: "default/plain", want: denied}, {want: ok}, {port: 7070, want: denied},
		}},
		{"ports that say nothing", policy("ALLOW", "[{to: [{operation: {ports: ['7070'], paths: [/open]}}]}]"), []request{
			{port: 7070, path: "/", want: denied}, {port: 7070, path: "/open", want: ok}, {port: 7070, bytes: "hi", want: closed},
		}},
		{"a key that nobody knows, ALLOW", policy("ALLOW", "[{when: [{key: nonsense, values: [a]}]}]"), []request{{want: denied}, {bytes: "hi", want: closed}}},
		{"nobody to ask", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: ask, namespace: default}\nspec:\n  action: CUSTOM\n  provider: {name: gone}\n  rules: [{to: [{operation: {paths: ['/asked*']}}]}]\n", []request{
			{path: "/asked", want: denied}, {path: "/", want: ok},
		}},
		{"dry run", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: try, namespace: default, annotations: {istio.io/dry-run: 'true'}}\nspec:\n  action: DENY\n  rules: [{}]\n", []request{{want: ok}, {bytes: "hi", want: ok}}},
	})
}
