package access

import (
	"fmt"
	"strings"
	"testing"
)

// TestHostilePolicies: values that would blow up expressions, contradictions
// and masses are in force beside good policies, and spoil none of them.
func TestHostilePolicies(t *testing.T) {
	canary := named("canary", "DENY", "[{to: [{operation: {paths: [/canary], ports: ['8080']}}]}]")
	long := strings.Repeat("a.", 10_000) + "test"
	var paths []string
	for i := range 5_000 {
		paths = append(paths, fmt.Sprintf("/many/%d", i))
	}
	still := []request{{path: "/canary", want: denied}, {want: ok}}
	with := func(more ...request) []request { return append(more, still...) }
	start(t).decide([]theme{
		{"good", canary, still},
		{"long hosts, by suffix and exact", canary + policy("DENY", "[{to: [{operation: {hosts: ['*"+long+"', "+long+"], ports: ['8080']}}]}]"),
			with(request{from: "default/plain", host: "a.test", want: ok})},
		{"expressions are texts", canary + policy("DENY", `[{from: [{source: {principals: ['(a+)+$', '*(a+)+$', '.*'], namespaces: ['(.*)*', '[', '*(*('], trustDomains: ['(x+x+)+y', '\E']}}]},`+
			` {to: [{operation: {hosts: ['(a|aa)+$', '*)('], paths: ['(a+)+$', '/(.*', '.*'], ports: ['8080']}}]}, {to: [{operation: {ports: ['8080']}}], when: [{key: 'request.headers[x-key]', values: ['.*', '(a+)+$']}]}]`),
			with(request{header: "X-Key: " + strings.Repeat("a", 5_000), want: ok}, request{header: "X-Key: .*", want: denied}, request{path: "/" + strings.Repeat("a", 5_000), want: ok})},
		{"thousands of paths", canary + policy("DENY", "[{to: [{operation: {paths: ['"+strings.Join(paths, "', '")+"'], ports: ['8080']}}]}]"),
			with(request{path: "/many/4999", want: denied}, request{path: "/many/5000", want: ok})},
		{"a rule that contradicts itself allows nothing", policy("ALLOW", "[{to: [{operation: {methods: [GET], notMethods: [GET]}}]}]"), []request{{want: denied}, {method: "POST", want: denied}, {bytes: "hello there", want: closed}}},
		{"and denies nothing", canary + policy("DENY", "[{to: [{operation: {paths: [/a], notPaths: ['/*'], ports: ['8080']}}]}]"), with(request{path: "/a", want: ok})},
		{"ALLOW and DENY of the same", canary + named("a", "ALLOW", "[{to: [{operation: {paths: [/a]}}]}]") + named("d", "DENY", "[{to: [{operation: {paths: [/a], ports: ['8080']}}]}]"), []request{
			{path: "/a", want: denied}, {path: "/b", want: denied},
		}},
		{"two selectors that are never both", canary + strings.Replace(policy("DENY", "[{}]"), "{app: web}", "{app: web, version: none}", 1), still},
		{"templates that no Envoy takes", canary + named("templates", "ALLOW", "[{to: [{operation: {paths: ['/{**}/{**}', '/a{*}b', '/x//{*}']}}]}, {to: [{operation: {paths: [/canary]}}]}]"), []request{{want: denied}, {path: "/canary", want: denied}}},
		{"good again", canary + named("last", "DENY", "[{to: [{operation: {paths: [/last], ports: ['8080']}}]}]"), with(request{path: "/last", want: denied})},
	})
}
