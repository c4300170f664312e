package translate

import (
	"slices"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// gatewayListeners makes one listener for each address and port that the
// gateway serves, and one over QUIC where servers of it speak HTTP/3.
func (b *build) gatewayListeners() {
	g := &gateway{b: b, env: newListenerEnv(b.scope), dynamic: dynamicHosts(b.scope.Egress)}
	for i := range b.scope.Gateways {
		p := &b.scope.Gateways[i]
		if !g.env.canBind(p.Port, true) {
			g.cannotBind(p)
			continue
		}
		g.emit(p, g.tcpChains(p), false)
		g.emit(p, g.quicChains(p), true)
		g.askForTables(p)
	}
}

type gateway struct {
	b       *build
	env     listenerEnv
	dynamic []string
}

func (g *gateway) emit(p *GatewayPort, chains []*chain, quic bool) {
	chains = g.b.withoutOverlap(chains)
	if len(chains) == 0 {
		return
	}
	g.env.emit(g.b, &draft{
		socket: socket{
			addresses: g.addressesOf(p), port: p.Port, bound: g.env.bindPort(p.Port, true), real: true, quic: quic,
		},
		direction: core.TrafficDirection_OUTBOUND,
		chains:    chains,
	})
}

func (g *gateway) addressesOf(p *GatewayPort) []string {
	switch {
	case p.Bind != "":
		return []string{p.Bind}
	case g.env.traits.Local.Outbound != "":
		return []string{g.env.traits.Local.Outbound}
	}
	return g.env.wildcards()
}

func (g *gateway) tcpChains(p *GatewayPort) []*chain {
	out := make([]*chain, 0, len(p.Servers))
	var plain *chain
	stats := g.statPrefix(p)
	for _, s := range p.Servers {
		before := len(out)
		switch tls := s.Spec.GetTls(); {
		case g.lacksCertificate(s):
			g.withoutCertificate(s)
			continue
		case s.kind == plainHTTP:
			if plain == nil {
				plain = &chain{http: g.httpChainOf(stats, s), source: &s.Gateway.Meta}
			}
		case s.Route != "":
			if c := g.httpsChain(stats, s); c != nil {
				out = append(out, c)
			}
		case tls.GetMode() == networking.ServerTLSSettings_AUTO_PASSTHROUGH && passesThrough(tls):
			out = append(out, g.sniClusterChains(s)...)
		case passesThrough(tls):
			out = append(out, g.passthroughChains(s)...)
		default:
			out = append(out, g.forwardChain(s)...)
		}
		if len(out) == before && s.kind != plainHTTP && s.Route == "" && s.Spec.GetTls().GetMode() != networking.ServerTLSSettings_AUTO_PASSTHROUGH {
			g.withoutRoute(s)
		}
	}
	if plain != nil {
		if len(out) > 0 {
			plain.match.transport = rawBuffer
		}
		out = append(out, plain)
	}
	return out
}

func (g *gateway) quicChains(p *GatewayPort) []*chain {
	var out []*chain
	for _, s := range p.Servers {
		if !s.HTTP3 {
			continue
		}
		if c := g.httpsChain(g.statPrefix(p), s); c != nil {
			c.http.http3 = true
			c.tls = terminationOf(s)
			c.tls.alpn, c.origin = []string{"h3"}, 0
			out = append(out, c)
		}
	}
	return out
}

// statPrefix is that of a port's servers without a name.
func (g *gateway) statPrefix(p *GatewayPort) string {
	sock := socket{addresses: g.addressesOf(p), port: p.Port}
	return "outbound_" + sock.listenerName()
}

func (g *gateway) httpChainOf(stats string, s *GatewayServer) *httpChain {
	return &httpChain{routes: s.Route, statPrefix: stats, from: GatewaySide, protocol: s.protocol, dynamic: g.dynamic}
}

// httpsChain is the chain of a server that takes TLS off requests, nil if no name
// leads to it.
func (g *gateway) httpsChain(stats string, s *GatewayServer) *chain {
	var c chain
	if s.chain != nil {
		c = *s.chain
	} else {
		sni, ok := g.sniOf(s)
		if !ok {
			return nil
		}
		c = chain{match: chainMatch{sni: sni}, tls: terminationOf(s), source: &s.Gateway.Meta}
	}
	c.http = g.httpChainOf(stats, s)
	if n := s.Spec.GetName(); n != "" {
		c.http.statPrefix = n
	}
	return &c
}

// terminationOf is the TLS that a server takes off.
func terminationOf(s *GatewayServer) *tlsTermination {
	return &tlsTermination{spec: s.Spec.GetTls(), alpn: []string{"h2", "http/1.1"}, origin: s.content}
}

// sniOf are the names that choose the server; none where it takes every name.
func (g *gateway) sniOf(s *GatewayServer) (names []string, ok bool) {
	return g.b.sniNames(&s.Gateway.Meta, s.Field()+".hosts", s.hostNames())
}

// askForTables asks for the routes of the port's servers, each table once.
func (g *gateway) askForTables(p *GatewayPort) {
	places := make(map[string]int, len(p.Servers))
	g.b.tables = slices.Grow(g.b.tables, len(p.Servers))
	for i, s := range p.Servers {
		if s.Route == "" || g.lacksCertificate(s) {
			continue
		}
		if at, ok := places[s.Route]; ok {
			t := &g.b.tables[at]
			t.Servers = append(t.Servers, s)
			continue
		}
		places[s.Route] = len(g.b.tables)
		g.b.tables = append(g.b.tables, routeTable{
			Name: s.Route, Port: s.Spec.GetPort().GetNumber(), Servers: p.Servers[i : i+1 : i+1],
		})
	}
}

// lacksCertificate reports whether the server takes the gateway's own
// certificate, which it does not have.
func (g *gateway) lacksCertificate(s *GatewayServer) bool {
	return !g.env.traits.Certificates && s.Spec.GetTls().GetMode() == networking.ServerTLSSettings_ISTIO_MUTUAL
}

func (g *gateway) cannotBind(p *GatewayPort) {
	s := p.Servers[0]
	g.b.problems = append(g.b.problems, config.At(&s.Gateway.Meta, s.Field()+".port.number", config.Warning, "PrivilegedPort",
		"the gateway may not bind port %d, which is below 1024, so it does not listen there. Map the port to a higher targetPort in the gateway's Service, or let the pod bind low ports", p.Port))
}

func (g *gateway) withoutCertificate(s *GatewayServer) {
	g.b.problems = append(g.b.problems, config.At(&s.Gateway.Meta, s.Field()+".tls.mode", config.Warning, "CertificateMissing",
		"is ISTIO_MUTUAL, but nobody serves certificates to a gateway that it selects: the server does not listen there. Give the gateway an agent, or use another mode"))
}

// withoutRoute reports a server whose connections have nowhere to go.
func (g *gateway) withoutRoute(s *GatewayServer) {
	kind := "tcp"
	if passesThrough(s.Spec.GetTls()) {
		kind = "tls"
	}
	g.b.problems = append(g.b.problems, config.At(&s.Gateway.Meta, s.Field(), config.Warning, "ServerWithoutRoute",
		"no VirtualService with a %s route names Gateway %s/%s and a host of this server: it does not listen. Add the route, or remove the server",
		kind, s.Gateway.Namespace, s.Gateway.Name))
}

// forwardChain forwards the connections of a TCP server, or of one that takes
// TLS off: by the first VirtualService with a tcp route for it.
func (g *gateway) forwardChain(s *GatewayServer) []*chain {
	egress := g.b.scope.Egress[0]
	for _, vs := range s.VirtualServices {
		for _, r := range vs.Spec.GetTcp() {
			if len(r.GetRoute()) == 0 || !g.takesTCP(vs, r, s) {
				continue
			}
			c := &chain{
				tcp: g.b.routedTo(egress, vs, r.GetRoute(), s.Spec.GetPort().GetNumber()), source: &vs.Meta,
			}
			if tls := s.Spec.GetTls(); tls != nil {
				sni, ok := g.sniOf(s)
				if !ok {
					return nil
				}
				c.match.sni = sni
				c.tls = terminationOf(s)
			}
			return []*chain{c}
		}
	}
	return nil
}

func (g *gateway) takesTCP(vs *SettledVirtualService, r *networking.TCPRoute, s *GatewayServer) bool {
	return len(r.GetMatch()) == 0 || slices.ContainsFunc(r.GetMatch(), func(m *networking.L4MatchAttributes) bool {
		return g.applies(vs, tcpClient(m), s)
	})
}

// applies tests what of a match concerns a gateway: its port and which
// Gateway it is. A gateway's clients have no labels.
func (g *gateway) applies(vs *SettledVirtualService, m clientMatch, s *GatewayServer) bool {
	name := s.Gateway.Namespace + "/" + s.Gateway.Name
	return (m.port == 0 || m.port == s.Spec.GetPort().GetNumber()) &&
		(len(m.gateways) == 0 || slices.Contains(fullGateways(m.gateways, vs.Namespace), name))
}

// passthroughChains forward TLS as it is, by the SNI that VirtualServices' tls
// routes name.
func (g *gateway) passthroughChains(s *GatewayServer) []*chain {
	egress := g.b.scope.Egress[0]
	var out []*chain
	for _, vs := range s.VirtualServices {
		for _, r := range vs.Spec.GetTls() {
			if len(r.GetRoute()) == 0 {
				continue
			}
			for _, m := range r.GetMatch() {
				if !g.applies(vs, tlsClient(m), s) {
					continue
				}
				if sni, ok := g.b.sniNames(&vs.Meta, "spec.tls", m.GetSniHosts()); ok {
					out = append(out, &chain{
						match: chainMatch{sni: sni},
						tcp:   g.b.routedTo(egress, vs, r.GetRoute(), s.Spec.GetPort().GetNumber()), source: &vs.Meta,
					})
				}
			}
		}
	}
	return out
}

// sniClusterChains forward mesh TLS between networks: the SNI names the
// cluster. Only mesh TLS is let through, which the ALPN tells.
func (g *gateway) sniClusterChains(s *GatewayServer) []*chain {
	var out []*chain
	for _, v := range g.b.scope.Egress[0].Services {
		if v.External || isWildcard(v.Hostname) || !slices.ContainsFunc(s.Hosts, func(h ServerHost) bool {
			shared, ok := meet(h.Host, v.Hostname)
			return ok && shared == v.Hostname
		}) {
			continue
		}
		for _, p := range v.InReach {
			if p.Protocol == config.ProtocolUDP {
				continue
			}
			subsets := []string{""}
			if v.Rule != nil {
				for _, sub := range v.Rule.Spec.GetSubsets() {
					subsets = append(subsets, sub.GetName())
				}
			}
			for _, sub := range subsets {
				name := SNICluster(p.Number, sub, v.Hostname)
				t := toCluster(name)
				g.b.tcpPolicy(t, v, sub)
				t.tunnel = nil
				out = append(out, &chain{match: chainMatch{sni: []string{name}, alpn: meshALPN}, tcp: t, source: &v.Meta})
			}
		}
	}
	return out
}
