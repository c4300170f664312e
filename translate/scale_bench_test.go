package translate

import (
	"fmt"
	"testing"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// hostLayout is how a gateway's many hosts are written down.
type hostLayout int

const (
	oneGateway     hostLayout = iota // one Gateway for every host, a VirtualService each
	manyGateways                     // a Gateway and a VirtualService each, HTTP
	manyTLS                          // the same over HTTPS: a filter chain and a table each
	oneManyServers                   // one Gateway with an HTTPS server each
)

func (l hostLayout) String() string {
	return [...]string{"one Gateway", "a Gateway each", "an HTTPS Gateway each", "an HTTPS server each"}[l]
}

// hostsMesh is a mesh with a gateway of n hosts, which lead to 500 services.
func hostsMesh(l hostLayout, n int) *config.Mesh {
	b := config.NewBuilder(nil)
	for i := range 500 {
		putServices(b, service(fmt.Sprintf("ns-%d", i%10), fmt.Sprintf("svc-%d", i), 80))
	}
	if l == oneGateway {
		putGateways(b, gatewayObject("gw", &networking.Server{Port: &networking.Port{Number: 80, Name: "http", Protocol: "HTTP"}, Hosts: []string{"*"}}))
	}
	m := b.Mesh()
	for i := range n {
		b = config.NewBuilder(m)
		putHost(b, l, i)
		m = b.Mesh()
		if i == 0 && l == oneManyServers {
			break
		}
	}
	if l == oneManyServers {
		b = config.NewBuilder(m)
		for i := range n {
			putHost(b, oneGateway, i)
		}
		putGateways(b, gatewayOf(n))
		m = b.Mesh()
	}
	return m
}

func gatewayOf(n int) *config.Gateway {
	servers := make([]*networking.Server, n)
	for i := range servers {
		servers[i] = tlsServer(i)
	}
	return gatewayObject("gw", servers...)
}

func tlsServer(i int) *networking.Server {
	return &networking.Server{
		Port: &networking.Port{Number: 443, Name: fmt.Sprintf("https-%d", i), Protocol: "HTTPS"}, Hosts: []string{hostName(i)},
		Tls: &networking.ServerTLSSettings{Mode: networking.ServerTLSSettings_SIMPLE, CredentialName: fmt.Sprintf("cert-%d", i)},
	}
}

func hostName(i int) string { return fmt.Sprintf("host-%d.example.com", i) }

// putHost adds one more host.
func putHost(b *config.Builder, l hostLayout, i int) {
	name, gw := fmt.Sprintf("host-%d", i), "gw"
	switch l {
	case manyGateways:
		gw = name
		putGateways(b, gatewayObject(name, &networking.Server{Port: &networking.Port{Number: 80, Name: "http", Protocol: "HTTP"}, Hosts: []string{hostName(i)}}))
	case manyTLS:
		gw = name
		putGateways(b, gatewayObject(name, tlsServer(i)))
	case oneManyServers:
		putGateways(b, gatewayOf(i+1))
	}
	to := fmt.Sprintf("svc-%d.ns-%d.svc.cluster.local", i%500, i%10)
	putVirtualServices(b, virtualService("ns-0", name, &networking.VirtualService{
		Hosts: []string{hostName(i)}, Gateways: []string{gw},
		Http: []*networking.HTTPRoute{{Route: []*networking.HTTPRouteDestination{{Destination: &networking.Destination{Host: to}}}}},
	}))
}

func gatewayObject(name string, servers ...*networking.Server) *config.Gateway {
	spec := &networking.Gateway{Servers: servers}
	return &config.Gateway{
		Meta: config.Meta{
			Key:  config.Key{Group: "networking.istio.io", Kind: "Gateway", Namespace: "ns-0", Name: name},
			Hash: config.NewHasher().Str(name).Proto(spec).Sum(),
		},
		Spec: spec,
	}
}

func putGateways(b *config.Builder, list ...*config.Gateway) {
	for _, g := range list {
		config.Put(b, func(m *config.Mesh) *config.Index[*config.Gateway] { return &m.Gateways }, g)
	}
}

// BenchmarkGatewayNewHost is the cost of one more host of a gateway that has
// 5,000: what is in effect, the Index, the scope and its resources.
func BenchmarkGatewayNewHost(b *testing.B) {
	const n = 5000
	for _, l := range []hostLayout{oneGateway, manyGateways, manyTLS, oneManyServers} {
		b.Run(l.String(), func(b *testing.B) {
			m := hostsMesh(l, n)
			tr := NewTranslator(1 << 17)
			var effect *Effect
			step := func(m *config.Mesh) {
				effect = effect.Follow(m, tr.Index)
				s := tr.Index(effect.Mesh()).Scope(Class{Side: GatewaySide, Namespace: "ns-0"})
				r := tr.Translate(s)
				if r.Routes.Len() == 0 || len(r.Problems) > 0 {
					b.Fatal(r.Routes.Len(), r.Problems)
				}
			}
			step(m)
			b.ReportAllocs()
			i := n
			for b.Loop() {
				next := config.NewBuilder(m)
				putHost(next, l, i)
				m = next.Mesh()
				step(m)
				i++
			}
		})
	}
}

// BenchmarkIndex is the cost of arranging a Mesh of 20,000 services in 400
// namespaces after one of the parts of it that clients read has changed.
func BenchmarkIndex(b *testing.B) {
	for _, c := range []struct{ services, routes int }{{500, 500}, {20_000, 0}, {20_000, 20_000}} {
		b.Run(fmt.Sprintf("%d services, %d routes", c.services, c.routes), func(b *testing.B) {
			m := meshOf(c.services, c.routes)
			tr := NewTranslator(1 << 17)
			tr.Index(m).Scope(shopClass("ns-1"))
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				next := config.NewBuilder(m)
				putVirtualServices(next, virtualService("ns-1", "edit", canarySpec("svc-1", int32(i%90))))
				m = next.Mesh()
				tr.Index(m)
				i++
			}
		})
	}
}

// meshOf has services in namespaces of 50, some with a VirtualService and a DestinationRule.
func meshOf(services, routes int) *config.Mesh {
	b := config.NewBuilder(nil)
	namespaces := max(services/50, 1)
	for i := range services {
		ns, name := fmt.Sprintf("ns-%d", i%namespaces), fmt.Sprintf("svc-%d", i)
		putServices(b, service(ns, name, 80))
		if i < routes {
			putVirtualServices(b, virtualService(ns, name, canarySpec(name, 90)))
		}
	}
	return b.Mesh()
}

// BenchmarkScopesAfterChange is the cost of finding out which classes of a replica
// a changed route concerns: 20,000 services in 400 namespaces that see themselves
// only, and proxies of half of the services.
func BenchmarkScopesAfterChange(b *testing.B) {
	const services, namespaces = 20_000, 400
	next := config.NewBuilder(meshOf(services, services))
	for i := range namespaces {
		ns := fmt.Sprintf("ns-%d", i)
		config.Put(next, func(m *config.Mesh) *config.Index[*config.SidecarScope] { return &m.Sidecars }, &config.SidecarScope{
			Meta: config.Meta{Key: config.Key{Kind: "Sidecar", Namespace: ns, Name: "default"}, Hash: 1},
			Spec: &networking.Sidecar{Egress: []*networking.IstioEgressListener{{Hosts: []string{"./*"}}}},
		})
	}
	m := next.Mesh()
	var outbound, inbound []Class
	for i := range services / 2 {
		if i < namespaces {
			outbound = append(outbound, shopClass(fmt.Sprintf("ns-%d", i)))
		}
		c := shopClass(fmt.Sprintf("ns-%d", i%namespaces))
		c.Side, c.Labels = Inbound, fmt.Sprintf("app=svc-%d", i)
		inbound = append(inbound, c)
	}
	for _, side := range []struct {
		name    string
		classes []Class
	}{{"outbound", outbound}, {"inbound", inbound}} {
		b.Run(side.name, func(b *testing.B) {
			tr := NewTranslator(1)
			keys := make([]config.Hash, len(side.classes))
			changed, i := 0, 0
			step := func() {
				next := config.NewBuilder(m)
				putVirtualServices(next, virtualService("ns-1", "svc-1", canarySpec("svc-1", int32(i%90))))
				m = next.Mesh()
				i++
				ix := tr.Index(m)
				for n, c := range side.classes {
					if key := ix.Scope(c).Key(); key != keys[n] {
						keys[n] = key
						changed++
					}
				}
			}
			step()
			b.ReportAllocs()
			changed = 0
			n := 0
			for b.Loop() {
				step()
				n++
			}
			b.ReportMetric(float64(changed)/float64(n), "changed/op")
		})
	}
}
