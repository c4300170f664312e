package up

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// gatewayPort is one port that a gateway serves.
type gatewayPort struct {
	Gateway
	forward *forwarder
}

// Gateway is where one port of a gateway can be reached from this machine.
type Gateway struct {
	// Names are the Gateway objects served there, namespace/name.
	Names []string
	Pod   string // namespace/name
	// Port and Protocol are those of the Gateway's server.
	Port     uint32
	Protocol config.Protocol
	Address  string // 127.0.0.1:port
}

// URL is the address for a browser; empty for what is not HTTP.
func (g *Gateway) URL() string {
	switch g.Protocol {
	case config.ProtocolHTTP, config.ProtocolHTTP2, config.ProtocolGRPC, config.ProtocolGRPCWeb:
		return "http://" + g.Address
	case config.ProtocolHTTPS:
		return "https://" + g.Address
	}
	return ""
}

// aimGateways makes every port that a gateway of the mesh serves reachable.
// An address stays the same as long as the gateway serves the port.
func (m *Mesh) aimGateways(mesh *config.Mesh) {
	index := translate.NewIndex(mesh)
	var want []*gatewayPort
	for _, p := range m.podList() {
		if p.plan.role != gateway {
			continue
		}
		for _, port := range servedBy(index, p) {
			g, err := m.aim(p, port)
			if err != nil {
				m.options.Note(fmt.Sprintf("%s: port %d cannot be reached: %v", p.plan.key(), port.Port, err))
				continue
			}
			want = append(want, g)
		}
	}
	m.mu.Lock()
	var gone []*gatewayPort
	for _, g := range m.gateways {
		if !slices.ContainsFunc(want, func(w *gatewayPort) bool { return w.forward == g.forward }) {
			gone = append(gone, g)
		}
	}
	m.gateways = want
	m.mu.Unlock()
	for _, g := range gone {
		g.forward.close()
	}
}

// servedPort is one port of a gateway, and where the proxy binds it.
type servedPort struct {
	Gateway
	bound uint32
}

func servedBy(index *translate.Index, p *pod) []servedPort {
	proxy := &config.Proxy{
		Type: config.Router, IPs: p.node.IPs, Name: p.node.Name, Namespace: p.node.Namespace,
		Labels: p.node.Labels, Interception: config.Interception(p.node.Interception), Local: (*config.LocalAddresses)(p.node.Local),
		DNSDomain: p.node.Namespace + ".svc." + p.node.DomainSuffix,
	}
	var out []servedPort
	for _, class := range index.Classes(proxy) {
		for _, port := range index.Scope(class).Gateways {
			s := servedPort{bound: port.Port}
			s.Pod = p.plan.key()
			for _, server := range port.Servers {
				s.Port = server.Spec.GetPort().GetNumber()
				s.Protocol = config.ParseProtocol(server.Spec.GetPort().GetProtocol())
				name := server.Gateway.Namespace + "/" + server.Gateway.Name
				if !slices.Contains(s.Names, name) {
					s.Names = append(s.Names, name)
				}
			}
			if l := p.node.Local; l != nil && s.bound < 1024 {
				s.bound += l.PortBase
			}
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b servedPort) int { return cmp.Compare(a.Port, b.Port) })
	return out
}

func (m *Mesh) aim(p *pod, s servedPort) (*gatewayPort, error) {
	to := netip.AddrPortFrom(p.place.addr, uint16(s.bound)) //nolint:gosec // a port
	m.mu.Lock()
	for _, have := range m.gateways {
		if have.Pod == s.Pod && have.Port == s.Port {
			m.mu.Unlock()
			have.forward.aim(p.place, to)
			return &gatewayPort{Gateway{s.Names, s.Pod, s.Port, s.Protocol, have.Address}, have.forward}, nil
		}
	}
	m.mu.Unlock()
	f, err := forward("127.0.0.1:0", p.place, to)
	if err != nil {
		return nil, err
	}
	s.Address = f.address()
	g := &gatewayPort{s.Gateway, f}
	what := g.URL()
	if what == "" {
		what = g.Address
	}
	m.options.Note(fmt.Sprintf("  %s port %d (%v): %s", s.Pod, s.Port, s.Names, what))
	return g, nil
}

// Gateways are the gateways' ports.
func (m *Mesh) Gateways() []Gateway {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Gateway, len(m.gateways))
	for i, g := range m.gateways {
		out[i] = g.Gateway
	}
	return out
}

// Gateway returns the address, host:port on this machine, of a Gateway object
// (namespace/name, or name alone) or of a gateway's pod. port is the
// server's, 0 for the first.
func (m *Mesh) Gateway(name string, port uint32) (string, error) {
	g, err := m.gatewayNamed(name, port)
	if err != nil {
		return "", err
	}
	return g.Address, nil
}

func (m *Mesh) gatewayNamed(name string, port uint32) (*gatewayPort, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range m.gateways {
		named := g.Pod == name || slices.ContainsFunc(g.Names, func(n string) bool { return n == name || afterSlash(n) == name })
		if named && (port == 0 || g.Port == port) {
			return g, nil
		}
	}
	return nil, fmt.Errorf("no gateway %q serves port %d", name, port)
}

// DialGateway connects to a gateway's port, named as for Gateway, as a client
// outside that has an address. ErrNoSuchClient if there can be none.
func (m *Mesh) DialGateway(ctx context.Context, name string, port uint32, source netip.Addr) (net.Conn, error) {
	g, err := m.gatewayNamed(name, port)
	if err != nil {
		return nil, err
	}
	return m.ground.dialFrom(ctx, source, g.forward.target())
}

// ClientsHaveAddresses reports whether DialGateway takes any source.
func (m *Mesh) ClientsHaveAddresses() bool { return m.ground.interception() != config.NoneMode }
