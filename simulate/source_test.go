package simulate_test

import (
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// TestServiceIsTheSource: what a Service of a cluster alone makes does not say
// so itself, and is still told to be the Service's.
func TestServiceIsTheSource(t *testing.T) {
	b := config.NewBuilder(nil)
	web := &config.Service{
		Meta:     config.Meta{Key: config.Key{Kind: "Service", Namespace: "shop", Name: "web"}, Version: "v1", Hash: 1},
		Hostname: "web.shop.svc.cluster.local", Kubernetes: true, Addresses: []string{"10.96.0.1"},
		Ports:    []config.ServicePort{{Name: "http", Number: 80, Protocol: config.ProtocolHTTP}},
		ExportTo: config.Visibility{Public: true},
	}
	client := &config.Workload{
		Meta: config.Meta{
			Key: config.Key{Kind: "Pod", Namespace: "shop", Name: "client"}, Version: "v1", Hash: 2,
			Labels: map[string]string{"security.istio.io/tlsMode": "istio"},
		},
		IPs: []string{"10.1.0.1"}, Ready: true,
	}
	config.Put(b, func(m *config.Mesh) *config.Index[*config.Service] { return &m.Services }, web)
	config.Put(b, func(m *config.Mesh) *config.Index[*config.Workload] { return &m.Workloads }, client)
	a, err := simulate.NewWorld(b.Mesh()).Ask(&simulate.Query{From: "client.shop", URL: "http://web.shop/"})
	if err != nil {
		t.Fatal(err)
	}
	if a.Hop == nil || a.Hop.VirtualHost == nil || len(a.Hop.To) != 1 {
		t.Fatalf("the request came to no cluster: %+v", a.Hop)
	}
	for what, got := range map[string]*simulate.Source{"virtual host": a.Hop.VirtualHost.Source, "cluster": a.Hop.To[0].Source} {
		if got == nil || got.Object != web.Key {
			t.Errorf("%s was made of %v, want %v", what, got, web.Key)
		}
	}
}
