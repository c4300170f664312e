package pod_test

import (
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/agent"
	"github.com/pilotfish-mesh/pilotfish/ca"
)

// interceptOwn sends what this process opens to the pod through the sidecar,
// as it would what comes from outside.
func interceptOwn(t *testing.T) {
	t.Helper()
	r := agent.Redirect{OutboundPort: 15001, InboundPort: 15006, Users: []uint32{uint32(os.Geteuid())}}
	if err := r.Apply(0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := agent.RemoveRedirect(0); err != nil {
			t.Error(err)
		}
	})
}

// The proxy stays until the last connection to it is closed, or, after a
// drain that was asked for before, no longer than that.
func TestDrainWaitsForConnections(t *testing.T) {
	w := newWorld(t, ca.Options{})
	interceptOwn(t)
	r := w.start(w.options(nil, "EXIT_ON_ZERO_ACTIVE_CONNECTIONS=true", "MINIMUM_DRAIN_DURATION=100ms"))
	w.awaitReady(r)
	c, err := net.Dial("tcp", podIP+":8080")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: app\r\n")); err != nil { // a request on its way
		t.Fatal(err)
	}
	r.stop()
	select {
	case <-r.done:
		t.Fatal("the proxy is gone while a connection is open")
	case <-time.After(2500 * time.Millisecond):
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.done:
	case <-time.After(20 * time.Second):
		t.Fatal("the proxy stays after the last connection")
	}
}

func TestDrainBeforeTheEnd(t *testing.T) {
	w := newWorld(t, ca.Options{})
	r := w.start(w.options(map[string]any{"terminationDrainDuration": "25s"}))
	w.awaitReady(r)
	if status, err := post("http://127.0.0.1:15020/drain"); status != http.StatusOK {
		t.Fatal(status, err)
	}
	w.awaitReady(r) // it serves on: the application may still need it
	r.stop()
	select {
	case <-r.done:
	case <-time.After(10 * time.Second):
		t.Fatal("draining begins again at the end")
	}
}
