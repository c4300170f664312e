package translate

import (
	"slices"
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

func shopMesh(t testing.TB) *config.Mesh {
	t.Helper()
	b := config.NewBuilder(nil)
	reviews := &config.Service{
		Meta:     config.Meta{Key: config.Key{Kind: "Service", Namespace: "shop", Name: "reviews"}, Hash: 1},
		Hostname: "reviews.shop.svc.cluster.local", Kubernetes: true,
		Ports: []config.ServicePort{{Name: "http", Number: 80, Protocol: config.ProtocolHTTP}},
	}
	config.Put(b, func(m *config.Mesh) *config.Index[*config.Service] { return &m.Services }, reviews)
	config.Put(b, func(m *config.Mesh) *config.Index[*config.Endpoints] { return &m.Endpoints }, &config.Endpoints{
		ID: reviews.ID(), Hash: 7, ByPort: map[string][]config.Endpoint{"http": {
			{Address: "10.0.0.1", Port: 8080, Labels: map[string]string{"version": "v1"}},
			{Address: "10.0.0.2", Port: 8080, Labels: map[string]string{"version": "v2"}},
		}},
	})
	config.Put(b, func(m *config.Mesh) *config.Index[*config.DestinationRule] { return &m.DestinationRules }, &config.DestinationRule{
		Meta: config.Meta{Key: config.Key{Kind: "DestinationRule", Namespace: "shop", Name: "reviews"}, Hash: 2},
		Spec: &networking.DestinationRule{Host: "reviews", Subsets: []*networking.Subset{
			{Name: "v1", Labels: map[string]string{"version": "v1"}},
			{Name: "v2", Labels: map[string]string{"version": "v2"}},
		}},
	})
	return b.Mesh()
}

// TestThinSlice follows one service from Mesh to clusters and assignments.
func TestThinSlice(t *testing.T) {
	m := shopMesh(t)
	ix := NewIndex(m)
	svc, _ := m.Services.Get("shop", "reviews.shop.svc.cluster.local")
	scope := &Scope{Class: Class{Side: Outbound, Namespace: "default"}, Settings: m.Settings}
	scope.Egress = []*Egress{{Services: []*VisibleService{{
		Service: svc, Rule: ix.ruleFor(svc, "default", nil), InReach: svc.Ports, Hash: 3,
	}}}}
	tr := NewTranslator(100)
	r := tr.Translate(scope)
	var names []string
	for _, c := range r.Clusters.Items() {
		names = append(names, c.Name)
		var msg cluster.Cluster
		if err := proto.Unmarshal(c.Bytes(), &msg); err != nil {
			t.Fatal(err)
		}
		if err := msg.ValidateAll(); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	want := []string{
		"BlackHoleCluster", "PassthroughCluster",
		"outbound|80|v1|reviews.shop.svc.cluster.local",
		"outbound|80|v2|reviews.shop.svc.cluster.local",
		"outbound|80||reviews.shop.svc.cluster.local",
	}
	if !slices.Equal(names, want) {
		t.Errorf("clusters\n got %q\nwant %q", names, want)
	}
	eps, _ := m.Endpoints.Get("shop", svc.Hostname)
	for i, want := range [][]string{{"10.0.0.1"}, {"10.0.0.2"}, {"10.0.0.1", "10.0.0.2"}} {
		var cla endpoint.ClusterLoadAssignment
		if err := proto.Unmarshal(tr.Endpoints(&r.Endpoints[i], eps, Viewer{}).Bytes(), &cla); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range cla.Endpoints {
			for _, e := range l.LbEndpoints {
				got = append(got, e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress())
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", cla.ClusterName, got, want)
		}
	}
}
