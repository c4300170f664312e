package translate

import (
	"cmp"
	"maps"
	"slices"
	"time"

	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	httpinspector "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	originaldst "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	originalsrc "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_src/v3"
	proxyprotocol "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	tlsinspector "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// unknownPatience is how long connections to unknown destinations wait for a
// request to be recognized. They may be of any protocol, also of one in which
// the server speaks first.
const unknownPatience = time.Second

// originalSrcMark marks connections to the application under TPROXY, for the
// pod's redirection rules to tell them from others.
const originalSrcMark = 1337

// listenerFilters adds what must look at a connection before its filter chain
// is chosen. This list is the one place that says their order: the PROXY
// header comes before any other byte, and the HTTP inspector leaves alone
// what the TLS inspector has recognized.
func (t *listenerTexts) listenerFilters(l *listener.Listener, d *draft) {
	var out []*listener.ListenerFilter
	add := func(name string, m proto.Message, off *listener.ListenerFilterChainMatchPredicate) {
		out = append(out, &listener.ListenerFilter{
			Name: name, FilterDisabled: off,
			ConfigType: &listener.ListenerFilter_TypedConfig{TypedConfig: packed(m)},
		})
	}
	if d.original == recovered {
		add("envoy.filters.listener.original_dst", &originaldst.OriginalDst{}, nil)
		if t.env.traits.Interception == config.TProxy {
			add("envoy.filters.listener.original_src", &originalsrc.OriginalSrc{Mark: originalSrcMark}, nil)
		}
	}
	if t.env.side == GatewaySide && !d.socket.quic && t.env.proxy.GetGatewayTopology().GetProxyProtocol() != nil {
		add("envoy.filters.listener.proxy_protocol", &proxyprotocol.ProxyProtocol{}, nil)
	}
	if d.socket.quic {
		l.ListenerFilters = out
		return
	}
	tls, http := inspectedPorts(d)
	if tls.any() {
		add("envoy.filters.listener.tls_inspector", &tlsinspector.TlsInspector{}, tls.offWhere())
	}
	if http.any() {
		add("envoy.filters.listener.http_inspector", &httpinspector.HttpInspector{}, http.offWhere())
	}
	if len(out) > 0 || t.env.side != Outbound {
		t.inspectionTimeout(l, d, http.any())
	}
	l.ListenerFilters = out
}

// inspectionTimeout bounds the wait for bytes that tell the protocol. A client
// that waits for the server to speak first would wait as long; by default it
// may wait forever on sidecars, while gateways keep Envoy's bound.
func (t *listenerTexts) inspectionTimeout(l *listener.Listener, d *draft, http bool) {
	if t.env.side == GatewaySide {
		return
	}
	l.ContinueOnListenerFiltersTimeout = true
	l.ListenerFiltersTimeout = durationpb.New(0)
	if d.original == handOff {
		l.ListenerFiltersTimeout = durationpb.New(unknownPatience)
	}
	if d := usable(t.env.mesh.GetProtocolDetectionTimeout()); d.AsDuration() > 0 && (http || t.env.side == Inbound) {
		l.ListenerFiltersTimeout = d
	}
}

// portSet is a set of destination ports for one inspector. Port 0 stands for
// all ports that no chain names.
type portSet struct {
	want map[uint32]bool // every port that a chain names -> inspect it
}

func (s *portSet) any() bool {
	for _, on := range s.want {
		if on {
			return true
		}
	}
	return false
}

// offWhere is the predicate that switches the inspector off, nil for never.
// A port where the server speaks first must not be inspected: its client
// would wait for the server, and the inspector for the client.
func (s *portSet) offWhere() *listener.ListenerFilterChainMatchPredicate {
	byDefault := s.want[0]
	var others []uint32
	for _, p := range slices.SortedFunc(maps.Keys(s.want), cmp.Compare[uint32]) {
		if p != 0 && s.want[p] != byDefault {
			others = append(others, p)
		}
	}
	_, catchAll := s.want[0]
	switch {
	case byDefault && len(others) == 0:
		return nil
	case byDefault:
		return destinationPorts(others)
	case !catchAll && len(others) == len(s.want):
		return nil
	default:
		return &listener.ListenerFilterChainMatchPredicate{
			Rule: &listener.ListenerFilterChainMatchPredicate_NotMatch{NotMatch: destinationPorts(others)},
		}
	}
}

func destinationPorts(ports []uint32) *listener.ListenerFilterChainMatchPredicate {
	var rules []*listener.ListenerFilterChainMatchPredicate
	for _, p := range ports {
		rules = append(rules, &listener.ListenerFilterChainMatchPredicate{
			Rule: &listener.ListenerFilterChainMatchPredicate_DestinationPortRange{
				DestinationPortRange: &typev3.Int32Range{Start: int32(p), End: int32(p) + 1},
			},
		})
	}
	if len(rules) == 1 {
		return rules[0]
	}
	return &listener.ListenerFilterChainMatchPredicate{Rule: &listener.ListenerFilterChainMatchPredicate_OrMatch{
		OrMatch: &listener.ListenerFilterChainMatchPredicate_MatchSet{Rules: rules},
	}}
}

// inspectedPorts says which ports each inspector must look at.
func inspectedPorts(d *draft) (tls, http portSet) {
	tls, http = portSet{map[uint32]bool{}}, portSet{map[uint32]bool{}}
	for _, p := range d.uninspected {
		http.want[p] = false
	}
	for _, c := range d.chains {
		p := c.match.port
		tls.want[p] = tls.want[p] || c.needsTLSInspector()
		http.want[p] = http.want[p] || slices.ContainsFunc(c.match.alpn, func(a string) bool {
			return slices.Contains(plaintextHTTP, a)
		})
	}
	return tls, http
}

func (c *chain) needsTLSInspector() bool {
	return len(c.match.sni) > 0 || c.match.transport == tlsBytes || c.tls != nil ||
		(c.tcp != nil && c.tcp.dynamic != nil)
}
