package translate

import (
	"slices"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// add gives a port its listener: a new one, or a part of the one that has the
// socket already. The rules are Istio's:
//
//   - HTTP services on one socket share it.
//   - HTTP and TCP on one socket make it sniff: requests are routed, other
//     connections go to the TCP service.
//   - TCP services share a socket only where what they match differs (SNI,
//     destination addresses). The older one stays.
func (o *outbound) add(p *outboundPort) {
	proto := p.port.Protocol
	if proto == config.ProtocolUDP || p.service.ExternalName != "" {
		return // an alias is called by its target's listener
	}
	s := o.socketOf(p)
	d := o.at[socketKey{s.addresses[0], s.port}]
	switch {
	case d != nil && d.settled:
		return
	case proto == config.ProtocolHTTPProxy:
		if d == nil {
			o.addHTTP(p, s)
		}
	case proto.IsHTTP() && d == nil:
		o.addHTTP(p, s)
	case proto.IsHTTP():
		o.joinHTTP(d, p, s)
	case proto == config.ProtocolUnset:
		o.addSniffed(d, p, s)
	case d == nil:
		o.newDraft(p, s).take(o.tcpChainsOf(p)...)
	default:
		o.joinTCP(d, p, o.tcpChainsOf(p))
	}
}

// take adds chains, without what others of the listener match already, and
// reports whether anything was left out. A VirtualService that names several
// services of a socket gives each the same chain: its repetition is no loss.
func (d *outboundDraft) take(chains ...*chain) (lost bool) {
	for _, c := range chains {
		kept, shadowed := d.claims.add(c)
		if kept != nil {
			d.chains = append(d.chains, kept)
		}
		lost = lost || len(shadowed) > 0 && !slices.ContainsFunc(d.chains, c.repeats)
	}
	return lost
}

// repeats reports whether another chain of the same object matches the same.
func (c *chain) repeats(other *chain) bool {
	return c.source != nil && c.source == other.source && sameStrings(c.match.sni, other.match.sni) && c.match.same(&other.match)
}

func (o *outbound) addHTTP(p *outboundPort, s socket) {
	d := o.newDraft(p, s)
	c, table := o.httpChainOf(p, &s)
	if o.wildcard(p) && p.port.Protocol != config.ProtocolHTTPProxy {
		// Connections of other protocols to this port, of destinations that
		// are no service, pass.
		sniffed(c)
		d.protocol = config.ProtocolUnset
	}
	d.take(c)
	d.table = table
}

// joinHTTP adds an HTTP service to a socket that another one has. One HTTP
// chain is enough for any number of them: their table tells them apart.
func (o *outbound) joinHTTP(d *outboundDraft, p *outboundPort, s socket) {
	if !d.protocol.IsTCP() && !d.protocol.IsTLS() {
		return
	}
	if o.serverFirst(d, p) {
		return
	}
	c, table := o.httpChainOf(p, &s)
	d.take(sniffed(c))
	d.protocol, d.table = config.ProtocolUnset, table
	o.mixed(d, p)
}

func (o *outbound) addSniffed(d *outboundDraft, p *outboundPort, s socket) {
	chains := o.tcpChainsOf(p)
	if d != nil && d.protocol == config.ProtocolUnset {
		o.joinTCP(d, p, chains)
		return
	}
	if d != nil && o.serverFirst(d, p) {
		return
	}
	c, table := o.httpChainOf(p, &s)
	chains = append(chains, sniffed(c))
	if d == nil {
		d = o.newDraft(p, s)
		d.take(chains...)
		d.table = table
		return
	}
	if d.protocol.IsHTTP() {
		// The sniffing chains take the requests over, too.
		d.chains, d.claims, d.table, d.protocol = nil, chainClaims{}, table, config.ProtocolUnset
		d.take(chains...)
		return
	}
	o.joinTCP(d, p, chains)
	d.protocol = config.ProtocolUnset
	if d.table == nil {
		d.table = table
	}
}

// joinTCP adds the chains that match something which no chain of the socket
// matches yet.
func (o *outbound) joinTCP(d *outboundDraft, p *outboundPort, chains []*chain) {
	if o.serverFirst(d, p) {
		return
	}
	if d.protocol.IsHTTP() {
		requests := d.chains
		d.chains, d.claims = nil, chainClaims{}
		for _, c := range requests {
			d.take(sniffed(c))
		}
		o.mixed(d, p)
	}
	if !d.protocol.IsTCP() && !d.protocol.IsTLS() {
		d.protocol = config.ProtocolUnset
	}
	if d.take(chains...) {
		o.shadowed(d, p)
	}
}

// serverFirst reports and refuses the mix of a protocol in which the server
// speaks first with another protocol: telling them apart needs bytes from a
// client that waits.
func (o *outbound) serverFirst(d *outboundDraft, p *outboundPort) bool {
	waits := func(p config.Protocol) bool { return p == config.ProtocolMongo || p == config.ProtocolMySQL }
	if d.protocol == p.port.Protocol || !waits(d.protocol) && !waits(p.port.Protocol) {
		return false
	}
	o.shadowed(d, p)
	return true
}

// shadowed reports a service port that gets no (or not all of its) listener.
func (o *outbound) shadowed(d *outboundDraft, p *outboundPort) {
	if p.service.Service == d.ownerService() {
		return
	}
	severity := config.Warning
	if p.port.Protocol == config.ProtocolUnset {
		severity = config.Info // its requests are routed all the same
	}
	o.b.problems = append(o.b.problems, config.At(&p.service.Meta, "spec.ports", severity, "ListenerConflict",
		"port %d of %s (%s) wants the listener %s, which %s has already: connections go there. "+
			"Give the services addresses of their own or other ports, or say with a Sidecar which of them the clients see",
		p.port.Number, p.service.Hostname, protocolText(p.port.Protocol), d.socket.listenerName(), d.ownerName()))
}

// mixed reports a socket that had to start sniffing.
func (o *outbound) mixed(d *outboundDraft, p *outboundPort) {
	if p.service.Service == d.ownerService() {
		return
	}
	o.b.problems = append(o.b.problems, config.At(&p.service.Meta, "spec.ports", config.Info, "ListenerMixed",
		"port %d of %s (%s) shares the listener %s with %s: requests and other connections are told apart by their first bytes",
		p.port.Number, p.service.Hostname, protocolText(p.port.Protocol), d.socket.listenerName(), d.ownerName()))
}

func (d *outboundDraft) ownerService() *config.Service {
	if d.owner == nil {
		return nil
	}
	return d.owner.Service
}

func (d *outboundDraft) ownerName() string {
	if d.owner == nil {
		return "the mesh's proxyHttpPort"
	}
	return d.owner.Hostname + " (" + protocolText(d.ownerProtocol) + ")"
}

func protocolText(p config.Protocol) string {
	if p == config.ProtocolUnset {
		return "protocol detection"
	}
	return string(p)
}
