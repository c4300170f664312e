package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// changed makes a copy of the shop with texts replaced.
func changed(t *testing.T, oldNew ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "new")
	if err := os.CopyFS(dir, os.DirFS(shop)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "routing.yaml")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for i := 0; i < len(oldNew); i += 2 {
		if !strings.Contains(text, oldNew[i]) {
			t.Fatalf("no %q", oldNew[i])
		}
		text = strings.Replace(text, oldNew[i], oldNew[i+1], 1)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestDiff(t *testing.T) {
	for name, c := range map[string]struct {
		code   int
		change []string
		flags  []string
	}{
		"nothing":  {exitOK, nil, nil},
		"comment":  {exitOK, []string{"  http:\n  - name: qa", "  # a comment\n  http:\n  - name: qa"}, nil},
		"weights":  {exitFailure, []string{"weight: 90", "weight: 50", "weight: 10", "weight: 50"}, nil},
		"timeout":  {exitFailure, []string{"timeout: 3s", "timeout: 1s"}, []string{"--xds"}},
		"markdown": {exitFailure, []string{"timeout: 3s", "timeout: 1s"}, []string{"--markdown"}},
		"gateway":  {exitFailure, []string{"prefix: /reviews", "prefix: /r"}, nil},
		"order": {exitOK, []string{
			"{host: reviews, subset: v2}}]\n    timeout", "{host: reviews, subset: v3}}]\n    timeout",
			"  - {name: v2, labels: {version: v2}}", "  - {name: v2, labels: {version: v2}}\n  - {name: v3, labels: {version: v2}}",
		}, []string{"--order"}},
		"order-workloads": {exitFailure, []string{
			"{host: reviews, subset: v2}}]\n    timeout", "{host: reviews, subset: v3}}]\n    timeout",
			"  - {name: v2, labels: {version: v2}}", "  - {name: v2, labels: {version: v2}}\n  - {name: v3, labels: {version: v3}}\n" + `---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews-v3, namespace: shop}
spec: {selector: {matchLabels: {version: v3}}, template: {metadata: {labels: {app: reviews, version: v3}}, spec: {containers: [{name: c, image: c}]}}}
---
`,
		}, []string{"--order"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := changed(t, c.change...)
			args := append([]string{"diff", shop, dir}, c.flags...)
			code, stdout, stderr := run(args...)
			if code != c.code || stderr != "" {
				t.Errorf("exit code %d, want %d: %s", code, c.code, stderr)
			}
			golden(t, "diff/"+name+".txt", strings.ReplaceAll(stdout, dir, "NEW"))
		})
	}
}

// Git revisions are compared without a checkout, and lines that moved are no
// change.
func TestDiffRevisions(t *testing.T) {
	dir := changed(t)
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@example.com"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v %s", args, err, out)
		}
	}
	git("init", "-q", "-b", "main")
	git("add", ".")
	git("commit", "-q", "-m", "one")
	path := filepath.Join(dir, "routing.yaml")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("# moved\n"+strings.Replace(string(b), "timeout: 3s", "timeout: 2s", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, args := range [][]string{{"main"}, {"HEAD~0..next"}} {
		if strings.HasSuffix(args[0], "next") {
			git("checkout", "-q", "-b", "next")
			git("commit", "-q", "-a", "-m", "two")
		}
		code, stdout, stderr := run(append([]string{"diff", "-o", "json"}, args...)...)
		if args[0] != "main" { // both are the same by now
			if code != exitOK {
				t.Errorf("%v: exit code %d: %s%s", args, code, stdout, stderr)
			}
			code, stdout, stderr = run("diff", "-o", "json", "main..next")
		}
		var d struct {
			Objects  []struct{ Change, File string }
			Requests []struct{ Before, After, Cause, Witness string }
		}
		if err := json.Unmarshal([]byte(stdout), &d); err != nil || code != exitFailure {
			t.Fatalf("%v: exit code %d, %v: %s%s", args, code, err, stdout, stderr)
		}
		if len(d.Objects) != 1 || len(d.Requests) != 1 || !strings.Contains(d.Requests[0].After, "within 2s") ||
			d.Requests[0].Cause != "VirtualService shop/reviews route qa" {
			t.Errorf("%v: %+v", args, d)
		}
	}
	if code, _, stderr := run("diff", "nowhere..main"); code != exitUsage || !strings.Contains(stderr, `"nowhere" is no path and no git revision`) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// Ten edits of the bookstore, as reviewers meet them: the cause is the object
// that changed, clients without a proxy and each identity that a policy names
// are asked, and what is the same is said. Of clients that nothing tells apart
// one is asked, though its own listener changes: front for reviews-v1, too.
func TestDiffOfBookstore(t *testing.T) {
	const bookstore = "../../examples/bookstore"
	const policy = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: reviews, namespace: shop}\n" +
		"spec:\n  selector: {matchLabels: {app: reviews}}\n  rules:\n  - from: [{source: {principals: [cluster.local/ns/shop/sa/front]}}]\n"
	const filter = "---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: lua, namespace: shop}\nspec:\n" +
		"  workloadSelector: {labels: {app: reviews}}\n  configPatches:\n  - applyTo: HTTP_FILTER\n" +
		"    match: {context: SIDECAR_INBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}}\n" +
		"    patch: {operation: INSERT_BEFORE, value: {name: envoy.filters.http.lua, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, default_source_code: {inline_string: 'function envoy_on_request(h) end'}}}}\n"
	const scope = "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: default, namespace: shop}\nspec: {egress: [{hosts: [./*]}]}\n"
	const entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: ext, namespace: shop}\n" +
		"spec: {hosts: [api.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}\n"
	const logs = "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: logs, namespace: shop}\nspec: {accessLogging: [{providers: [{name: envoy}]}]}\n"
	for name, c := range map[string]struct{ file, old, new string }{
		"weight": {"routing.yaml", "weight: 90}\n    - {destination: {host: reviews, subset: v2}, weight: 10}", "weight: 50}\n    - {destination: {host: reviews, subset: v2}, weight: 50}"},
		"host":   {"routing.yaml", "hosts: [books.example.com]\n  gateways", "hosts: [shop.example.com]\n  gateways"},
		"subset": {"routing.yaml", "  - {name: v2, labels: {version: v2}}\n", ""},
		"policy": {"security.yaml", "", policy}, "port": {"routing.yaml", "number: 80, name: http", "number: 8080, name: http"},
		"sidecar": {"routing.yaml", "", scope}, "mtls": {"security.yaml", "STRICT", "PERMISSIVE"}, "entry": {"routing.yaml", "", entry},
		"filter": {"routing.yaml", "", filter}, "telemetry": {"routing.yaml", "", logs}, "principal": {"security.yaml", "sa/checkout", "sa/front"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "new")
			if err := os.CopyFS(dir, os.DirFS(bookstore)); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, c.file)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text := string(b) + c.new
			if c.old != "" {
				text = strings.Replace(string(b), c.old, c.new, 1)
			}
			if text == string(b) {
				t.Fatalf("%s does not hold %q", c.file, c.old)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, stdout, stderr := run("diff", bookstore, dir)
			golden(t, "diff/bookstore-"+name+".txt", strings.ReplaceAll(stdout+stderr, dir, "NEW"))
		})
	}
}

// Clients of one namespace are asked one by one where a Sidecar or a policy
// tells them apart, and those that nothing tells apart are all named.
func TestDiffAsksEachKindOfClient(t *testing.T) {
	const mesh = `
apiVersion: v1
kind: Service
metadata: {name: near, namespace: shop}
spec: {selector: {app: near}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: shop}
spec: {selector: {app: far}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: a, namespace: shop}
spec: {workloadSelector: {labels: {app: a}}, egress: [{hosts: [./near.shop.svc.cluster.local]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: near, namespace: shop}
spec: {hosts: [near], http: [{timeout: 3s, route: [{destination: {host: near}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: far, namespace: shop}
spec: {hosts: [far], http: [{timeout: 3s, route: [{destination: {host: far}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: near, namespace: shop}
spec: {selector: {matchLabels: {app: near}}, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/c]}}]}]}
`
	pods := ""
	for _, name := range []string{"a", "b", "c", "d", "near", "far"} {
		pods += "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: " + name + ", namespace: shop}\n" +
			"---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: " + name + ", namespace: shop}\nspec:\n  selector: {matchLabels: {app: " + name + "}}\n" +
			"  template: {metadata: {labels: {app: " + name + "}}, spec: {serviceAccountName: " + name + ", containers: [{name: app, image: app}]}}\n"
	}
	for name, c := range map[string]struct {
		old, new string
		clients  []string // of each group
	}{
		// Both routes of table 80 change, but a has only one of the hosts.
		"a Sidecar": {"timeout: 3s", "timeout: 2s", []string{"shop/a shop/b shop/d shop/far shop/near", "shop/b shop/c shop/d shop/far shop/near", "shop/c"}},
		// Only c may call what the route leads to now.
		"an identity": {"destination: {host: far}", "destination: {host: near}", []string{"shop/b shop/d shop/far shop/near", "shop/c"}},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := filepath.Join(t.TempDir(), "mesh.yaml"), filepath.Join(t.TempDir(), "mesh.yaml")
			for path, text := range map[string]string{before: mesh + pods, after: strings.ReplaceAll(mesh, c.old, c.new) + pods} {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			code, stdout, stderr := run("diff", before, after, "-o", "json")
			var d struct {
				Requests []struct{ Clients []string }
			}
			if err := json.Unmarshal([]byte(stdout), &d); err != nil || code != exitFailure {
				t.Fatalf("exit code %d, %v: %s%s", code, err, stdout, stderr)
			}
			var got []string
			for _, r := range d.Requests {
				got = append(got, strings.Join(r.Clients, " "))
			}
			slices.Sort(got)
			if !slices.Equal(got, c.clients) {
				t.Errorf("clients %q, want %q\n%s", got, c.clients, stdout)
			}
		})
	}
}
