package translate

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// TestGatewayListenersFollowChanges draws changes of gateways with so many HTTPS
// servers that their filter chains and tables are remembered one by one, and holds
// that what a Translator with a past makes is what a new one does.
func TestGatewayListenersFollowChanges(t *testing.T) {
	draw := rand.New(rand.NewPCG(5, 6))
	pick := func(list ...string) string { return list[draw.IntN(len(list))] }
	server := func(i int) *networking.Server {
		s := tlsServer(i)
		s.Name = pick("", "", fmt.Sprintf("server-%d", i))
		s.Hosts = []string{hostName(i), pick("a.example.com", "*."+hostName(i), "*x.example.com", "*")}[:1+draw.IntN(2)]
		s.Port.Name = fmt.Sprintf("https-%d", draw.IntN(2)*1000+i)
		s.Tls.Mode = []networking.ServerTLSSettings_TLSmode{
			networking.ServerTLSSettings_SIMPLE, networking.ServerTLSSettings_MUTUAL, networking.ServerTLSSettings_ISTIO_MUTUAL,
		}[draw.IntN(3)]
		s.Tls.CredentialName = fmt.Sprintf("cert-%d", draw.IntN(3))
		return s
	}
	m := hostsMesh(manyTLS, 40)
	pass := tlsServer(200)
	pass.Hosts, pass.Port.Protocol, pass.Tls = []string{"*"}, "TLS", &networking.ServerTLSSettings{Mode: networking.ServerTLSSettings_PASSTHROUGH}
	b := config.NewBuilder(m)
	putGateways(b, gatewayObject("first", pass))
	m = b.Mesh()
	tr := NewTranslator(1 << 12)
	for step := range 120 {
		b := config.NewBuilder(m)
		i := draw.IntN(40)
		switch draw.IntN(7) {
		case 0: // many servers in one
			var servers []*networking.Server
			for n := range 6 + draw.IntN(3) {
				servers = append(servers, server(100+n))
			}
			gw := gatewayObject("many", servers...)
			gw.File, gw.Line = "gateways.yaml", 1+draw.IntN(2)
			gw.Hash = config.NewHasher().Hash(gw.Hash).Uint(uint64(gw.Line)).Sum()
			putGateways(b, gw)
		case 1: // with UDP the gateway speaks HTTP/3, too
			svc := service("ns-0", "gateway", 443)
			svc.Selector = map[string]string{"istio": "ingressgateway"}
			svc.Ports[0].TargetPort = uint32(8443 + draw.IntN(2))
			if draw.IntN(2) == 0 {
				udp := svc.Ports[0]
				udp.Name, udp.Protocol = "quic", config.ProtocolUDP
				svc.Ports = append(svc.Ports, udp)
			}
			svc.Hash = config.NewHasher().Hash(svc.Hash).Uint(uint64(step)).Sum()
			putServices(b, svc)
		case 2:
			putHost(b, manyTLS, i)
		case 3: // takes a name that servers with a certificate may have, too
			putVirtualServices(b, virtualService("ns-0", "first", &networking.VirtualService{
				Hosts: []string{"*.example.com"}, Gateways: []string{"first"},
				Tls: []*networking.TLSRoute{{
					Match: []*networking.TLSMatchAttributes{{SniHosts: []string{pick("a.example.com", hostName(i))}}},
					Route: []*networking.RouteDestination{{Destination: &networking.Destination{Host: "svc-0.ns-0.svc.cluster.local"}}},
				}},
			}))
		default:
			gw := gatewayObject(fmt.Sprintf("host-%d", i), server(i))
			gw.Spec.Selector = map[string]string{"istio": pick("ingressgateway", "ingressgateway", "other")}
			gw.Hash = config.NewHasher().Hash(gw.Hash).Proto(gw.Spec).Sum()
			putGateways(b, gw)
		}
		m = b.Mesh()
		class := Class{Side: GatewaySide, Namespace: "ns-0", Labels: "istio=ingressgateway"}
		class.Traits.Certificates = draw.IntN(2) == 0
		got := tr.Translate(tr.Index(m).Scope(class))
		want := NewTranslator(1 << 12).Translate(NewIndex(m).Scope(class))
		for _, sets := range [][2]*Set{{got.Listeners, want.Listeners}, {got.Routes, want.Routes}} {
			same := slices.EqualFunc(sets[0].Items(), sets[1].Items(), func(a, b *Resource) bool {
				return a.Name == b.Name && a.Version == b.Version && bytes.Equal(a.Bytes(), b.Bytes()) &&
					slices.EqualFunc(a.Sources, b.Sources, func(x, y *config.Meta) bool { return x.Key == y.Key && x.Line == y.Line })
			})
			if !same {
				t.Fatalf("step %d: what was made after changes differs from what a new Translator makes", step)
			}
		}
		if !slices.Equal(got.Problems, want.Problems) {
			t.Fatalf("step %d: problems %v, want %v", step, got.Problems, want.Problems)
		}
		if want.Listeners.Len() == 0 || want.Routes.Len() < fewChains {
			t.Fatalf("step %d: %d listeners and %d tables", step, want.Listeners.Len(), want.Routes.Len())
		}
	}
}
