package snapshot_test

import (
	"fmt"
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

func nameOf(url string, body []byte) (string, error) {
	switch url {
	case cds:
		m := &cluster.Cluster{}
		err := proto.Unmarshal(body, m)
		return m.Name, err
	case eds:
		m := &endpoint.ClusterLoadAssignment{}
		err := proto.Unmarshal(body, m)
		return m.ClusterName, err
	case lds:
		m := &listener.Listener{}
		err := proto.Unmarshal(body, m)
		return m.Name, err
	case rds:
		m := &route.RouteConfiguration{}
		err := proto.Unmarshal(body, m)
		return m.Name, err
	}
	return "", fmt.Errorf("unexpected type %s", url)
}

// both runs a case over both protocols.
func both(t *testing.T, w func(c *content), f func(t *testing.T, s *served, c *client)) {
	for _, p := range []string{"delta", "sotw"} {
		t.Run(p, func(t *testing.T) {
			world := newWorld(t)
			world.edit(w)
			s := serve(t, world, snapshot.Options{})
			f(t, s, s.client("one", p == "sotw"))
		})
	}
}

func small(c *content) {
	set(c.clusters, "a", "b")
	set(c.listeners, "l")
	set(c.routes, "r")
}

func TestStart(t *testing.T) {
	both(t, small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		c.quiet()
	})
}

func TestEndpointChange(t *testing.T) {
	both(t, small, func(t *testing.T, s *served, c *client) {
		c.start([]string{"a", "b"}, []string{"r"}, "l")
		s.world.endpoints("a", "10.1.1.1")
		c.take("eds +a")
		c.quiet()
	})
}
