package examples

import (
	"fmt"
	"regexp"
	"testing"

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
	s := run(t, "mutual-tls", up.Loopback, nil)
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
	s.Edit("peers.yaml", "PERMISSIVE} # foo", "STRICT} # foo")
	check("refused", "nobody", foo)
	s.Edit("peers.yaml", "UNSET} # mesh", "STRICT} # mesh")
	check("refused", "refused", foo)
	s.Edit("peers.yaml", "UNSET} # httpbin", "DISABLE} # httpbin")
	check("refused", "nobody", "nobody")
}
