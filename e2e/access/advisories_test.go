package access

import "testing"

// TestAdvisories repeats what published advisories about meshes of this kind
// found. Others have tests where the fault would be (docs/security.md): hostnames of
// AUTO_PASSTHROUGH gateways in translate/testdata/gateway, Secrets across
// namespaces in snapshot, key sets in discovery/jwks.
func TestAdvisories(t *testing.T) {
	a := newIssuer(t, "a.example.com")
	required := authentication(a.rule("")) + policy("DENY", "[{from: [{source: {notRequestPrincipals: ['*']}}], to: [{operation: {paths: [/private, '/private/*']}}]}]")
	admin := policy("DENY", "[{to: [{operation: {paths: [/admin, '/admin/*']}}]}]")
	start(t).decide([]theme{
		{"2019-001: policies for connections are enforced", policy("ALLOW", "[{from: [{source: {namespaces: [default]}}], to: [{operation: {ports: ['9000']}}]}]"), []request{
			{from: "other/guest", bytes: "hi", want: closed}, {bytes: "hi", want: ok}, {want: denied},
		}},
		{"2020-001: query and fragment do not hide a path", required, []request{
			{path: "/private", want: denied}, {path: "/private?x", want: denied}, {path: "/private#x", want: denied}, {path: "/private/?a#b", want: denied}, {path: "/public", want: ok},
		}},
		{"2020-009: suffixes of principals, for connections", policy("DENY", "[{from: [{source: {principals: ['*/guest']}}]}]"), []request{
			{from: "other/guest", bytes: "hi", want: closed}, {bytes: "hi", want: ok},
		}},
		{"2021-001: a missing token is not a good one", required, []request{
			{path: "/private", want: denied}, {path: "/private", header: "Authorization: Basic eDp5", want: denied}, {path: "/private", header: "Authorization: Bearer", want: denied},
			{path: "/private", header: "Authorization: Bearer x", want: unauthenticated},
		}},
		{"2021-004: identities are nobody's in plaintext", policy("ALLOW", "[{from: [{source: {notNamespaces: [evil]}}], to: [{operation: {paths: [/a]}}]}, {from: [{source: {namespaces: [default], notPrincipals: [x]}}]}]"), []request{
			{from: "default/plain", path: "/b", want: denied}, {path: "/b", want: ok}, {from: "default/plain", path: "/a", want: ok},
		}},
		{"2021-005: slashes, as they are by default", admin + normalization("BASE"), []request{
			{path: "/admin", want: denied}, {path: "/x/../admin", want: denied}, {path: "/./admin/x", want: denied}, {path: "/%61dmin", want: denied}, {path: `/x\..\admin`, want: denied},
		}},
		{"2021-005: slashes, merged", admin + normalization("MERGE_SLASHES"), []request{{path: "//admin", want: denied}, {path: "///admin//x", want: denied}, {path: "/x", want: ok}}},
		{"2021-005: slashes, decoded and merged", admin + normalization("DECODE_AND_MERGE_SLASHES"), []request{
			{path: "/%2fadmin", want: denied}, {path: "/admin%2Fx", want: denied}, {path: "/%2F/admin%5cx", want: denied},
		}},
		{"2021-008: hosts in any case, with ports", policy("DENY", "[{to: [{operation: {hosts: [secret.example.com]}}]}]"), []request{
			{from: "default/plain", host: "secret.example.com", want: denied}, {from: "default/plain", host: "Secret.Example.COM", want: denied},
			{from: "default/plain", host: "secret.example.com:80", want: denied}, {from: "default/plain", host: "secret.example.com.", want: denied},
			{from: "default/plain", host: "other.example.com", want: ok},
		}},
		{"2021-008: parts of hosts in any case", policy("DENY", "[{to: [{operation: {hosts: ['internal.*', '*.corp.example.com', 'exact.example.com:80', '*.ports.example.com:80']}}]}]"), []request{
			{from: "default/plain", host: "internal.example.com", want: denied}, {from: "default/plain", host: "Internal.Example.COM:80", want: denied},
			{from: "default/plain", host: "a.Corp.example.COM", want: denied}, {from: "default/plain", host: "Exact.Example.com:80", want: denied},
			{from: "default/plain", host: "a.Ports.Example.com:80", want: denied}, {from: "default/plain", host: "Exact.Example.com:81", want: ok},
			{from: "default/plain", host: "not-internal.example.com", want: ok},
		}},
		{"2021-008: fragments", admin, []request{{path: "/admin#x", want: denied}, {path: "/admin?x#y", want: denied}, {path: "/x#/admin", want: ok}}},
	})
}
