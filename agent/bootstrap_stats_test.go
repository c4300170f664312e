package agent_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/agent"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// A real Envoy sends its statistics to a statsd, takes a listener that
// compresses them and buckets of our own, and has the runtime that it was given.
func TestEnvoyReportsStatistics(t *testing.T) {
	dir, err := os.MkdirTemp("", "b") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	statsd, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = statsd.Close() })
	b := agent.Bootstrap{
		Node: sidecar(), Discovery: agent.Address{Path: filepath.Join(dir, "none")},
		Admin: agent.Address{Path: filepath.Join(dir, "admin")}, StaticHost: "127.77.1.3", CompressStats: true,
		Statsd:     agent.Address{Host: "127.0.0.1", Port: uint32(statsd.LocalAddr().(*net.UDPAddr).Port)}, //nolint:gosec // a port
		FlushStats: 100 * time.Millisecond, Buckets: []agent.HistogramBuckets{{Prefix: "server.", Bounds: []float64{0.25, 1e7}}},
		Runtime: map[string]any{"envoy.resource_limits.listener.virtualInbound.connection_limit": "7"},
	}
	js, err := b.JSON()
	if err != nil {
		t.Fatal(err)
	}
	envoytest.Start(t, js)

	packet := make([]byte, 1<<16)
	_ = statsd.SetReadDeadline(time.Now().Add(30 * time.Second)) // Envoy flushes every 5 s
	n, _, err := statsd.ReadFromUDP(packet)
	if err != nil {
		t.Fatalf("no statistics came to the statsd: %v", err)
	}
	if !strings.HasPrefix(string(packet[:n]), "envoy.") {
		t.Errorf("the statsd got %q", packet[:n])
	}
	admin := envoytest.Admin(t, filepath.Join(dir, "admin"))
	status, body, err := envoytest.Get(admin, "/config_dump?resource=static_listeners")
	if err != nil || !strings.Contains(body, "gzip.compressor") {
		t.Error(fmt.Sprintf("Envoy has no listener that compresses: %d %v", status, err), body)
	}
	status, body, err = envoytest.Get(admin, "/runtime")
	if err != nil || !strings.Contains(body, "virtualInbound.connection_limit") {
		t.Error(fmt.Sprintf("/runtime: %d %v", status, err), body)
	}
}
