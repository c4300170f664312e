package examples

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// caller is a workload that sends as itself, each request by a connection of
// its own, so that none outlives a policy.
func caller(t *testing.T, s *stage.Stage, workload string) *stage.Caller {
	t.Helper()
	c := s.Inside(workload, "")
	c.Client.CloseIdleConnections()
	return c
}

// podOf is the address of a workload's first pod: workloads without sidecars
// go there by themselves.
func podOf(t *testing.T, s *stage.Stage, namespace, name string) string {
	t.Helper()
	for _, w := range s.Workloads() {
		if w.Namespace == namespace && w.Name == name {
			return w.Pods[0].Address
		}
	}
	t.Fatalf("no workload %s/%s", namespace, name)
	return ""
}

var callerURI = regexp.MustCompile(`URI=([^;,]*)`)

// seenAs is what a request comes to: whom the application was told that it is
// from, the status, or "refused" where no connection came about.
func seenAs(t *testing.T, c *stage.Caller, url string, headers ...string) string {
	t.Helper()
	c.Client.CloseIdleConnections()
	r, err := c.Try(t.Context(), url, headers...)
	switch {
	case err != nil:
		return "refused"
	case r.Echo.Workload == "":
		return fmt.Sprint(r.Status)
	}
	if m := callerURI.FindStringSubmatch(r.Echo.Headers.Get("X-Forwarded-Client-Cert")); m != nil {
		return m[1]
	}
	return "nobody"
}

func TestMutualTLS(t *testing.T) {
	r := read(t, "mutual-tls", "peers.yaml", nil)
	s := r.Stage
	const foo, bar = "spiffe://cluster.local/ns/foo/sa/curl", "spiffe://cluster.local/ns/bar/sa/default"
	at := func(ns string) string { return "http://" + podOf(t, s, ns, "httpbin") + ":8000/" }
	check := func(legacyFoo, legacyBar, fooBar string) {
		t.Helper()
		envoytest.Eventually(t, stage.Patience, func() string {
			for _, c := range []struct{ from, to, want string }{
				{"foo/curl", "http://httpbin.foo:8000/", foo},
				{"bar/curl", "http://httpbin.foo:8000/", bar},
				{"foo/curl", "http://httpbin.bar:8000/", fooBar},
				{"foo/curl", "http://httpbin.legacy:8000/", "nobody"},
				{"legacy/curl", at("foo"), legacyFoo},
				{"legacy/curl", at("bar"), legacyBar},
			} {
				if got := seenAs(t, caller(t, s, c.from), c.to); got != c.want {
					return fmt.Sprintf("%s at %s: %s, want %s", c.from, c.to, got, c.want)
				}
			}
			return ""
		})
	}
	check("nobody", "nobody", foo)
	r.next(2)
	s.Edit("peers.yaml", "PERMISSIVE} # foo", "STRICT} # foo")
	check("refused", "nobody", foo)
	r.next(3)
	s.Edit("peers.yaml", "UNSET} # mesh", "STRICT} # mesh")
	check("refused", "refused", foo)
	r.next(2)
	s.Edit("peers.yaml", "UNSET} # httpbin", "DISABLE} # httpbin")
	check("refused", "nobody", "nobody")
	r.next(0)
}

// TestDryRun: a policy that is tried out refuses nothing and is counted, and
// without the annotation it is in force.
func TestDryRun(t *testing.T) {
	r := read(t, "dry-run", "policy.yaml", nil)
	r.next(3)
	r.Edit("policy.yaml", `istio.io/dry-run: "true"`, `istio.io/dry-run: "false"`)
	r.next(0)
}

// TestPlugInCA: certificates are signed by the authority that was plugged in.
func TestPlugInCA(t *testing.T) {
	read(t, "plug-in-ca", "workloads.yaml", func(dir string) {
		if out, err := exec.Command(filepath.Join(dir, "make-ca.sh")).CombinedOutput(); err != nil {
			t.Fatalf("make-ca.sh: %v\n%s", err, out)
		}
	}).next(0)
}

// decisions are requests with the statuses that they come to, or "closed" for
// connections.
type decision struct {
	from, method, url string
	want              string
}

func decided(t *testing.T, s *stage.Stage, list []decision) string {
	t.Helper()
	for _, d := range list {
		c := caller(t, s, d.from)
		r, err := stage.Send(t.Context(), c.Client, d.method, d.url, nil)
		got := fmt.Sprint(r.Status)
		if err != nil {
			got = err.Error()
		}
		if got != d.want {
			return fmt.Sprintf("%s %s %s: %s, want %s", d.from, d.method, d.url, got, d.want)
		}
	}
	return ""
}

func TestAccessControl(t *testing.T) {
	r := read(t, "access-control", "policies.yaml", nil)
	r.next(0)
	s := r.Stage
	for port, want := range map[int]bool{9000: true, 9001: false} {
		if got := answers(t, s, "curl", fmt.Sprintf("tcp-echo:%d", port)); got != want {
			t.Errorf("connections to port %d are answered: %v, want %v", port, got, want)
		}
	}
	// The pods of the new trust domain replace those of the old one.
	s.Edit("istio.yaml", "    trustDomain: old.example.com", "    trustDomain: new.example.com\n    trustDomainAliases: [old.example.com]")
	const renamed = "spiffe://new.example.com/ns/default/sa/productpage"
	envoytest.Eventually(t, 3*stage.Patience, func() string {
		c := *s.Inside("productpage", "")
		if client, err := s.Client("productpage"); err == nil {
			c.Client = client // of the pod that runs now
			defer client.CloseIdleConnections()
		}
		if got := seenAs(t, &c, "http://details:9080/details/1"); got != renamed {
			return "productpage is seen as " + got
		}
		return ""
	})
}

// answers reports whether the application answers to bytes.
func answers(t *testing.T, s *stage.Stage, from, address string) bool {
	t.Helper()
	dial, err := s.Dialer(from)
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(stage.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("hello\n")); err != nil {
		return false
	}
	n, _ := c.Read(make([]byte, 1))
	return n == 1
}

func TestExternalAuthorizer(t *testing.T) {
	x := read(t, "external-authorizer", "policy.yaml", nil)
	x.next(0)
	s := x.Stage
	if wrong := decided(t, s, []decision{
		{"curl", "GET", "http://httpbin:8000/headers/x?status=403", "403"},
		{"curl", "GET", "http://httpbin:8000/ip?status=418", "418"},
	}); wrong != "" {
		t.Error(wrong)
	}
	r := s.Inside("curl", "http://httpbin:8000").Get(t, "/headers?status=401")
	if r.Status != 401 || r.Echo.Workload == "httpbin" {
		t.Errorf("refused: %v, want 401 from the authorizer", r)
	}
	// Nobody answers: refused.
	s.Edit("workloads.yaml", "metadata: {name: authorizer}\nspec:\n  selector: {matchLabels", "metadata: {name: authorizer}\nspec:\n  replicas: 0\n  selector: {matchLabels")
	envoytest.Eventually(t, stage.Patience, func() string {
		return decided(t, s, []decision{{"curl", "GET", "http://httpbin:8000/headers", "403"}, {"curl", "GET", "http://httpbin:8000/ip", "200"}})
	})
}

func TestJWT(t *testing.T) {
	s := run(t, "jwt", up.Loopback, nil)
	text, err := os.ReadFile(filepath.Join(s.Dir, "tokens.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	token := func(name string) string {
		m := regexp.MustCompile(`(?m)^# ` + name + `=(\S+)$`).FindSubmatch(text)
		if m == nil {
			t.Fatalf("no token %s", name)
		}
		return string(m[1])
	}
	c := outside(s)
	for _, x := range []struct {
		path, token, by string
		status          int
	}{
		{"/open", "", "httpbin", 200}, {"/", "", "", 403}, {"/open?x", "", "httpbin", 200}, {"/openly", "", "", 403},
		{"/open", "nonsense", "", 401}, {"/", token("GUEST"), "httpbin", 200}, {"/", token("VIP"), "vip", 200}, {"/", token("VIP") + "x", "", 401},
	} {
		var headers []string
		if x.token != "" {
			headers = []string{"Authorization", "Bearer " + x.token}
		}
		r := c.Get(t, x.path, headers...)
		if r.Status != x.status || r.Echo.Workload != x.by {
			t.Errorf("%s with token %.20q: %v, want %d from %q", x.path, x.token, r, x.status, x.by)
		}
		if subject := r.Echo.Headers.Get("X-Subject"); x.by != "" && (subject == "someone") != (x.token != "") {
			t.Errorf("%s with token %.20q: subject %q", x.path, x.token, subject)
		}
	}
}
