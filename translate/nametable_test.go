package translate

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pilotfish-mesh/pilotfish/config"
)

func TestNameTable(t *testing.T) {
	key := func(kind, name string) config.Meta {
		return config.Meta{Key: config.Key{Kind: kind, Namespace: "shop", Name: name}}
	}
	services := []*config.Service{
		{Meta: key("Service", "web"), Hostname: "web.shop.svc.cluster.local", Addresses: []string{"10.0.0.1", "fd00::1"}, Kubernetes: true},
		{Meta: key("Service", "db"), Hostname: "db.shop.svc.cluster.local", Headless: true, Kubernetes: true},
		{Meta: key("Service", "gone"), Hostname: "gone.shop.svc.cluster.local", Headless: true, Kubernetes: true},
		{Meta: key("Service", "alias"), Hostname: "alias.shop.svc.cluster.local", ExternalName: "example.com", Kubernetes: true},
		{Meta: key("ServiceEntry", "a"), Hostname: "example.com", Addresses: []string{"192.0.2.1", "198.51.100.0/24"}},
		{Meta: key("ServiceEntry", "b"), Hostname: "example.com", Addresses: []string{"192.0.2.2"}},
		{Meta: key("ServiceEntry", "c"), Hostname: "auto.example.com", AutoAddresses: []string{"240.240.0.1"}},
		{Meta: key("ServiceEntry", "d"), Hostname: "web.shop.svc.cluster.local", Addresses: []string{"192.0.2.9"}},
	}
	eps := config.NewEndpoints(config.ServiceID{Hostname: "db.shop.svc.cluster.local", Namespace: "shop"}, map[string][]config.Endpoint{
		"sql": {
			{Address: "10.1.0.1", MoreAddresses: []string{"fd01::1"}, Port: 1, Hostname: "db-0"}, {Address: "10.1.0.2", Port: 1, Hostname: "db-1"},
			{Address: "10.1.0.3", Port: 1, Health: config.Unhealthy}, {Address: "unix:///x"},
		},
		"admin": {{Address: "10.1.0.1", MoreAddresses: []string{"fd01::1"}, Port: 2, Hostname: "db-0"}},
	}, 1)
	b := config.NewBuilder(nil)
	config.Put(b, func(m *config.Mesh) *config.Index[*config.Endpoints] { return &m.Endpoints }, eps)
	m := b.Mesh()
	got, err := config.UnmarshalNameTable(NameTable(services, m).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	want := config.NameTable{
		"web.shop.svc.cluster.local": {IPs: []string{"10.0.0.1", "fd00::1"}, Registry: "Kubernetes", Shortname: "web", Namespace: "shop"},
		"db.shop.svc.cluster.local": {
			IPs: []string{"10.1.0.1", "fd01::1", "10.1.0.2"}, Registry: "Kubernetes", Shortname: "db", Namespace: "shop",
		},
		"db-0.db.shop.svc.cluster.local": {IPs: []string{"10.1.0.1", "fd01::1"}, Registry: "Kubernetes", Shortname: "db-0.db", Namespace: "shop"},
		"db-1.db.shop.svc.cluster.local": {IPs: []string{"10.1.0.2"}, Registry: "Kubernetes", Shortname: "db-1.db", Namespace: "shop"},
		"example.com":                    {IPs: []string{"192.0.2.1", "192.0.2.2"}, Registry: "External"},
		"auto.example.com":               {IPs: []string{"240.240.0.1"}, Registry: "External"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
