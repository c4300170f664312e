package listeners

import (
	"fmt"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// TestOnePortForRequestsAndConnections: an HTTP and a TCP service on one
// socket are told apart by the first bytes, and a service on which the server
// speaks first has a listener that waits for nothing.
func TestOnePortForRequestsAndConnections(t *testing.T) {
	m := newMesh(t, service("web", 7000, "HTTP", backend(t, "web", false))+
		service("raw", 7000, "TCP", backend(t, "raw", false))+
		service("greeter", 7001, "TCP", backend(t, "greeter", true)))
	own := m.proxy(config.Sidecar, nil)
	eventually(t, func() error {
		body, _, err := get(own+":7000", "web.test:7000", nil)
		if err == nil && body != "web" {
			err = fmt.Errorf("answer %q", body)
		}
		return err
	})
	eventually(t, func() error { return says(ask(own+":7000", "hello\n"))("raw") })
	eventually(t, func() error { return says(ask(own+":7001", ""))("greeter") })
}

func says(got string, err error) func(want string) error {
	return func(want string) error {
		if err == nil && got != want {
			return fmt.Errorf("answer %q, want %q", got, want)
		}
		return err
	}
}

// TestSidecarEgressSocket: an egress listener on a socket of its own reaches
// the one service that it imports.
func TestSidecarEgressSocket(t *testing.T) {
	m := newMesh(t, service("one", 7100, "TCP", backend(t, "one", true))+service("two", 7100, "TCP", backend(t, "two", true))+`---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: default}
spec:
  egress:
  - port: {number: 7100, name: tcp, protocol: TCP}
    hosts: ["./two.test"]
`)
	own := m.proxy(config.Sidecar, nil)
	eventually(t, func() error { return says(ask(own+":7100", ""))("two") })
}
