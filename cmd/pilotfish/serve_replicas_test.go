package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// drainTime is that of serve: a process that needs all of it has cut off
// proxies that did not go.
const drainTime = 10 * time.Second

// handedOver is a gateway with two services, of which one is in use.
const handedOver = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: handover}
spec:
  selector: {app: gw}
  servers: [{bind: 127.0.0.1, port: {number: %d, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a, namespace: handover}
spec: {hosts: [a.test], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 127.0.0.1, ports: {http: %d}}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: b, namespace: handover}
spec: {hosts: [b.test], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 127.0.0.1, ports: {http: %d}}]}
---
`

// routed leads all requests to a service.
const routed = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all, namespace: handover}
spec: {hosts: ["*"], gateways: [gw], http: [{route: [{destination: {host: %s}}]}]}
`

// servingReplica is one of several processes, and what it says to its proxies.
type servingReplica struct {
	*command
	recorder *recorder
}

// startReplica starts a process; connections to it lead nowhere before it is
// opened.
func startReplica(t *testing.T, s *kubetest.Server) *servingReplica {
	t.Helper()
	return &servingReplica{startServe(t, "--kubeconfig", s.Kubeconfig()), startRecorder(t)}
}

func (r *servingReplica) open() { r.recorder.lead(logged(r.command, "serving ADS in plaintext")) }

func (r *servingReplica) page(t *testing.T, path string) string {
	t.Helper()
	_, body := page(t, "http://"+logged(r.command, "serving metrics and debug pages")+path)
	return body
}

// has is "" if the proxy is connected and has everything.
func (r *servingReplica) has(t *testing.T) string {
	t.Helper()
	var proxies []struct {
		Sync      string `json:"sync"`
		Resources map[string]struct {
			Sync string `json:"sync"`
		} `json:"resources"`
	}
	text := r.page(t, "/debug/syncz")
	if err := json.Unmarshal([]byte(text), &proxies); err != nil {
		t.Fatal(err)
	}
	if len(proxies) != 1 || proxies[0].Sync != "SYNCED" {
		return "not synced: " + text
	}
	for _, url := range []string{translate.ClusterType, translate.EndpointType, translate.ListenerType, translate.RouteType} {
		if proxies[0].Resources[url].Sync != "SYNCED" {
			return url + " is not synced: " + text
		}
	}
	return ""
}

// drains ends the process as the kubelet does, and holds how it takes leave of
// its proxy.
func (r *servingReplica) drains(t *testing.T) {
	t.Helper()
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	if code := r.wait(t, drainTime); code != exitOK {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	h := r.recorder.heard(t)
	if !h.goAway {
		t.Error("the proxy was not told to go away")
	}
	if diff := cmp.Diff([]string{"14 shutting down "}, h.ends); diff != "" {
		t.Errorf("how streams ended: %s", diff)
	}
}

// TestServeHandsOver: a replica that is told to end sends its proxy to another
// one, which sends only what differs from what the proxy has; meanwhile no
// request fails.
func TestServeHandsOver(t *testing.T) {
	s := kubetest.Shared(t)
	c := s.Client(t)
	c.InstallCRDs(t)
	port := envoytest.FreePort(t)
	mesh := fmt.Sprintf(handedOver, port, answering(t, "a"), answering(t, "b"))
	c.Apply(t, mesh+fmt.Sprintf(routed, "a.test"))
	t.Cleanup(func() { c.Delete(t, mesh+fmt.Sprintf(routed, "a.test")) })

	first, second, third := startReplica(t, s), startReplica(t, s), startReplica(t, s)
	first.open()
	startGateway(t, first, second, third)
	await := func(what func() string) {
		t.Helper()
		envoytest.Eventually(t, time.Minute, what)
	}
	await(func() string { return first.has(t) })
	load := startLoad(t, port, "a")

	t.Log("to a replica that has the same")
	second.open()
	first.drains(t)
	await(func() string { return second.has(t) })
	if h := second.recorder.heard(t); len(h.responses) > 0 {
		t.Errorf("a proxy that has everything is sent %v", h.responses)
	}
	metrics := second.page(t, "/metrics")
	for _, kind := range []string{"cds", "eds", "lds", "rds"} {
		if line := fmt.Sprintf("pilot_xds_pushes{type=%q} 0\n", kind); !strings.Contains(metrics, line) {
			t.Errorf("metrics lack %s", line)
		}
	}

	t.Log("to a replica that has one object as it became meanwhile")
	second.drains(t)
	c.Apply(t, fmt.Sprintf(routed, "b.test"))
	await(func() string {
		if text := third.page(t, "/debug/configz"); !strings.Contains(text, `"host":"b.test"`) {
			return "the change is not in service: " + text
		}
		return ""
	})
	third.open()
	await(func() string { return third.has(t) })
	await(func() string { return load.lacks("a", "b") })
	h := third.recorder.heard(t)
	if diff := cmp.Diff(map[string][]string{translate.RouteType: {fmt.Sprintf("http.%d.127.0.0.1", port)}}, h.resources()); diff != "" {
		t.Errorf("what is sent: %s", diff)
	}
	for _, r := range h.responses {
		if len(r.GetRemovedResources()) > 0 {
			t.Errorf("removed: %v", r.GetRemovedResources())
		}
	}
	third.drains(t)
	load.stop()
	if problem := load.lacks("a", "b"); problem != "" {
		t.Error(problem)
	}
}

// answering is the port of a server that answers with a text.
func answering(t *testing.T, text string) int {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).Port
}

// startGateway starts an Envoy for which all replicas are one cluster.
func startGateway(t *testing.T, replicas ...*servingReplica) {
	t.Helper()
	var at []string
	for _, r := range replicas {
		at = append(at, fmt.Sprintf(`{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": %d}}}}`,
			r.recorder.listener.Addr().(*net.TCPAddr).Port))
	}
	envoytest.Start(t, fmt.Appendf(nil, `{
 "node": {"id": "router~127.0.0.1~gw.handover~handover.svc.cluster.local", "cluster": "gw",
  "metadata": {"NAMESPACE": "handover", "LABELS": {"app": "gw"}, "CLUSTER_ID": "Kubernetes"}},
 "dynamic_resources": {
  "ads_config": {"api_type": "DELTA_GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}]},
  "cds_config": {"ads": {}, "resource_api_version": "V3"}, "lds_config": {"ads": {}, "resource_api_version": "V3"}},
 "static_resources": {"clusters": [{"name": "xds-grpc", "connect_timeout": "1s", "type": "STATIC",
  "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
   "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}},
  "load_assignment": {"cluster_name": "xds-grpc", "endpoints": [{"lb_endpoints": [%s]}]}}]}
}`, strings.Join(at, ", ")))
}

// load makes one request after the other, and knows what was answered.
type load struct {
	t    *testing.T
	quit chan struct{}
	done chan struct{}

	mu      sync.Mutex
	n       int
	answers []string // without repetitions
}

// startLoad makes requests to a port of this machine, from the first answer on
// that is as it should be until stop, or the test's end.
func startLoad(t *testing.T, port int, first string) *load {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	envoytest.Eventually(t, time.Minute, func() string {
		if got := answer(client, port); got != first {
			return fmt.Sprintf("answers %q, want %q", got, first)
		}
		return ""
	})
	l := &load{t: t, quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		for {
			select {
			case <-l.quit:
				return
			default:
				l.note(answer(client, port))
			}
		}
	}()
	t.Cleanup(l.stop)
	return l
}

func answer(client *http.Client, port int) string {
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Sprintf("%s: %s, %v", resp.Status, body, err)
	}
	return string(body)
}

func (l *load) note(answer string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	if len(l.answers) == 0 || l.answers[len(l.answers)-1] != answer {
		l.answers = append(l.answers, answer)
	}
}

// lacks is "" if these, in this order, are all answers that there were.
func (l *load) lacks(want ...string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if diff := cmp.Diff(want, l.answers); diff != "" {
		return fmt.Sprintf("answers of %d requests: %s", l.n, diff)
	}
	return ""
}

// stop ends the requests; again it does nothing.
func (l *load) stop() {
	select {
	case <-l.done:
	default:
		close(l.quit)
		<-l.done
		l.t.Logf("%d requests", l.n)
	}
}
