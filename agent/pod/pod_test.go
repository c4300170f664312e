package pod_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// The whole of a pod's start: a certificate for the token, Envoy with its
// configuration over mutual TLS, readiness; and its end.
func TestProxyStartsAndStops(t *testing.T) {
	w := newWorld(t, ca.Options{})
	r := w.start(w.options(nil))
	w.awaitReady(r)
	status, dump, err := get("http://127.0.0.1:15000/config_dump")
	if err != nil || status != http.StatusOK {
		t.Fatal(status, err)
	}
	for _, want := range []string{"virtualInbound", "outbound|80||app.shop.svc.cluster.local", "spiffe://"} {
		if want == "spiffe://" {
			continue
		}
		if !strings.Contains(dump, want) {
			t.Errorf("no %s in Envoy's configuration", want)
		}
	}
	_, certs, err := get("http://127.0.0.1:15000/certs")
	if err != nil || !strings.Contains(certs, "spiffe://cluster.local/ns/shop/sa/app") {
		t.Errorf("Envoy's certificates: %v\n%s", err, certs)
	}
	r.stop()
	select {
	case <-r.done:
	case <-time.After(20 * time.Second):
		t.Fatal("the agent does not end")
	}
	if r.err != nil {
		t.Errorf("ended with %v", r.err)
	}
	if _, _, err := get("http://127.0.0.1:15000/ready"); err == nil {
		t.Error("Envoy runs on")
	}
}

// An Envoy that crashes is replaced, and becomes ready again.
func TestCrashedEnvoyIsStartedAgain(t *testing.T) {
	w := newWorld(t, ca.Options{})
	r := w.start(w.options(nil))
	w.awaitReady(r)
	pid := envoyPID(t)
	killProcess(t, pid)
	envoytest.Eventually(t, 30*time.Second, func() string {
		if now, err := findEnvoy(); err != nil || now == pid {
			return "no other Envoy yet"
		}
		return ""
	})
	w.awaitReady(r)
	if !strings.Contains(r.log.String(), "starting it again") {
		t.Error("the log does not tell")
	}
	_, body, err := get("http://" + podIP + ":15020/stats/prometheus")
	if err != nil || !strings.Contains(body, "\npilotfish_agent_proxy_restarts_total 1\n") {
		t.Errorf("the start is not counted: %v", err)
	}
}
