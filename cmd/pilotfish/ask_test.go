package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const shop = "testdata/shop"

// Each answer is read as a whole: the files under testdata/ask.
func TestAsk(t *testing.T) {
	for name, args := range map[string][]string{
		"route":      {"--from", "web.shop", "http://reviews/api?x=1", "-H", "x-user: qa"},
		"explain":    {"--from", "web.shop", "http://reviews/api", "-H", "x-user: jo", "--explain"},
		"redirect":   {"--from", "shop/web", "http://reviews/old?a=b"},
		"fault":      {"--from", "web", "http://reviews.shop/broken"},
		"nowhere":    {"--from", "web", "http://reviews/nowhere"},
		"gateway":    {"--from", "gateway/shop/ingress", "http://shop.example.com/reviews/1"},
		"https":      {"--from", "gateway/shop/ingress", "https://shop.example.com/reviews/1"},
		"no-host":    {"--from", "gateway/shop/ingress", "http://other.example.com/"},
		"no-route":   {"--from", "gateway/shop/ingress", "http://shop.example.com/cart"},
		"no-chain":   {"--from", "gateway/shop/ingress", "https://other.example.com/", "--explain"},
		"no-port":    {"--from", "gateway/shop/ingress", "http://shop.example.com:8080/"},
		"tcp":        {"--from", "web.shop", "tcp://ledger.bank:9000"},
		"plain":      {"--from", "plain/shop", "http://reviews/"},
		"unknown":    {"--from", "web.shop", "http://elsewhere.example.com/"},
		"tls-client": {"--from", "web.shop", "https://reviews:80/"},
		"no-sidecar": {"--from", "ledger.bank", "http://reviews.shop/api"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := run(append([]string{"ask", "--config", shop}, args...)...)
			if code != exitOK || stderr != "" {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			golden(t, "ask/"+name+".txt", "$ pilotfish ask "+strings.Join(args, " ")+"\n"+stdout)
		})
	}
}

func TestAskData(t *testing.T) {
	code, stdout, stderr := run("ask", "--config", shop, "--from", "web.shop", "http://reviews/api", "-H", "x-user: qa", "-o", "json")
	if code != exitOK || stderr != "" {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var a struct {
		Hop struct {
			Route struct {
				Name   string
				Source struct {
					File string
					Line int
				}
			}
			Timeout string
		}
		Results []struct {
			Percent  float64
			Workload string
		}
	}
	if err := json.Unmarshal([]byte(stdout), &a); err != nil {
		t.Fatal(err)
	}
	if a.Hop.Route.Name != "qa" || a.Hop.Timeout != "3s" || a.Hop.Route.Source.Line != 7 ||
		a.Hop.Route.Source.File != filepath.Join(shop, "routing.yaml") {
		t.Errorf("the route is %+v", a.Hop)
	}
	if len(a.Results) != 1 || a.Results[0].Workload != "shop/reviews-v2" || a.Results[0].Percent != 100 {
		t.Errorf("results %+v", a.Results)
	}
	_, yaml, _ := run("ask", "--config", shop, "--from", "web.shop", "http://reviews/api", "-H", "x-user: qa", "-o", "yaml")
	if !strings.Contains(yaml, "\n  timeout: 3s\n") {
		t.Errorf("YAML:\n%s", yaml)
	}
}

// What is wrong with the question, or with the configuration, exits with 2.
func TestAskMistakes(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.yaml")
	if err := os.WriteFile(broken, []byte("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\nspec: {hosts: [a], http: [{rout: []}]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	claims := filepath.Join(dir, "claims.json")
	if err := os.WriteFile(claims, []byte("[1, 2"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"http://reviews/"}, `pilotfish: required flag(s) "from" not set`},
		{[]string{"--from", "web.shop"}, "pilotfish: accepts 1 arg(s), received 0"},
		{[]string{"--from", "wbe.shop", "http://reviews/"}, `pilotfish: no workload "wbe.shop" in the configuration: did you mean "web.shop"?`},
		{[]string{"--from", "web.shop", "http://revews/"}, `pilotfish: no service "revews" in the configuration: did you mean "reviews"?`},
		{[]string{"--from", "gateway/shop/ingres", "http://x.example.com/"}, `pilotfish: no gateway "shop/ingres" in the configuration: did you mean "shop/ingress"?`},
		{[]string{"--from", "web.shop", "ftp://reviews/"}, `pilotfish: URL "ftp://reviews/": scheme "ftp": want http, https, tcp or tls`},
		{[]string{"--from", "web.shop", "tcp://ledger.bank"}, `pilotfish: URL "tcp://ledger.bank": a tcp connection needs a port`},
		{[]string{"--from", "web.shop", "http://reviews:x/"}, `pilotfish: URL "http://reviews:x/": parse "http://reviews:x/": invalid port ":x" after host`},
		{[]string{"--from", "web.shop", "http://reviews/", "-H", "x"}, `pilotfish: --header "x": want "name: value"`},
		{[]string{"--from", "web.shop", "http://reviews/", "-o", "xml"}, `pilotfish: --output "xml": want text, json, yaml or html`},
		{[]string{"--from", "web.shop", "http://reviews/", "--jwt", filepath.Join(dir, "missing")}, "pilotfish: --jwt: open " + filepath.Join(dir, "missing") + ": no such file or directory"},
		{[]string{"--from", "web.shop", "http://reviews/", "--config", filepath.Join(dir, "nowhere")}, "error: stat " + filepath.Join(dir, "nowhere") + ": no such file or directory (InputFailed)"},
		{[]string{"--from", "web.shop", "http://reviews/", "--config", broken}, broken + `:4:28: error: VirtualService default/x: spec.http[0].rout: unknown field "rout": did you mean "route"? (UnknownField)`},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			code, _, stderr := run(append([]string{"ask", "--config", shop}, c.args...)...)
			line, _, _ := strings.Cut(stderr, "\n")
			if code != exitUsage || line != c.says {
				t.Errorf("exit code %d, said %q, want %q", code, line, c.says)
			}
		})
	}
}

// A policy that cannot be read denies: ask and lint say so, and exit as for
// any mistake in the configuration.
func TestPolicyThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.yaml")
	if err := os.WriteFile(broken, []byte("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: x, namespace: shop}\nspec: {selector: {matchLabels: {app: reviews}}, rules: [{form: []}]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	says := broken + ":1:1: error: AuthorizationPolicy shop/x: cannot be used, and would leave open what it restricts: until it can, it denies everything to the workloads that it selects (FailsClosed)"
	code, stdout, stderr := run("ask", "--config", shop, "--config", broken, "--from", "web.shop", "http://reviews/api")
	if code != exitUsage || !strings.Contains(stderr, says) || !strings.Contains(stdout, "403") {
		t.Errorf("ask: exit code %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, _ = run("lint", broken)
	if code != exitFailure || !strings.Contains(stdout, "FailsClosed") {
		t.Errorf("lint: exit code %d\n%s", code, stdout)
	}
}
