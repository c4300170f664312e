package translate

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

const benchServices = 2000

// largeMesh has n services in n/20 namespaces, each with a DestinationRule of
// two subsets and four endpoints. connections is the first rule's limit.
func largeMesh(n int, connections int32) *config.Mesh {
	b := config.NewBuilder(nil)
	for i := range n {
		ns, name := fmt.Sprintf("ns-%d", i/20), fmt.Sprintf("svc-%d", i)
		s := &config.Service{
			Meta:     config.Meta{Key: config.Key{Kind: "Service", Namespace: ns, Name: name}, Version: "v1"},
			Hostname: name + "." + ns + ".svc.cluster.local", Kubernetes: true,
			Addresses: []string{fmt.Sprintf("10.96.%d.%d", i/250, i%250)},
			Ports:     []config.ServicePort{{Name: "http", Number: 80, Protocol: config.ProtocolHTTP}},
			ExportTo:  config.Visibility{Public: true},
		}
		s.Meta.Hash = config.NewHasher().Str(ns, name).Sum()
		config.Put(b, func(m *config.Mesh) *config.Index[*config.Service] { return &m.Services }, s)
		config.Put(b, func(m *config.Mesh) *config.Index[*config.Endpoints] { return &m.Endpoints }, endpointsFor(s, i))
		limit := int32(100)
		if i == 0 {
			limit = connections
		}
		config.Put(b, func(m *config.Mesh) *config.Index[*config.DestinationRule] { return &m.DestinationRules }, ruleFor(ns, name, limit))
	}
	return b.Mesh()
}

func ruleFor(ns, name string, limit int32) *config.DestinationRule {
	spec := &networking.DestinationRule{
		Host: name,
		TrafficPolicy: &networking.TrafficPolicy{
			ConnectionPool:   &networking.ConnectionPoolSettings{Tcp: &networking.ConnectionPoolSettings_TCPSettings{MaxConnections: limit}},
			OutlierDetection: &networking.OutlierDetection{Consecutive_5XxErrors: wrapperspb.UInt32(5)},
		},
		Subsets: []*networking.Subset{
			{Name: "v1", Labels: map[string]string{"version": "v1"}},
			{Name: "v2", Labels: map[string]string{"version": "v2"}},
		},
	}
	key := config.Key{Group: "networking.istio.io", Kind: "DestinationRule", Namespace: ns, Name: name}
	return &config.DestinationRule{
		Meta: config.Meta{Key: key, Version: "v1", Hash: config.NewHasher().Str(ns, name).Proto(spec).Sum()}, Spec: spec,
	}
}

func endpointsFor(s *config.Service, i int) *config.Endpoints {
	eps := &config.Endpoints{ID: s.ID(), ByPort: map[string][]config.Endpoint{}, Hash: config.NewHasher().Uint(uint64(i)).Sum()}
	for j := range 4 {
		eps.ByPort["http"] = append(eps.ByPort["http"], config.Endpoint{
			Address: fmt.Sprintf("10.%d.%d.%d", i/250, i%250, j+1), Port: 8080,
			Labels:   map[string]string{"app": s.Name, "version": fmt.Sprintf("v%d", j%2+1)},
			Locality: config.Locality{Region: "eu", Zone: string(rune('a' + j%3))},
			Network:  fmt.Sprintf("n%d", j%2), Cluster: "Kubernetes", Node: fmt.Sprintf("node-%d", j), Namespace: s.Namespace,
		})
	}
	return eps
}

func outboundScope(m *config.Mesh) *Scope {
	ix := NewIndex(m)
	return ix.Scope(ix.Classes(&config.Proxy{Type: config.Sidecar, Namespace: "ns-1", IPs: []string{"10.1.0.1"}, Interception: config.Redirect})[0])
}

// clustersIn makes a scope's clusters alone.
func clustersIn(t *Translator, s *Scope) *build {
	b := &build{t: t, scope: s}
	b.outboundClusters()
	return b
}

// TestOneRuleChangesItsClusters: what a change of one rule does not touch is
// the very same Resource as before.
func TestOneRuleChangesItsClusters(t *testing.T) {
	tr := NewTranslator(1 << 16)
	before := NewSet(clustersIn(tr, outboundScope(largeMesh(200, 100))).clusters)
	after := NewSet(clustersIn(tr, outboundScope(largeMesh(200, 101))).clusters)
	if before.Len() != 200*3+2 || after.Len() != before.Len() {
		t.Fatalf("%d and %d clusters, want %d", before.Len(), after.Len(), 200*3+2)
	}
	changed := 0
	for i, r := range after.Items() {
		if before.Items()[i] != r {
			changed++
		}
	}
	if changed != 3 {
		t.Errorf("%d resources were made anew, want the 3 of the rule that changed", changed)
	}
}

// TestReadsBlanksOnlyWhatIsNotRead: a viewer and what Reads leaves of it are
// sent the same bytes, for policies of all kinds and random viewers.
func TestReadsBlanksOnlyWhatIsNotRead(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(s ...string) string { return s[random.IntN(len(s))] }
	m := largeMesh(1, 1)
	s, _ := m.Services.Get("ns-0", "svc-0.ns-0.svc.cluster.local")
	eps, _ := m.Endpoints.Get(s.Namespace, s.Hostname)
	for range 2000 {
		spec := &EndpointSpec{Cluster: "c", Service: s.ID(), Port: s.Ports[0], policy: &endpointPolicy{
			nodeLocal: random.IntN(5) == 0, clusterLocal: random.IntN(5) == 0, locality: randomLocality(random, pick),
		}}
		v := Viewer{
			Locality: config.Locality{Region: pick("eu", "us"), Zone: pick("a", "b"), Subzone: pick("", "x")},
			Network:  pick("", "n0", "n1"), Cluster: pick("Kubernetes", "other"), Node: pick("node-0", "node-9"),
			Labels: pick("", "app=svc-0", "app=svc-0,version=v2", "version=v1"),
		}
		r := spec.Reads(v)
		if spec.Reads(r) != r {
			t.Fatalf("Reads of %+v is not stable", v)
		}
		full, _ := NewResource("c", assign(spec, eps.ByPort["http"], v), Refs{})
		part, _ := NewResource("c", assign(spec, eps.ByPort["http"], r), Refs{})
		if full.Version != part.Version {
			t.Fatalf("viewer %+v is sent another assignment than %+v under %+v", v, r, spec.policy)
		}
	}
}

func randomLocality(random *rand.Rand, pick func(...string) string) localityPolicy {
	l := localityPolicy{failover: random.IntN(3) > 0}
	var priority []string
	for range random.IntN(3) {
		priority = append(priority, pick(labelNetwork, labelRegion, labelZone, labelSubzone, labelHostname, labelCluster, "version", "app=svc-0"))
	}
	switch random.IntN(4) {
	case 0:
	case 1:
		l.zoneAware = &networking.ZoneAwareLoadBalancerSetting{
			FailoverPriority: priority, Failover: []*networking.ZoneAwareLoadBalancerSetting_Failover{{From: "us", To: "eu"}},
		}
	case 2:
		l.setting = &networking.LocalityLoadBalancerSetting{Distribute: []*networking.LocalityLoadBalancerSetting_Distribute{
			{From: pick("eu/a", "us/*", "*"), To: map[string]uint32{"eu/a": 70, "eu/b/*": 30}},
		}}
	default:
		l.setting = &networking.LocalityLoadBalancerSetting{FailoverPriority: priority}
		if random.IntN(2) == 0 {
			l.setting.Failover = []*networking.LocalityLoadBalancerSetting_Failover{{From: "us", To: "eu"}}
		}
	}
	return l
}

// BenchmarkClusters makes the clusters of one scope that sees 2,000 services
// with a rule of two subsets each: cold, when nothing changed, and when one
// rule did.
func BenchmarkClusters(b *testing.B) {
	scope := outboundScope(largeMesh(benchServices, 100))
	changed := outboundScope(largeMesh(benchServices, 101))
	b.Run("cold", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			clustersIn(NewTranslator(1<<16), scope)
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		tr := NewTranslator(1 << 16)
		clustersIn(tr, scope)
		b.ReportAllocs()
		for b.Loop() {
			clustersIn(tr, scope)
		}
	})
	b.Run("one rule changed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			tr := NewTranslator(1 << 16)
			clustersIn(tr, scope)
			b.StartTimer()
			clustersIn(tr, changed)
		}
	})
}

// BenchmarkRuleIndex merges 2,000 rules and looks each of them up.
func BenchmarkRuleIndex(b *testing.B) {
	m := largeMesh(benchServices, 100)
	var services []*config.Service
	for s := range m.Services.All() {
		services = append(services, s)
	}
	b.ReportAllocs()
	for b.Loop() {
		ix := &Index{mesh: m, destinationRules: destinationRuleIndex{}.next(m, &config.Mesh{})}
		for _, s := range services {
			ix.ruleFor(s, "ns-1", nil)
		}
	}
}

// BenchmarkEndpoints makes one assignment of 1,000 endpoints in three zones.
func BenchmarkEndpoints(b *testing.B) {
	scope := outboundScope(largeMesh(1, 1))
	built := clustersIn(NewTranslator(10), scope)
	spec := &built.endpoints[0]
	eps := &config.Endpoints{ID: spec.Service, ByPort: map[string][]config.Endpoint{}}
	for i := range 1000 {
		eps.ByPort["http"] = append(eps.ByPort["http"], config.Endpoint{
			Address: fmt.Sprintf("10.0.%d.%d", i/250, i%250), Port: 8080, Workload: "w", Namespace: "ns-0",
			Locality: config.Locality{Region: "eu", Zone: string(rune('a' + i%3))},
		})
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		eps.Hash = config.Hash(i)
		NewTranslator(1).Endpoints(spec, eps, Viewer{Locality: config.Locality{Region: "eu", Zone: "a"}})
	}
}
