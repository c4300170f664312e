package translate

import (
	"slices"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// gatewayHandshakeTimeout bounds a TLS handshake with a client outside the
// mesh, so that clients that never finish one cannot fill the memory.
const gatewayHandshakeTimeout = 15 * time.Second

// listenerTexts encodes drafts. It carries what every listener of a scope may
// read besides its draft; key covers all of it.
type listenerTexts struct {
	b    *build
	env  listenerEnv
	refs refCollector
	// port is that of the chain at hand, 0 for one of all ports.
	port uint32
}

// refCollector notes what the listener being encoded points to.
type refCollector struct{ clusters, routes, secrets []string }

func (r *refCollector) refs() Refs {
	return Refs{Clusters: sortedSet(r.clusters), Routes: sortedSet(r.routes), Secrets: sortedSet(r.secrets)}
}

func sortedSet(in []string) []string {
	slices.Sort(in)
	return slices.Compact(in)
}

// emit adds the draft's listener to the build, from memory if an equal draft
// was encoded before.
func (e *listenerEnv) emit(b *build, d *draft) {
	if len(d.chains) > fewChains {
		if r := e.spliced(b, d); r != nil {
			b.listeners = append(b.listeners, r)
		}
		return
	}
	r := b.resource(d.key(e.key), func() (string, proto.Message, Refs, []*config.Meta, []config.Problem) {
		t := &listenerTexts{b: b, env: *e}
		m := t.listener(d, true)
		return m.GetName(), m, t.refs.refs(), d.sources(), nil
	})
	if r != nil {
		b.listeners = append(b.listeners, r)
	}
}

// listener is a draft's listener, with its filter chains or without.
func (t *listenerTexts) listener(d *draft, chains bool) *listener.Listener {
	l := &listener.Listener{
		Name:             d.socket.listenerName(),
		TrafficDirection: d.direction,
	}
	t.bind(l, &d.socket)
	if d.source != nil {
		l.Metadata = provenance(d.source)
	}
	if d.original == handOff {
		l.UseOriginalDst = wrapperspb.Bool(true)
	}
	if d.original != notRedirected && t.env.traits.Interception == config.TProxy {
		l.Transparent = wrapperspb.Bool(true)
	}
	if chains {
		for _, c := range d.chains {
			l.FilterChains = append(l.FilterChains, t.filterChain(d, c))
		}
	}
	if d.fallback != nil {
		l.DefaultFilterChain = t.filterChain(d, d.fallback)
	}
	t.listenerFilters(l, d)
	if t.env.logsListener(d) {
		l.AccessLog = t.accessLogs(listenerLog)
	}
	return l
}

func (t *listenerTexts) bind(l *listener.Listener, s *socket) {
	protocol := core.SocketAddress_TCP
	if s.quic {
		protocol = core.SocketAddress_UDP
		l.UdpListenerConfig = &listener.UdpListenerConfig{
			QuicOptions:            &listener.QuicProtocolOptions{},
			DownstreamSocketConfig: &core.UdpSocketConfig{},
		}
	}
	l.Address = envoyAddress(s.addresses[0], s.bound, protocol)
	for _, a := range s.addresses[1:] {
		l.AdditionalAddresses = append(l.AdditionalAddresses,
			&listener.AdditionalAddress{Address: envoyAddress(a, s.bound, protocol)})
	}
	if !s.real {
		l.BindToPort = wrapperspb.Bool(false)
		return
	}
	// One connection at a time lets the worker threads share a burst.
	l.MaxConnectionsToAcceptPerSocketEvent = wrapperspb.UInt32(1)
	l.PerConnectionBufferLimitBytes = natural(t.env.settings().GetListenerPerConnectionBufferLimitBytes())
}

func (t *listenerTexts) filterChain(d *draft, c *chain) *listener.FilterChain {
	fc := &listener.FilterChain{Name: c.name, FilterChainMatch: c.match.envoy()}
	if c.source != nil {
		fc.Metadata = provenance(c.source)
	}
	if c.tls != nil {
		fc.TransportSocket = t.tlsSocket(c.tls, d.socket.quic)
	}
	if t.env.side == GatewaySide {
		fc.TransportSocketConnectTimeout = durationpb.New(gatewayHandshakeTimeout)
	}
	if t.port = c.match.port; t.port == 0 && d.original == notRedirected {
		t.port = d.socket.port
	}
	switch {
	case c.http != nil:
		fc.Filters = append(t.connectionExtensions(beforeTokens, beforeAccess, afterAccess, atTheEnd), networkFilter(hcmFilterName, t.hcm(c.http)))
	case c.tcp != nil:
		fc.Filters = t.tcpFilters(c.tcp)
	}
	return fc
}

// envoy is the match in Envoy's form, nil for one that matches anything.
func (m *chainMatch) envoy() *listener.FilterChainMatch {
	if m.anything() {
		return nil
	}
	out := &listener.FilterChainMatch{
		ServerNames:          sortedSet(slices.Clone(m.sni)),
		ApplicationProtocols: m.alpn,
		TransportProtocol:    m.transport,
	}
	if m.port != 0 {
		out.DestinationPort = wrapperspb.UInt32(m.port)
	}
	for _, c := range canonicalCIDRs(m.cidrs) {
		out.PrefixRanges = append(out.PrefixRanges, cidrRange(c))
	}
	return out
}

func networkFilter(name string, m proto.Message) *listener.Filter {
	return &listener.Filter{Name: name, ConfigType: &listener.Filter_TypedConfig{TypedConfig: packed(m)}}
}
