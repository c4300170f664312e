package translate

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// disableTranslation on a Service keeps Gateway ports from being mapped to its
// target ports.
const disableTranslation = "experimental.istio.io/disable-gateway-port-translation"

// gatewayMerge settles what the servers of all Gateways of a workload come to.
// Gateways are added in order of precedence; of servers that cannot share a
// port the earlier one stays.
type gatewayMerge struct {
	services []*config.Service // that select the workload, the oldest first
	names    map[string]string // container ports
	ports    map[socketKey]*mergedPort
	order    []*mergedPort
	problems []config.Problem
}

type mergedPort struct {
	GatewayPort
	kind serverKind
	sni  map[string]*GatewayServer // hosts of servers with TLS
}

// serverKind is what of a port a server needs for itself.
type serverKind int

const (
	plainHTTP serverKind = iota // shares with others of its kind
	plainTCP                    // shares with none
	overTLS                     // shares with others of its kind, by SNI
)

func kindOf(s *networking.Server) serverKind {
	p := config.ParseProtocol(s.GetPort().GetProtocol())
	switch {
	case p.IsHTTP():
		return plainHTTP
	case s.GetTls() == nil:
		return plainTCP
	}
	return overTLS
}

// terminates reports whether the server takes TLS off; passThrough that it
// forwards it.
func terminates(t *networking.ServerTLSSettings) bool { return t != nil && !passesThrough(t) }

func passesThrough(t *networking.ServerTLSSettings) bool {
	return t != nil && (t.GetMode() == networking.ServerTLSSettings_PASSTHROUGH ||
		t.GetMode() == networking.ServerTLSSettings_AUTO_PASSTHROUGH)
}

func newGatewayMerge(services []*config.Service, names map[string]string) *gatewayMerge {
	return &gatewayMerge{
		services: services, names: names,
		ports: map[socketKey]*mergedPort{},
	}
}

func (m *gatewayMerge) addAll(gateways []*settledGateway) {
	n := 0
	for _, gw := range gateways {
		n += len(gw.servers)
	}
	own := make([]GatewayServer, 0, n)
	for _, gw := range gateways {
		own = append(own, gw.servers...)
	}
	for i := range own {
		m.addServer(&own[i])
	}
}

func (m *gatewayMerge) addServer(g *GatewayServer) {
	key := socketKey{g.Spec.GetBind(), m.listenPort(g.Spec.GetPort().GetNumber())}
	if key.address == "0.0.0.0" || key.address == "::" {
		key.address = ""
	}
	g.Route = tableName(g, key.port)
	p := m.ports[key]
	if p == nil {
		p = &mergedPort{
			GatewayPort: GatewayPort{Bind: key.address, Port: key.port}, kind: g.kind, sni: map[string]*GatewayServer{},
		}
	}
	if g.kind == plainHTTP {
		for _, s := range p.Servers {
			if s.kind == plainHTTP {
				g.Route = s.Route
				break
			}
		}
	}
	if !m.fits(p, g) {
		return
	}
	if g.kind == overTLS {
		for _, h := range g.Hosts {
			p.sni[h.Host] = g
		}
		// Envoy's QUIC does not ask for client certificates: a server that
		// wants them must not be reachable without.
		mode := g.Spec.GetTls().GetMode()
		g.HTTP3 = g.Route != "" && mode == networking.ServerTLSSettings_SIMPLE && m.servesUDP(g.Spec.GetPort().GetNumber())
	}
	p.Servers = append(p.Servers, g)
	if m.ports[key] == nil {
		m.ports[key] = p
		m.order = append(m.order, p)
	}
}

// fits reports whether a server can join a port, and why not as a Problem.
func (m *gatewayMerge) fits(p *mergedPort, g *GatewayServer) bool {
	kind := g.kind
	if len(p.Servers) > 0 {
		first := p.Servers[0]
		// Plain requests beside TLS can be told apart; Istio takes them where
		// the TLS server came first.
		besideTLS := p.kind == overTLS && kind == plainHTTP
		if kind != p.kind && !besideTLS {
			m.refuse(g, "PortConflict", "protocol %s cannot share port %d with %s, which speaks %s",
				g.Spec.GetPort().GetProtocol(), p.Port, nameOfServer(first), first.Spec.GetPort().GetProtocol())
			return false
		}
		if kind == plainTCP {
			m.refuse(g, "PortConflict", "port %d is taken by %s: TCP connections carry nothing that could tell the two apart",
				p.Port, nameOfServer(first))
			return false
		}
	}
	if kind != overTLS {
		return true
	}
	for i, h := range g.Hosts {
		if other := p.sni[h.Host]; other != nil {
			m.refuseAt(g, fmt.Sprintf("%s.hosts[%d]", g.Field(), i), "DuplicateTLSHost",
				"host %q on port %d is served by %s already: one name can have one certificate only", h.Host, p.Port, nameOfServer(other))
			return false
		}
	}
	return true
}

func (m *gatewayMerge) refuse(g *GatewayServer, code, format string, args ...any) {
	m.refuseAt(g, g.Field()+".port", code, format, args...)
}

func (m *gatewayMerge) refuseAt(g *GatewayServer, field, code, format string, args ...any) {
	m.problems = append(m.problems, config.At(&g.Gateway.Meta, field, config.Error, code,
		format+". The server is not in effect; the older one stays", args...))
}

// nameOfServer is "server N (name) of Gateway ns/name", for messages.
func nameOfServer(g *GatewayServer) string {
	name := ""
	if n := cmp.Or(g.Spec.GetName(), g.Spec.GetPort().GetName()); n != "" {
		name = " (" + n + ")"
	}
	return fmt.Sprintf("server %d%s of %s", g.Index, name, g.Gateway.Key)
}

// listenPort maps a server's port to what the proxy listens on: the target
// port of the oldest Service that has the port and selects the workload.
func (m *gatewayMerge) listenPort(number uint32) uint32 {
	for _, svc := range m.services {
		if _, ok := svc.Labels[disableTranslation]; ok {
			continue
		}
		for _, sp := range svc.Ports {
			if sp.Number != number || sp.Protocol == config.ProtocolUDP {
				continue
			}
			if t := targetPort(sp, m.names); t != 0 {
				return t
			}
		}
	}
	return number
}

// servesUDP reports whether the gateway's Service lets UDP in on a port, as
// HTTP/3 needs it.
func (m *gatewayMerge) servesUDP(number uint32) bool {
	return slices.ContainsFunc(m.services, func(svc *config.Service) bool {
		return slices.ContainsFunc(svc.Ports, func(p config.ServicePort) bool {
			return p.Number == number && p.Protocol == config.ProtocolUDP
		})
	})
}

func (m *gatewayMerge) merged() []GatewayPort {
	out := make([]GatewayPort, 0, len(m.order))
	for _, p := range m.order {
		out = append(out, p.GatewayPort)
	}
	slices.SortStableFunc(out, func(a, b GatewayPort) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), strings.Compare(a.Bind, b.Bind))
	})
	return out
}

// tableName is the name of a server's RouteConfiguration. HTTP servers of a
// port share one; each HTTPS server has its own, since its certificate covers
// its own hosts only.
func tableName(g *GatewayServer, listenPort uint32) string {
	if !g.protocol.IsHTTP() {
		return g.ownTable
	}
	return "http." + strconv.FormatUint(uint64(listenPort), 10) + bindSuffix(g)
}

func ownTable(g *GatewayServer) string {
	if g.protocol != config.ProtocolHTTPS || !terminates(g.Spec.GetTls()) {
		return ""
	}
	return "https." + strconv.FormatUint(uint64(g.Spec.GetPort().GetNumber()), 10) + "." +
		g.Spec.GetPort().GetName() + "." + g.Gateway.Name + "." + g.Gateway.Namespace + bindSuffix(g)
}

func bindSuffix(g *GatewayServer) string {
	if bind := g.Spec.GetBind(); bind != "" {
		return "." + bind
	}
	return ""
}
