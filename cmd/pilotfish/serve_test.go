package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
)

// everywhere are flags for addresses that clash with nobody.
var everywhere = []string{
	"--xds-address", "127.0.0.1:0", "--secure-xds-address", "127.0.0.1:0", "--webhook-address", "127.0.0.1:0",
	"--monitoring-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0",
}

// logged returns the address that a line of the log names.
func logged(c *command, what string) string {
	lines := bufio.NewScanner(strings.NewReader(c.output()))
	for lines.Scan() {
		var l struct{ Msg, Address string }
		if json.Unmarshal(lines.Bytes(), &l) == nil && l.Msg == what {
			return l.Address
		}
	}
	return ""
}

func startServe(t *testing.T, args ...string) *command {
	t.Helper()
	c := startCommand(t, nil, append(append([]string{"serve"}, everywhere...), args...)...)
	envoytest.Eventually(t, 20*time.Second, func() string {
		select {
		case <-c.exited:
			t.Fatalf("ended: %s", c.output())
		default:
		}
		if !strings.Contains(c.output(), "the first mesh is in service") {
			return "not ready: " + c.output()
		}
		return ""
	})
	return c
}

func page(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url) //nolint:gosec // a test's own address
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestServePages(t *testing.T) {
	c := startServe(t, "--config", "../../examples/canary")
	if code, body := page(t, "http://"+logged(c, "serving readiness")+"/ready"); code != 200 {
		t.Errorf("/ready: %d %s", code, body)
	}
	at := "http://" + logged(c, "serving metrics and debug pages")
	for path, want := range map[string]string{
		"/debug/configz":   `"kind":"VirtualService","metadata":{"name":"myapp-virtualservice","namespace":"default"}`,
		"/debug/registryz": `"hostname":"myapp.default.svc.cluster.local"`,
		"/debug/endpointz": `"myapp.default.svc.cluster.local":{"default":{"Shards":{"Kubernetes/Kubernetes":[`,
		"/debug/problems":  `[`,
		"/debug/syncz":     `[]`,
		"/debug/adsz":      `{"totalClients":0}`,
		"/config/":         `Who may call whom`,
		"/config/?from=default/myapp-v1&url=http://myapp/": `connects to`,
		"/version":          `"version":"unknown"`,
		"/metrics":          `pilot_services 2`,
		"/metrics?":         `pilot_info{version="unknown"} 1`,
		"/metrics?build":    `istio_build{component="pilot",tag="unknown"} 1`,
		"/debug/registryz?": `"clusterVIPs"`,
	} {
		if code, body := page(t, at+path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d, want %s in %.2000s", path, code, want, body)
		}
	}
	if code, _ := page(t, at+"/debug/pprof/"); code != 404 {
		t.Errorf("/debug/pprof/ without --pprof: %d", code)
	}
	if code, _ := page(t, at+"/debug/config_dump?proxyID=nobody.default"); code != 404 {
		t.Errorf("/debug/config_dump of nobody: %d", code)
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	if code := c.wait(t, 15*time.Second); code != exitOK {
		t.Errorf("exit code %d after SIGTERM", code)
	}
}

// The secure addresses speak TLS, with a certificate for the control plane's
// names.
func TestServeSecureAddresses(t *testing.T) {
	c := startServe(t, "--config", "../../examples/canary")
	insecure := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}} //nolint:gosec // the certificate is looked at below
	for _, what := range []string{"serving ADS over TLS", "serving webhooks"} {
		conn, err := tls.Dial("tcp", logged(c, what), insecure)
		if err != nil {
			t.Fatal(err)
		}
		if name := conn.ConnectionState().PeerCertificates[0].VerifyHostname("istiod.istio-system.svc"); name != nil {
			t.Errorf("%s: %v", what, name)
		}
		_ = conn.Close()
	}
}

func TestServeSaysThatAPortIsInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().String()
	args := append([]string{"serve", "--config", "../../examples/canary"}, everywhere...)
	code, _, stderr := run(append(args, "--monitoring-address", addr)...)
	want := fmt.Sprintf("pilotfish: --monitoring-address %s: another process listens on this address; choose another one, or port 0 for any\n", addr)
	if code != exitFailure || stderr != want {
		t.Errorf("exit code %d, said %q, want %q", code, stderr, want)
	}
}

// An address that is empty is off.
func TestServeSwitchesAddressesOff(t *testing.T) {
	args := []string{"--config", "../../examples/canary"}
	for _, f := range []string{"secure-xds", "webhook", "monitoring"} {
		args = append(args, "--"+f+"-address=")
	}
	c := startServe(t, args...)
	if n := strings.Count(c.output(), `"msg":"serving `); n != 2 {
		t.Errorf("%d addresses are served, want 2", n)
	}
}

// Broken YAML is a problem with file and line; everything else is served.
func TestServeBrokenYAML(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../examples/canary")); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "broken.yaml")
	if err := os.WriteFile(broken, []byte("kind: VirtualService\nmetadata: {name: x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := startServe(t, "--config", dir)
	at := "http://" + logged(c, "serving metrics and debug pages")
	_, body := page(t, at+"/debug/problems")
	var problems []struct {
		File string
		Line int
	}
	if err := json.Unmarshal([]byte(body), &problems); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, p := range problems {
		found = found || p.File == broken && p.Line > 0
	}
	if !found {
		t.Errorf("no problem in %s: %s", broken, body)
	}
	if _, body := page(t, at+"/debug/configz"); !strings.Contains(body, "myapp-virtualservice") {
		t.Errorf("the rest is not served: %s", body)
	}
}

// A cluster is read with a kubeconfig; what is applied later is served.
func TestServeKubeconfig(t *testing.T) {
	server := kubetest.Shared(t)
	client := server.Client(t)
	client.InstallCRDs(t)
	canary, err := os.ReadFile("../../examples/canary/myapp.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := startServe(t, "--kubeconfig", server.Kubeconfig())
	at := "http://" + logged(c, "serving metrics and debug pages")
	objects := strings.ReplaceAll(string(canary), "\nmetadata:\n", "\nmetadata:\n  namespace: default\n")
	client.Apply(t, objects)
	t.Cleanup(func() { client.Delete(t, objects) })
	envoytest.Eventually(t, 30*time.Second, func() string {
		if _, body := page(t, at+"/debug/configz"); !strings.Contains(body, `"name":"myapp-virtualservice","namespace":"default"`) {
			return "not served: " + body
		}
		return ""
	})
	if _, body := page(t, at+"/debug/registryz"); !strings.Contains(body, `"hostname":"kubernetes.default.svc.cluster.local"`) {
		t.Errorf("the API server's own Service is not known: %s", body)
	}
}

// Without a cluster to reach it waits, unready, and ends when it is told to.
func TestServeWaitsForTheCluster(t *testing.T) {
	config := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(config, []byte(`
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: c, context: {cluster: c}}]
current-context: c
`), 0o600); err != nil {
		t.Fatal(err)
	}
	c := startCommand(t, nil, append(append([]string{"serve"}, everywhere...), "--kubeconfig", config)...)
	var ready string
	envoytest.Eventually(t, 20*time.Second, func() string {
		if ready = logged(c, "serving readiness"); ready == "" {
			return "not serving yet"
		}
		return ""
	})
	if code, body := page(t, "http://"+ready+"/ready"); code != http.StatusServiceUnavailable {
		t.Errorf("/ready: %d %s", code, body)
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	if code := c.wait(t, 15*time.Second); code != exitOK {
		t.Errorf("exit code %d after SIGTERM", code)
	}
}
