package simulate

import (
	"fmt"
	"net/netip"
	"slices"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	proxyprotocol "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
)

// exchange is one connection on its way through one Envoy.
type exchange struct {
	config *Config
	conn   *Conn
	hop    *Hop

	// What the listener filters found out.
	sni       string
	alpn      []string
	transport string // tls or raw_buffer
	// restored: the destination is known to be the original one.
	restored bool
	// announces: requests take the application protocols that they announce
	// from the cluster's metadata.
	announces bool
	// md is what network filters left about the connection.
	md metadata
}

// Ask follows a connection that the Envoy accepts at a port of its own: a
// sidecar's redirection port, or a gateway's port.
func (c *Config) Ask(at uint32, conn *Conn) *Hop {
	e := &exchange{config: c, conn: conn, hop: &Hop{to: conn.Destination}, transport: rawBuffer, md: metadata{}}
	all := c.allListeners()
	e.hop.Unknown = slices.Clone(all.broken)
	l := bound(all.all, netip.AddrPortFrom(conn.Destination.Addr(), uint16(at))) //nolint:gosec // a port
	if l == nil {
		e.hop.Reply = &Reply{Reason: fmt.Sprintf("nothing listens on port %d: the connection is refused", at)}
		return e.hop
	}
	e.accept(l)
	if to := handOff(all.all, l, conn.Destination); l.GetUseOriginalDst().GetValue() && to != nil {
		l = to
		e.accept(l)
	}
	e.hop.Listener = &Decision{Name: l.GetName(), Source: sourceOf(l.GetMetadata()), Why: e.whyListener(l)}
	if chain := e.chooseChain(l); chain != nil {
		e.filterChain(chain)
	}
	return e.hop
}

func (e *exchange) whyListener(l *listener.Listener) string {
	for _, a := range addressesOf(l) {
		switch {
		case a == e.conn.Destination:
			return "it is for " + a.String()
		case a.Port() == e.conn.Destination.Port() && a.Addr().IsUnspecified():
			return fmt.Sprintf("it is for port %d of every address", a.Port())
		}
	}
	return fmt.Sprintf("no listener is for %s", e.conn.Destination)
}

// bound is the listener whose socket gets a connection to an address.
func bound(all []*listener.Listener, to netip.AddrPort) *listener.Listener {
	return best(all, to, func(l *listener.Listener) bool {
		return l.GetBindToPort() == nil || l.GetBindToPort().GetValue()
	})
}

// handOff is the listener that a redirected connection is handed to by its
// original destination: the one of that address and port, or of the port.
func handOff(all []*listener.Listener, from *listener.Listener, to netip.AddrPort) *listener.Listener {
	return best(all, to, func(l *listener.Listener) bool {
		return l != from && l.GetTrafficDirection() == from.GetTrafficDirection()
	})
}

func best(all []*listener.Listener, to netip.AddrPort, eligible func(*listener.Listener) bool) *listener.Listener {
	var wildcard *listener.Listener
	for _, l := range all {
		if !eligible(l) || l.GetUdpListenerConfig() != nil {
			continue
		}
		for _, a := range addressesOf(l) {
			switch {
			case a == to:
				return l
			case a.Port() == to.Port() && a.Addr().IsUnspecified() && a.Addr().Is4() == to.Addr().Is4() && wildcard == nil:
				wildcard = l
			}
		}
	}
	return wildcard
}

func addressesOf(l *listener.Listener) []netip.AddrPort {
	var out []netip.AddrPort
	add := func(a *core.Address) {
		if ip, err := netip.ParseAddr(a.GetSocketAddress().GetAddress()); err == nil {
			out = append(out, netip.AddrPortFrom(ip, uint16(a.GetSocketAddress().GetPortValue()))) //nolint:gosec // a port
		}
	}
	add(l.GetAddress())
	for _, a := range l.GetAdditionalAddresses() {
		add(a.GetAddress())
	}
	return out
}

// What the listener filters tell of a connection.
const (
	rawBuffer = "raw_buffer"
	tlsBytes  = "tls"
)

// accept runs a listener's filters, which look at the first bytes.
func (e *exchange) accept(l *listener.Listener) {
	if l.GetUseOriginalDst().GetValue() {
		e.restored = true
	}
	for _, f := range l.GetListenerFilters() {
		if e.disabled(f.GetFilterDisabled()) {
			continue
		}
		switch f.GetName() {
		case "envoy.filters.listener.original_dst":
			e.restored = true
		case "envoy.filters.listener.original_src":
		case "envoy.filters.listener.tls_inspector":
			if t := e.conn.TLS; t != nil {
				e.transport, e.sni, e.alpn = tlsBytes, t.SNI, t.ALPN
			}
		case "envoy.filters.listener.http_inspector":
			e.inspectHTTP()
		case "envoy.filters.listener.proxy_protocol":
			m, err := e.config.unpack(f.GetTypedConfig())
			if p, ok := m.(*proxyprotocol.ProxyProtocol); err != nil || !ok || !p.GetAllowRequestsWithoutProxyProtocol() {
				e.hop.unknown("the listener requires a PROXY header, which is taken to be there and to name the client's own address")
			}
		default:
			e.hop.unknown("listener filter " + f.GetName())
		}
	}
}

func (e *exchange) inspectHTTP() {
	if e.transport == tlsBytes || e.conn.TLS != nil || e.conn.HTTP == nil {
		return
	}
	e.alpn = []string{"http/1.1"}
	if e.conn.HTTP.HTTP2 {
		e.alpn = []string{"h2c"}
	}
}

// disabled evaluates where a listener filter is switched off.
func (e *exchange) disabled(p *listener.ListenerFilterChainMatchPredicate) bool {
	switch r := p.GetRule().(type) {
	case nil:
		return false
	case *listener.ListenerFilterChainMatchPredicate_AnyMatch:
		return r.AnyMatch
	case *listener.ListenerFilterChainMatchPredicate_NotMatch:
		return !e.disabled(r.NotMatch)
	case *listener.ListenerFilterChainMatchPredicate_OrMatch:
		return slices.ContainsFunc(r.OrMatch.GetRules(), e.disabled)
	case *listener.ListenerFilterChainMatchPredicate_AndMatch:
		return !slices.ContainsFunc(r.AndMatch.GetRules(), func(p *listener.ListenerFilterChainMatchPredicate) bool {
			return !e.disabled(p)
		})
	case *listener.ListenerFilterChainMatchPredicate_DestinationPortRange:
		port := int32(e.conn.Destination.Port())
		return port >= r.DestinationPortRange.GetStart() && port < r.DestinationPortRange.GetEnd()
	}
	e.hop.unknown(fmt.Sprintf("listener filter predicate %T", p.GetRule()))
	return false
}
