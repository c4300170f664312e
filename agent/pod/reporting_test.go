package pod

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pilotfish-mesh/pilotfish/agent"
)

func TestReporting(t *testing.T) {
	s := &settings{}
	read(t, s, `{"statsdUdpAddress": "10.0.0.5:9125", "runtimeValues": {"overload.global_downstream_max_connections": "9", "x": "y"},
		"connectionSettings": {"globalDownstreamConnectionLimit": 7, "listenerConnectionLimit": 5},
		"envoyMetricsService": {"address": "m.example.com:443", "tcpKeepalive": {"time": "10s"},
			"tlsSettings": {"mode": "SIMPLE", "sni": "m.example.com"}}}`)
	b := &agent.Bootstrap{}
	if err := s.reporting(b); err != nil {
		t.Fatal(err)
	}
	want := &agent.Bootstrap{
		Statsd: agent.Address{Host: "10.0.0.5", Port: 9125},
		Metrics: &agent.Remote{
			Address: agent.Address{Host: "m.example.com", Port: 443}, Keepalive: &agent.Keepalive{Time: 10},
			TLS: &agent.RemoteTLS{Name: "m.example.com"},
		},
		Runtime: map[string]any{
			"overload.global_downstream_max_connections": "9", "x": "y", // the user's own word goes first
			"envoy.resource_limits.listener.virtualInbound.connection_limit":  "5",
			"envoy.resource_limits.listener.virtualOutbound.connection_limit": "5",
		},
	}
	if diff := cmp.Diff(want, b); diff != "" {
		t.Error(diff)
	}
}

func TestReportingRefuses(t *testing.T) {
	for config, want := range map[string]string{
		`{"statsdUdpAddress": "statsd:9125"}`:                                            `statsdUdpAddress: "statsd:9125": want an IP address and a port`,
		`{"envoyMetricsServiceAddress": "metrics"}`:                                      "envoyMetricsService: address:",
		`{"envoyMetricsService": {"address": "m:1", "tlsSettings": {"mode": "MUTUAL"}}}`: "needs clientCertificate and privateKey",
		`{"envoyMetricsService": {"address": "m:1", "tlsSettings": {"mode": "TLS"}}}`:    `mode "TLS": want`,
	} {
		s := &settings{}
		read(t, s, config)
		if err := s.reporting(&agent.Bootstrap{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", config, err, want)
		}
	}
}

// The schemes of tracingServiceName, and a serviceCluster before them.
func TestServiceCluster(t *testing.T) {
	for config, want := range map[string]string{
		`{}`: "",
		`{"tracingServiceName": "CANONICAL_NAME_ONLY"}`:                                      "shop",
		`{"tracingServiceName": "CANONICAL_NAME_AND_NAMESPACE"}`:                             "shop.default",
		`{"tracingServiceName": "CANONICAL_NAME_ONLY", "serviceCluster": "mine"}`:            "mine",
		`{"tracingServiceName": "APP_LABEL_AND_NAMESPACE", "serviceCluster": "istio-proxy"}`: "",
	} {
		s := &settings{node: agent.Node{Namespace: "default", Labels: map[string]string{"app": "shop"}, Workload: "w"}}
		read(t, s, config)
		if got := s.serviceCluster(); got != want {
			t.Errorf("%s: %q, want %q", config, got, want)
		}
	}
}

func read(t *testing.T, s *settings, config string) {
	t.Helper()
	if err := json.Unmarshal([]byte(config), &s.proxy); err != nil {
		t.Fatal(err)
	}
}
