package up_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// The page's address sends as the workload that the proxy's user names, and as
// nobody else: not without a user, and not by the names of the page.
func TestProxySendsAsWorkload(t *testing.T) {
	inModes(t, func(t *testing.T, mode up.Mode) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "mesh.yaml"), []byte(guarded), 0o600); err != nil {
			t.Fatal(err)
		}
		m, _ := start(t, up.Options{Paths: []string{dir}, Mode: mode, PageAddress: "127.0.0.1:0"})
		for user, want := range map[string]string{
			"sleep": "URI=spiffe://cluster.local/ns/default/sa/sleep", "sleep.default": "URI=spiffe://cluster.local/ns/default/sa/sleep",
			"legacy": `"workload":"web"`, "nobody": "no workload", "sleep.other": "no workload", "": "no workload",
		} {
			proxy, err := url.Parse(m.PageURL())
			if err != nil {
				t.Fatal(err)
			}
			if user != "" {
				proxy.User = url.User(user)
			}
			c := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy), DisableKeepAlives: true}}
			resp, err := c.Get("http://web:8080/")
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if !strings.Contains(string(body), want) || (resp.StatusCode == http.StatusProxyAuthRequired) != (want == "no workload") {
				t.Errorf("user %q: %d %s, want %s", user, resp.StatusCode, body, want)
			}
			if user == "legacy" && strings.Contains(string(body), "URI=") {
				t.Errorf("a workload without a sidecar has an identity: %s", body)
			}
		}
	})
}

// An authority that cannot be used is refused as a whole: no other takes its
// place unasked.
func TestBrokenAuthority(t *testing.T) {
	dir := t.TempDir()
	text := guarded + "\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: cacerts, namespace: istio-system}\nstringData: {ca-cert.pem: x, ca-key.pem: x, root-cert.pem: x}\n"
	if err := os.WriteFile(filepath.Join(dir, "mesh.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := up.Start(context.Background(), up.Options{Paths: []string{dir}, Mode: up.Loopback, Envoy: envoytest.Binary(t)})
	if err == nil {
		m.Close()
		t.Fatal("the mesh started")
	}
	for _, want := range []string{"istio-system/cacerts", "lacks cert-chain.pem"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q in it", err, want)
		}
	}
}
