package access

import (
	"fmt"
	"testing"
)

// atGateway is a policy for the gateway.
func atGateway(action, rules string) string {
	return "\n---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: g, namespace: default}\nspec: {selector: {matchLabels: {istio: entry}}, action: " + action + ", rules: " + rules + "}\n"
}

// routed is a VirtualService that leads what matches to other, and all else to
// web.
func routed(match string) string {
	return `
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: routes, namespace: default}
spec:
  hosts: ["*"]
  gateways: [gw]
  http:
  - match: ` + match + `
    route: [{destination: {host: other}}]
  - route: [{destination: {host: web}}]
`
}

const toWeb, toOther = `"workload":"web"`, `"workload":"other"`

// TestClaimRoutes: routes of a gateway by claims of good tokens.
func TestClaimRoutes(t *testing.T) {
	a, stranger := newIssuer(t, "a.example.com"), newIssuer(t, "a.example.com")
	authentication := "\n---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: tokens, namespace: default}\nspec:\n  selector: {matchLabels: {istio: entry}}\n  jwtRules:\n" + a.rule("")
	bearer := func(c claims) string { return "Authorization: Bearer " + a.token(t, c) }
	forged := "Authorization: Bearer " + stranger.token(t, claims{"group": "vip"})
	match := func(claim, value string) string {
		return authentication + routed(fmt.Sprintf("[{headers: {%q: %s}}]", claim, value))
	}
	startGateway(t).decide([]theme{
		{"exact", match("@request.auth.claims.group", "{exact: vip}"), []request{
			{header: bearer(claims{"group": "vip"}), want: ok, seen: toOther}, {header: bearer(claims{"group": "vips"}), want: ok, seen: toWeb}, {want: ok, seen: toWeb},
			{header: bearer(claims{"group": []string{"a", "vip"}}), want: ok, seen: toOther}, {header: bearer(claims{"group": []string{"a", "b"}}), want: ok, seen: toWeb},
			{header: forged, want: unauthenticated}, {header: "@request.auth.claims.group: vip", want: badRequest},
		}},
		{"nested", match("@request.auth.claims.org.team", "{exact: red}"), []request{
			{header: bearer(claims{"org": claims{"team": "red"}}), want: ok, seen: toOther}, {header: bearer(claims{"org": claims{"team": []string{"x", "red"}}}), want: ok, seen: toOther},
			{header: bearer(claims{"team": "red"}), want: ok, seen: toWeb}, {header: bearer(claims{"org": "red"}), want: ok, seen: toWeb}, {header: bearer(claims{"org.team": "red"}), want: ok, seen: toWeb},
		}},
		{"in brackets", match("@request.auth.claims[org.example/team][id]", "{prefix: re}"), []request{
			{header: bearer(claims{"org.example/team": claims{"id": "red"}}), want: ok, seen: toOther}, {header: bearer(claims{"org.example/team": claims{"id": "blue"}}), want: ok, seen: toWeb},
		}},
		{"expressions", match("@request.auth.claims.sub", "{regex: 'm.|you'}"), []request{
			{header: bearer(nil), want: ok, seen: toOther}, {header: bearer(claims{"sub": "meme"}), want: ok, seen: toWeb},
		}},
		{"scopes in one text", match("@request.auth.claims.scope", "{exact: write}"), []request{
			{header: bearer(claims{"scope": "read write"}), want: ok, seen: toOther}, {header: bearer(claims{"scope": "read"}), want: ok, seen: toWeb},
		}},
		{"presence", match("@request.auth.claims.group", "{}"), []request{
			{header: bearer(claims{"group": "any"}), want: ok, seen: toOther}, {header: bearer(nil), want: ok, seen: toWeb}, {want: ok, seen: toWeb},
		}},
		{"without", authentication + routed(`[{withoutHeaders: {"@request.auth.claims.group": {exact: vip}}}]`), []request{
			{header: bearer(claims{"group": "vip"}), want: ok, seen: toWeb}, {header: bearer(claims{"group": "dev"}), want: ok, seen: toOther}, {want: ok, seen: toOther},
		}},
	})
}

// TestTargets: policies for Gateways of the Gateway API reach the workloads
// that serve them, and no others.
func TestTargets(t *testing.T) {
	a := newIssuer(t, "a.example.com")
	stranger := "Authorization: Bearer " + newIssuer(t, a.name).token(t, nil)
	good := "Authorization: Bearer " + a.token(t, nil)
	target := func(name, group, kind string) string {
		return "{group: " + group + ", kind: " + kind + ", name: " + name + "}"
	}
	api := target("api", "gateway.networking.k8s.io", "Gateway")
	const routes = "\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: routes, namespace: default}\nspec: {hosts: ['*'], gateways: [gw], http: [{route: [{destination: {host: web}}]}]}\n"
	deny := func(namespace, at string) string {
		return routes + "\n---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: t, namespace: " + namespace + "}\nspec: {" + at + ", action: DENY, rules: [{}]}\n"
	}
	tokens := func(at string) string {
		return routes + "\n---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: t, namespace: default}\nspec:\n  " + at + "\n  jwtRules:\n" + a.rule("")
	}
	startGateway(t).decide([]theme{
		{"targetRefs", deny("default", "targetRefs: ["+target("x", "gateway.networking.k8s.io", "Gateway")+", "+api+"]"), []request{{want: denied}}},
		{"targetRef", deny("default", "targetRef: "+api), []request{{want: denied}}},
		{"of another Gateway", deny("default", "targetRefs: ["+target("x", "gateway.networking.k8s.io", "Gateway")+"]"), []request{{want: ok}}},
		{"of another namespace", deny("other", "targetRefs: ["+api+"]"), []request{{want: ok}}},
		{"of Istio's kind", deny("default", "targetRefs: ["+target("gw", "networking.istio.io", "Gateway")+"]"), []request{{want: ok}}},
		{"selector beside it", deny("default", "selector: {matchLabels: {app: nobody}}, targetRefs: ["+api+"]"), []request{{want: denied}}},
		{"tokens", tokens("targetRefs: [" + api + "]"), []request{{header: stranger, want: unauthenticated}, {header: good, want: ok}, {want: ok}}},
		{"tokens of another Gateway", tokens("targetRef: " + target("x", "gateway.networking.k8s.io", "Gateway")), []request{{header: stranger, want: ok}}},
	})
}

// TestClientAddresses: ipBlocks are who connects, remoteIpBlocks the client, by
// X-Forwarded-For as far as the mesh believes it.
func TestClientAddresses(t *testing.T) {
	trusted := func(n int) string {
		return fmt.Sprintf("\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: '{defaultConfig: {gatewayTopology: {numTrustedProxies: %d}}}'}\n", n) +
			routed("[{uri: {exact: /never}}]")
	}
	from := func(field, block string) string {
		return atGateway("ALLOW", "[{from: [{source: {"+field+": ["+block+"]}}]}]")
	}
	via := func(list string) string { return "X-Forwarded-For: " + list }
	startGateway(t).decide([]theme{
		{"the last of one proxy", trusted(1) + from("remoteIpBlocks", "203.0.113.0/24"), []request{
			{header: via("198.51.100.1"), want: denied}, {header: via("203.0.113.9"), want: ok}, {header: via("203.0.113.9, 198.51.100.1"), want: denied}, {header: via("198.51.100.1, 203.0.113.9"), want: ok}, {want: denied},
		}},
		{"the last but one of two", trusted(2) + from("remoteIpBlocks", "203.0.113.0/24"), []request{
			{header: via("203.0.113.9, 198.51.100.1"), want: ok}, {header: via("198.51.100.1, 203.0.113.9"), want: denied}, {header: via("198.51.100.2, 203.0.113.9, 198.51.100.1"), want: ok},
		}},
		{"none is believed", trusted(0) + from("remoteIpBlocks", "203.0.113.0/24"), []request{{header: via("203.0.113.9"), want: denied}}},
		{"who connects", trusted(1) + from("ipBlocks", "127.0.0.0/8"), []request{{header: via("203.0.113.9"), want: ok}, {want: ok}}},
		{"who connects is not the client", trusted(1) + from("ipBlocks", "203.0.113.0/24"), []request{{header: via("203.0.113.9"), want: denied}}},
		{"all but", trusted(1) + from("notRemoteIpBlocks", "203.0.113.7, '2001:db8::/32'"), []request{
			{header: via("203.0.113.7"), want: denied}, {header: via("2001:db8::1"), want: denied}, {header: via("203.0.113.8"), want: ok}, {header: via("2001:db9::1"), want: ok},
		}},
		{"all connections but", trusted(1) + from("notIpBlocks", "127.0.0.0/8"), []request{{header: via("203.0.113.7"), want: denied}}},
		{"remote.ip", trusted(1) + atGateway("DENY", "[{when: [{key: remote.ip, notValues: [203.0.113.0/24]}]}]"), []request{{header: via("198.51.100.1"), want: denied}, {header: via("203.0.113.9"), want: ok}}},
		{"source.ip", trusted(1) + atGateway("DENY", "[{when: [{key: source.ip, values: [203.0.113.0/24]}]}]"), []request{{header: via("203.0.113.9"), want: ok}}},
	})
}
