package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExplainsWhatMustNotBe: of a rule that asks for something not to be so,
// --explain says what is so; of one that can never match it says that.
func TestExplainsWhatMustNotBe(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../examples/access-control")); err != nil {
		t.Fatal(err)
	}
	const begin = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: "
	var text strings.Builder
	want := map[string]string{"never": "it matches nothing"}
	text.WriteString(begin + "never}\nspec: {selector: {matchLabels: {app: details}}}\n")
	for _, c := range []struct{ name, rule, why string }{
		{"path", "to: [{operation: {notPaths: [/x, '/details*']}}]", `it must not be that the path starts with "/details"`},
		{"template", "to: [{operation: {notPaths: ['/details/{*}']}}]", `it must not be that the path is one of /details/*`},
		{"host", "to: [{operation: {notHosts: ['det*']}}]", `it must not be that authority starts with "det", in any case`},
		{"port", "to: [{operation: {notPorts: ['9080']}}]", "it must not be that the port is 9080"},
		{"namespace", "from: [{source: {notNamespaces: [default]}}]", `it must not be that the identity matches "spiffe://[^/]+/ns/default/sa/.+"`},
		{"principal", "from: [{source: {notPrincipals: ['*']}}]", `it must not be that the identity matches ".+"`},
		{"source", "from: [{source: {notIpBlocks: [0.0.0.0/0]}}]", "it must not be that the source is in 0.0.0.0/0"},
		{"client", "from: [{source: {notRemoteIpBlocks: [0.0.0.0/0]}}]", "it must not be that the client is in 0.0.0.0/0"},
		{"header", "when: [{key: 'request.headers[x-a]', notValues: ['*']}]", "it must not be that header x-a is there"},
		{"destination", "when: [{key: destination.ip, notValues: [0.0.0.0/0]}]", "it must not be that the destination is in 0.0.0.0/0"},
		{"sni", "when: [{key: connection.sni, notValues: ['outbound*']}]", `it must not be that the SNI starts with "outbound"`},
	} {
		text.WriteString(begin + c.name + "}\nspec: {selector: {matchLabels: {app: details}}, action: DENY, rules: [{" + c.rule + "}]}\n")
		want[c.name] = c.why
	}
	if err := os.WriteFile(filepath.Join(dir, "more.yaml"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := run("ask", "--config", dir, "--from", "productpage", "http://details:9080/details/1", "-H", "x-a: b", "--explain")
	if code != exitOK || stderr != "" {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	got := map[string]string{}
	for line := range strings.Lines(stdout) {
		if _, rest, ok := strings.Cut(line, "not ns[default]-policy["); ok {
			name, why, _ := strings.Cut(rest, "]-rule[0]: ")
			got[name], _, _ = strings.Cut(why, "  <- ")
		}
	}
	for name, why := range want {
		if got[name] != why {
			t.Errorf("%s: %q, want %q", name, got[name], why)
		}
	}
}
