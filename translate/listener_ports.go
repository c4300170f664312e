package translate

import (
	"strconv"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// outboundPort is one service port that wants a listener.
type outboundPort struct {
	egress  *Egress
	service *VisibleService
	port    config.ServicePort
	bind    binding
	// own: the address is the service's own, not shared with others.
	own bool
	// cidrs are the destinations it stands for on a wildcard address.
	cidrs []string
	// chosen: a Sidecar's egress listener chose the port, which need not be
	// the service's.
	chosen bool
}

// addPort makes the listeners of one service port. HTTP services share one
// listener a port; the others get one for each of their addresses.
func (o *outbound) addPort(p *outboundPort) {
	if p.bind.primary() != "" || p.port.Protocol.IsHTTP() {
		o.add(p)
		return
	}
	if listensOnEndpoints(p.service.Service) {
		for _, a := range o.b.scope.Headless[p.service.ID()][p.port.Name] {
			q := *p
			q.bind.addresses, q.own = []string{a}, true
			o.add(&q)
		}
		return
	}
	for _, at := range o.addressesOf(p.service) {
		q := *p
		q.bind.addresses, q.cidrs = at.addresses, at.cidrs
		q.own = !o.wildcard(&q)
		o.add(&q)
	}
}

// place is where one listener of a service binds, and which destinations it
// stands for there.
type place struct{ addresses, cidrs []string }

// addressesOf are the places of a service's listeners: one for each virtual
// address, with a Kubernetes Service's second address family as an additional
// address; the wildcard for blocks of addresses and for services without any.
func (o *outbound) addressesOf(v *VisibleService) []place {
	var single, blocks []string
	for _, a := range o.familyOf(v) {
		if ip, ok := singleAddress(a); ok {
			single = append(single, ip)
		} else {
			blocks = append(blocks, a)
		}
	}
	var out []place
	switch {
	case len(single) == 0 && len(blocks) == 0:
		return []place{{addresses: o.env.wildcards()}}
	case v.Kubernetes && len(single) > 0:
		out = append(out, place{addresses: single})
	default:
		for _, ip := range single {
			out = append(out, place{addresses: []string{ip}})
		}
	}
	if len(blocks) > 0 {
		out = append(out, place{addresses: o.env.wildcards(), cidrs: blocks})
	}
	return out
}

// familyOf are the service's addresses in the proxy's address families; all
// of them if it has none there, since a destination is matched whatever the
// proxy itself speaks.
func (o *outbound) familyOf(v *VisibleService) []string {
	all := v.Addresses
	if len(all) == 0 && o.env.traits.DNSCapture {
		all = v.AutoAddresses
	}
	if o.env.traits.DualStack {
		return all
	}
	var out []string
	for _, a := range all {
		if isIPv6(a) == o.env.traits.IPv6Only {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return all
	}
	return out
}

// socketOf is the socket that a port wants. The port that configuration
// names stays in the name.
func (o *outbound) socketOf(p *outboundPort) socket {
	addresses := p.bind.addresses
	if len(addresses) == 0 {
		addresses = o.env.wildcards()
	}
	return socket{
		addresses: addresses, port: p.port.Number,
		bound: o.env.bindPort(p.port.Number, p.bind.real), real: p.bind.real,
	}
}

// wildcard reports whether the port's listener takes every address.
func (o *outbound) wildcard(p *outboundPort) bool {
	return len(p.bind.addresses) == 0 || p.bind.addresses[0] == o.env.wildcards()[0]
}

// httpChainOf is the chain that routes a port's requests, with the table that
// it asks for.
func (o *outbound) httpChainOf(p *outboundPort, s *socket) (*chain, *routeTable) {
	table := &routeTable{Name: strconv.FormatUint(uint64(p.port.Number), 10), Port: p.port.Number, Egress: p.egress}
	switch {
	case p.port.Number == 0:
		table.Name = p.bind.primary() // a Unix domain socket
	case p.port.Protocol == config.ProtocolHTTPProxy:
		table.Port = 0 // the request says which
	case p.port.Protocol == config.ProtocolUnset && p.own:
		table.Name = p.service.Hostname + ":" + table.Name
		table.Only = p.service
	}
	h := &httpChain{
		routes: table.Name, statPrefix: "outbound_" + s.listenerName(), from: Outbound,
		absoluteURLs: p.port.Protocol == config.ProtocolHTTPProxy,
	}
	if p.port.Protocol == config.ProtocolGRPCWeb {
		h.protocol = config.ProtocolGRPCWeb
	}
	h.dynamic = o.dynamic[p.egress]
	return &chain{http: h}, table
}

// sniffed limits a chain to connections that the HTTP inspector recognized.
func sniffed(c *chain) *chain {
	c.match.alpn = plaintextHTTP
	c.match.transport = rawBuffer
	return c
}

func (o *outbound) newDraft(p *outboundPort, s socket) *outboundDraft {
	d := &outboundDraft{
		draft:    draft{socket: s, direction: core.TrafficDirection_OUTBOUND},
		protocol: p.port.Protocol, owner: p.service, ownerProtocol: p.port.Protocol,
	}
	o.at[socketKey{s.addresses[0], s.port}] = d
	o.drafts = append(o.drafts, d)
	return d
}

// addHTTPProxy makes the listener of MeshConfig.proxyHttpPort, for
// applications that are told to use an HTTP proxy.
func (o *outbound) addHTTPProxy() {
	port := usablePort(o.env.mesh.GetProxyHttpPort(), 0)
	if port == 0 || len(o.b.scope.Egress) == 0 {
		return
	}
	bind := binding{addresses: o.env.loopbacks(), real: true}
	if a := o.env.traits.Local.Outbound; a != "" {
		bind.addresses = []string{a}
	}
	p := &outboundPort{
		egress: o.b.scope.Egress[len(o.b.scope.Egress)-1], bind: bind,
		port: config.ServicePort{Number: port, Protocol: config.ProtocolHTTPProxy},
	}
	s := o.socketOf(p)
	if o.at[socketKey{s.addresses[0], s.port}] != nil {
		return
	}
	d := o.newDraft(p, s)
	c, table := o.httpChainOf(p, &s)
	c.http.routes, table.Name = httpProxyRoutes, httpProxyRoutes
	d.take(c)
	d.table = table
}
