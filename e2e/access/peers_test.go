package access

import (
	"strings"
	"testing"
)

// peer is a PeerAuthentication; spec is its spec but for the selector.
func peer(namespace, name, selector, spec string) string {
	if selector != "" {
		spec = "selector: {matchLabels: {app: " + selector + "}}, " + spec
	}
	return "\n---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: " + name + ", namespace: " + namespace + "}\nspec: {" + spec + "}\n"
}

func mode(m string) string { return "mtls: {mode: " + m + "}" }

// TestPeers: in which form connections come, by mesh, namespace, workload and
// port. The application sees whether its client has an identity.
func TestPeers(t *testing.T) {
	const root = "istio-system"
	const identity = "URI=spiffe://cluster.local/ns/default/sa/friend"
	mesh := func(m string) string { return peer(root, "default", "", mode(m)) }
	namespace := func(m string) string { return peer("default", "default", "", mode(m)) }
	web := func(spec string) string { return peer("default", "web", "web", spec) }
	ports := func(own, of string) string { return web("mtls: {mode: " + own + "}, portLevelMtls: {" + of + "}") }

	const plain = "default/plain"
	both := []request{{want: ok, seen: identity}, {from: plain, want: ok, unseen: "URI="}, {from: plain, bytes: "hello there", want: ok}, {bytes: "hello there", want: ok}, {from: plain, port: 7070, want: ok}}
	strict := []request{{from: plain, want: closed}, {want: ok, seen: identity}, {from: plain, bytes: "hello there", want: closed}, {bytes: "hello there", want: ok}, {from: plain, port: 8880, want: closed}, {port: 8880, want: ok, seen: identity}, {from: plain, port: 7070, want: closed}}
	off := []request{{want: ok, unseen: "URI="}, {from: plain, want: ok}, {bytes: "hello there", want: ok}, {from: plain, bytes: "hello there", want: ok}}
	// The workload's port 8881 is the Service's 8880.
	strictBut8881 := []request{{from: plain, port: 8880, want: ok}, {from: plain, want: closed}, {port: 8880, want: ok, seen: identity}, {want: ok, seen: identity}}

	start(t).decide([]theme{
		{"nothing", "", both},
		{"mesh STRICT", mesh("STRICT"), strict},
		{"mesh UNSET", mesh("UNSET"), both},
		{"mesh DISABLE", mesh("DISABLE"), off},
		{"mesh STRICT, namespace PERMISSIVE", mesh("STRICT") + namespace("PERMISSIVE"), both},
		{"mesh STRICT, namespace UNSET", mesh("STRICT") + namespace("UNSET"), strict},
		{"mesh STRICT, another namespace", mesh("STRICT") + peer("other", "default", "", mode("DISABLE")), strict},
		{"namespace STRICT", namespace("STRICT"), strict},
		{"namespace STRICT, workload PERMISSIVE", namespace("STRICT") + web(mode("PERMISSIVE")), both},
		{"namespace STRICT, workload UNSET", namespace("STRICT") + web(mode("UNSET")), strict},
		{"namespace STRICT, workload without mtls", namespace("STRICT") + web("portLevelMtls: {9999: {mode: DISABLE}}"), strict},
		{"mesh PERMISSIVE, workload STRICT", mesh("PERMISSIVE") + web(mode("STRICT")), strict},
		{"another workload STRICT", peer("default", "others", "friend", mode("STRICT")), both},
		{"workload DISABLE in a STRICT mesh", mesh("STRICT") + web(mode("DISABLE")), off},
		{"selectors of the root namespace do not count", mesh("STRICT") + peer(root, "web", "web", mode("PERMISSIVE")), strict},
		{"a port of the workload", ports("STRICT", "8881: {mode: PERMISSIVE}"), strictBut8881},
		{"a port of the Service is none of the workload", ports("STRICT", "8880: {mode: PERMISSIVE}"), strict},
		{"a port DISABLE", ports("STRICT", "8881: {mode: DISABLE}"), []request{
			{port: 8880, want: ok, unseen: "URI="}, {from: plain, port: 8880, want: ok}, {from: plain, want: closed}, {want: ok, seen: identity},
		}},
		{"a port STRICT", ports("PERMISSIVE", "8881: {mode: STRICT}"), []request{
			{from: plain, port: 8880, want: closed}, {port: 8880, want: ok, seen: identity}, {from: plain, want: ok}, {from: plain, bytes: "hello there", want: ok},
		}},
		{"a port UNSET takes the workload's", ports("STRICT", "8881: {mode: UNSET}"), strict},
		{"a port UNSET takes the namespace's", namespace("STRICT") + ports("UNSET", "8881: {mode: UNSET}"), strict},
		{"a port of connections", ports("PERMISSIVE", "9000: {mode: STRICT}"), []request{
			{from: plain, bytes: "hello there", want: closed}, {bytes: "hello there", want: ok}, {from: plain, want: ok},
		}},
		{"ports need a selector", namespace("STRICT") + strings.Replace(peer("default", "p", "", "portLevelMtls: {8881: {mode: PERMISSIVE}}"), "metadata: {", "metadata: {creationTimestamp: '2020-01-01T00:00:00Z', ", 1) + mesh("STRICT"), strict},
		{"the older of two", strings.Replace(peer("default", "z", "", mode("STRICT")), "metadata: {", "metadata: {creationTimestamp: '2020-01-01T00:00:00Z', ", 1) +
			strings.Replace(peer("default", "a", "", mode("DISABLE")), "metadata: {", "metadata: {creationTimestamp: '2021-01-01T00:00:00Z', ", 1), strict},
		{"nothing again", "\n---\n" + peer("other", "x", "", mode("STRICT")), both},
	})
}
