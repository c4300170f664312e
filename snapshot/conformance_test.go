package snapshot_test

import (
	"fmt"
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/prometheus/client_golang/prometheus"
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
	case sds:
		m := &tls.Secret{}
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
	t.Helper()
	bothWith(t, w, snapshot.Options{}, f)
}

func bothWith(t *testing.T, w func(c *content), o snapshot.Options, f func(t *testing.T, s *served, c *client)) {
	t.Helper()
	for _, p := range []string{"delta", "sotw"} {
		t.Run(p, func(t *testing.T) {
			world := newWorld(t)
			world.edit(w)
			o := o
			o.Registerer = prometheus.NewRegistry()
			s := serve(t, world, o)
			f(t, s, s.client("one", p == "sotw"))
		})
	}
}

func small(c *content) {
	set(c.clusters, "a", "b")
	set(c.listeners, "l")
	set(c.routes, "r")
}

func TestSubscribedAgain(t *testing.T) {
	w := newWorld(t)
	w.edit(small)
	c := serve(t, w, snapshot.Options{}).delta("one")
	c.subscribe(eds, "a", "b")
	c.take("eds +a +b")
	c.subscribe(eds, "a") // the client may have forgotten it
	c.take("eds +a")
	c.quiet()
}

func TestUnsubscribedUnderWildcard(t *testing.T) {
	w := newWorld(t)
	w.edit(small)
	c := serve(t, w, snapshot.Options{}).delta("one")
	c.subscribe(cds, "*", "a", "zz")
	c.take("cds +a +b -zz")
	c.unsubscribe(cds, "a", "zz") // the wildcard still covers what there is
	c.take("cds +a -zz")
	c.quiet()
}
