package snapshot

import (
	"slices"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// TestRejectedRoutesBlame: of the objects that share a route table only those
// are told whose part of it Envoy's text names.
func TestRejectedRoutesBlame(t *testing.T) {
	object := func(name string) *config.Meta {
		return &config.Meta{Version: "v1", Key: config.Key{Group: "networking.istio.io", Kind: "VirtualService", Namespace: "default", Name: name}}
	}
	a, b, c := object("a"), object("b"), object("c")
	made := func(of *config.Meta, prefix string) *route.Route {
		return &route.Route{
			Match: &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: prefix}},
			Metadata: &core.Metadata{FilterMetadata: map[string]*structpb.Struct{"istio": {Fields: map[string]*structpb.Value{
				"config": structpb.NewStringValue("/apis/networking.istio.io/v1/namespaces/default/virtual-service/" + of.Name),
			}}}},
		}
	}
	table := &route.RouteConfiguration{Name: "80", VirtualHosts: []*route.VirtualHost{
		{Name: "one:80", Domains: []string{"one.test"}, Routes: []*route.Route{made(a, "/a"), made(b, "/odd%THING%")}},
		{Name: "two:80", Domains: []string{"two.test"}, Routes: []*route.Route{made(c, "/c")}},
	}}
	body, err := proto.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	r := &rejection{resource: &translate.Resource{Name: "80", Body: [][]byte{body}, Sources: []*config.Meta{a, b, c}}}
	for text, want := range map[string][]string{
		"something is wrong": {"a", "b", "c"},
		"Proto constraint validation failed (RouteConfigurationValidationError.VirtualHosts[1]: embedded message failed validation)":                                                              {"c"},
		"Proto constraint validation failed (RouteConfigurationValidationError.VirtualHosts[0]: embedded message failed validation | caused by VirtualHostValidationError.Routes[1]: value is x)": {"b"},
		"Only unique values for domains are permitted. Duplicate entry of domain two.test in route 80":                                                                                            {"c"},
		"route: unknown command '%THING%'":             {"b"},
		"virtual host 'one:80' is not to its liking":   {"a", "b"},
		"route: unknown cluster 'nobody-has-that-one'": {"a", "b", "c"},
		"VirtualHosts[7] is no place":                  {"a", "b", "c"},
	} {
		r.message, r.resource.Sources = text, []*config.Meta{a, b, c}
		var got []string
		for _, p := range r.problems(routes) {
			got = append(got, p.Object.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: told %v, want %v", text, got, want)
		}
		// A patch may have made any part of it.
		filter := &config.Meta{Key: config.Key{Kind: "EnvoyFilter", Namespace: "default", Name: "f"}}
		r.resource.Sources = append(r.resource.Sources, filter)
		if p := r.problems(routes); len(p) != len(want)+1 || p[len(want)].Object != filter.Key {
			t.Errorf("%s: told of %v, want of the EnvoyFilter as well", text, p)
		}
	}
}
