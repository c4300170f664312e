package translate

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"testing"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

func service(ns, name string, ports ...uint32) *config.Service {
	s := &config.Service{
		Meta: config.Meta{
			Key:  config.Key{Kind: "Service", Namespace: ns, Name: name},
			Hash: config.NewHasher().Str(ns, name).Sum(),
		},
		Hostname: name + "." + ns + ".svc.cluster.local", Kubernetes: true, ExportTo: config.Visibility{Public: true},
	}
	for _, p := range ports {
		s.Ports = append(s.Ports, config.ServicePort{Name: fmt.Sprintf("http-%d", p), Number: p, Protocol: config.ProtocolHTTP})
	}
	return s
}

func virtualService(ns, name string, spec *networking.VirtualService) *config.VirtualService {
	return &config.VirtualService{
		Meta: config.Meta{
			Key:     config.Key{Group: "networking.istio.io", Kind: "VirtualService", Namespace: ns, Name: name},
			Version: "v1", Hash: config.NewHasher().Str(ns, name).Proto(spec).Sum(),
		},
		Spec: spec,
	}
}

func putServices(b *config.Builder, services ...*config.Service) {
	for _, s := range services {
		config.Put(b, func(m *config.Mesh) *config.Index[*config.Service] { return &m.Services }, s)
	}
}

func putVirtualServices(b *config.Builder, list ...*config.VirtualService) {
	for _, v := range list {
		config.Put(b, func(m *config.Mesh) *config.Index[*config.VirtualService] { return &m.VirtualServices }, v)
	}
}

// table80 translates the route table of port 80 alone, as a listener would
// ask for it.
func table80(tr *Translator, s *Scope) *Resource {
	b := &build{t: tr, scope: s, tables: []routeTable{{Name: "80", Port: 80, Egress: s.Egress[0]}}}
	b.outboundRoutes()
	return b.routes[0]
}

func decodeTable(t testing.TB, r *Resource) *route.RouteConfiguration {
	t.Helper()
	var rc route.RouteConfiguration
	if err := proto.Unmarshal(r.Bytes(), &rc); err != nil {
		t.Fatal(err)
	}
	if err := rc.ValidateAll(); err != nil {
		t.Fatal(err)
	}
	return &rc
}

func shopClass(ns string) Class {
	return Class{Side: Outbound, Namespace: ns, Traits: Traits{DNSDomain: ns + ".svc.cluster.local"}}
}

// TestRoutesOfOneTable follows a VirtualService from Mesh to RouteConfiguration.
func TestRoutesOfOneTable(t *testing.T) {
	b := config.NewBuilder(nil)
	putServices(b, service("shop", "reviews", 80), service("shop", "ratings", 80))
	putVirtualServices(b, virtualService("shop", "reviews", &networking.VirtualService{
		Hosts: []string{"reviews"},
		Http: []*networking.HTTPRoute{{Route: []*networking.HTTPRouteDestination{
			{Destination: &networking.Destination{Host: "reviews", Subset: "v1"}, Weight: 70},
			{Destination: &networking.Destination{Host: "reviews", Subset: "v2"}, Weight: 30},
		}}},
	}))
	s := NewIndex(b.Mesh()).Scope(shopClass("shop"))
	r := table80(NewTranslator(100), s)
	rc := decodeTable(t, r)
	var names []string
	for _, vh := range rc.VirtualHosts {
		names = append(names, vh.Name)
	}
	want := []string{"ratings.shop.svc.cluster.local:80", "reviews.shop.svc.cluster.local:80", "allow_any"}
	if !slices.Equal(names, want) {
		t.Errorf("virtual hosts %q, want %q", names, want)
	}
	split := rc.VirtualHosts[1].Routes[0].GetRoute().GetWeightedClusters().GetClusters()
	if len(split) != 2 || split[0].Name != "outbound|80|v1|reviews.shop.svc.cluster.local" || split[0].Weight.GetValue() != 70 {
		t.Errorf("weights %v", split)
	}
	clusters := []string{
		"PassthroughCluster",
		"outbound|80|v1|reviews.shop.svc.cluster.local", "outbound|80|v2|reviews.shop.svc.cluster.local",
		"outbound|80||ratings.shop.svc.cluster.local",
	}
	if !slices.Equal(r.Refs.Clusters, clusters) {
		t.Errorf("clusters %q, want %q", r.Refs.Clusters, clusters)
	}
}

// wideMesh has n services, each with a VirtualService.
func wideMesh(n int) (*config.Mesh, []*config.VirtualService) {
	b := config.NewBuilder(nil)
	rules := make([]*config.VirtualService, n)
	for i := range n {
		ns, name := fmt.Sprintf("ns-%d", i%40), fmt.Sprintf("svc-%d", i)
		putServices(b, service(ns, name, 80))
		rules[i] = virtualService(ns, name, canarySpec(name, 90))
		putVirtualServices(b, rules[i])
	}
	return b.Mesh(), rules
}

func canarySpec(host string, weight int32) *networking.VirtualService {
	return &networking.VirtualService{
		Hosts: []string{host},
		Http: []*networking.HTTPRoute{{Route: []*networking.HTTPRouteDestination{
			{Destination: &networking.Destination{Host: host, Subset: "v1"}, Weight: weight},
			{Destination: &networking.Destination{Host: host, Subset: "v2"}, Weight: 100 - weight},
		}}},
	}
}

func edited(m *config.Mesh, v *config.VirtualService, weight int32) *config.Mesh {
	b := config.NewBuilder(m)
	putVirtualServices(b, virtualService(v.Namespace, v.Name, canarySpec(v.Name, weight)))
	return b.Mesh()
}

// BenchmarkEditOneOf2000 is the cost of one edited VirtualService for the
// route table of 2,000 virtual hosts that has it.
func BenchmarkEditOneOf2000(b *testing.B) {
	m, rules := wideMesh(2000)
	tr := NewTranslator(100_000)
	table80(tr, NewIndex(m).Scope(shopClass("ns-1")))
	scopes := make([]*Scope, 100)
	for i := range scopes {
		scopes[i] = NewIndex(edited(m, rules[1000], int32(i))).Scope(shopClass("ns-1"))
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		tr.tables.Purge() // each round is the first one after an edit
		table80(tr, scopes[n%len(scopes)])
		n++
	}
}

// BenchmarkIndexAndScope is the cost of arranging a Mesh of 2,000 services
// anew and of gathering its first scope.
func BenchmarkIndexAndScope(b *testing.B) {
	m, _ := wideMesh(2000)
	b.ReportAllocs()
	for b.Loop() {
		NewIndex(m).Scope(shopClass("ns-1"))
	}
}

// BenchmarkScopeOf2000 is the cost of gathering one more scope.
func BenchmarkScopeOf2000(b *testing.B) {
	m, _ := wideMesh(2000)
	ix := NewIndex(m)
	b.ReportAllocs()
	for b.Loop() {
		ix.Scope(shopClass("ns-1"))
	}
}

// TestSharedTables makes the tables of several namespaces from one list, and
// each of them host by host: they must be the same.
func TestSharedTables(t *testing.T) {
	m, _ := wideMesh(60)
	b := config.NewBuilder(m)
	alias := service("ns-1", "alias", 80)
	alias.ExternalName = "svc-2.ns-2.svc.cluster.local"
	putServices(b, alias, service("ns-1", "plain", 80), service("ns-2", "plain", 80))
	putVirtualServices(b, virtualService("ns-3", "picky", &networking.VirtualService{
		Hosts: []string{"plain.ns-1.svc.cluster.local"},
		Http: []*networking.HTTPRoute{{
			Match: []*networking.HTTPMatchRequest{{SourceNamespace: "ns-2"}},
			Route: []*networking.HTTPRouteDestination{{Destination: &networking.Destination{Host: "plain.ns-2.svc.cluster.local"}}},
		}},
	}))
	ix, tr := NewIndex(b.Mesh()), NewTranslator(10_000)
	for _, ns := range []string{"ns-1", "ns-2", "ns-3", "elsewhere"} {
		s := ix.Scope(shopClass(ns))
		got := table80(tr, s)
		one := &build{t: NewTranslator(10_000), scope: s}
		table := &routeTable{Name: "80", Port: 80, Egress: s.Egress[0]}
		env := one.newRouteEnv(false)
		var parts []*vhostPart
		inputs := vhostInputs(table)
		slices.SortFunc(inputs, func(x, y vhostInput) int { return cmp.Compare(x.host, y.host) })
		for i := range inputs {
			if p := one.outboundVhost(table, env, &inputs[i]).part; p != nil {
				parts = append(parts, p)
			}
		}
		parts = append(parts, one.catchAll(env).part)
		clusters, _ := clustersAndSources(parts)
		want := one.spliceRoutes("80", parts, true, clusters, nil)
		if !bytes.Equal(got.Bytes(), want.Bytes()) || got.Version != want.Version {
			t.Errorf("%s: the table differs from one made host by host", ns)
		}
		if !slices.Equal(got.Refs.Clusters, want.Refs.Clusters) {
			t.Errorf("%s: clusters %q, want %q", ns, got.Refs.Clusters, want.Refs.Clusters)
		}
		decodeTable(t, got)
	}
}

// BenchmarkEditFor100Namespaces is the cost of one edited VirtualService for
// the route tables of 100 namespaces, each of 2,000 virtual hosts.
func BenchmarkEditFor100Namespaces(b *testing.B) {
	m, rules := wideMesh(2000)
	tr := NewTranslator(100_000)
	scopes := make([][]*Scope, 4)
	for i := range scopes {
		ix := NewIndex(edited(m, rules[1000], int32(i)))
		for n := range 100 {
			scopes[i] = append(scopes[i], ix.Scope(shopClass(fmt.Sprintf("ns-%d", n))))
		}
	}
	for _, s := range slices.Concat(scopes...) {
		table80(tr, s)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		tr.tables.Purge()
		for _, s := range scopes[n%len(scopes)] {
			table80(tr, s)
		}
		n++
	}
}

// BenchmarkGatewayEditOneOf2000 is the cost of one edited VirtualService for
// the table of a gateway with 2,000 of them.
func BenchmarkGatewayEditOneOf2000(b *testing.B) {
	m, rules := wideMesh(2000)
	gw := &config.Gateway{
		Meta: config.Meta{Key: config.Key{Kind: "Gateway", Namespace: "ns-0", Name: "gw"}, Hash: 1},
		Spec: &networking.Gateway{Servers: []*networking.Server{{Port: &networking.Port{Number: 80, Protocol: "HTTP"}, Hosts: []string{"*"}}}},
	}
	tr := NewTranslator(100_000)
	tables := make([]*build, 50)
	for i := range tables {
		next := config.NewBuilder(m)
		for n, r := range rules {
			weight := int32(90)
			if n == 1000 {
				weight = int32(i)
			}
			spec := canarySpec(r.Name, weight)
			spec.Hosts, spec.Gateways = []string{r.Name + ".example.com"}, []string{"ns-0/gw"}
			putVirtualServices(next, virtualService(r.Namespace, r.Name, spec))
		}
		ix := NewIndex(next.Mesh())
		s := ix.Scope(Class{Side: GatewaySide, Namespace: "ns-0"})
		server := &GatewayServer{
			Gateway: gw, Spec: gw.Spec.Servers[0], Hosts: serverHosts(gw, []string{"*"}), name: "ns-0/gw",
			VirtualServices: ix.virtualServices.byGateway["ns-0/gw"].visibleTo("ns-0"),
		}
		tables[i] = &build{t: tr, scope: s, tables: []routeTable{{Name: "http.80", Port: 80, Servers: []*GatewayServer{server}}}}
	}
	tables[0].gatewayRoutes()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		at := tables[n%len(tables)]
		at.routes = nil
		at.gatewayRoutes()
		n++
	}
}

// BenchmarkProblemsOf2000 is the cost of testing the references of 2,000
// VirtualServices.
func BenchmarkProblemsOf2000(b *testing.B) {
	m, _ := wideMesh(2000)
	ix := NewIndex(m)
	b.ReportAllocs()
	for b.Loop() {
		ix.virtualServiceProblems()
	}
}
