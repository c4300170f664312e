package translate

import (
	"maps"
	"slices"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Application protocols by which clients of the mesh say what they send. A
// client that does not know says istio alone.
var (
	meshALPN       = []string{"istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"}
	meshHTTP       = []string{"istio-http/1.0", "istio-http/1.1", "istio-h2"}
	meshConnection = []string{"istio-peer-exchange", "istio"}
)

// variant is one form in which connections to a port come, and whether its
// requests are routed.
type variant struct {
	match chainMatch
	http  bool
	// tls is what the chain takes off, or nil.
	tls *tlsTermination
	// refused connections lead nowhere.
	refused bool
}

// variants are the forms in which connections come to a port of a protocol.
func variants(p config.Protocol, mode PeerMode) []variant {
	switch {
	case p.IsHTTP():
		return requestVariants(mode)
	case p == config.ProtocolUnset:
		return sniffedVariants(mode)
	}
	return connectionVariants(mode)
}

func requestVariants(mode PeerMode) []variant {
	plain := variant{match: chainMatch{transport: rawBuffer}, http: true}
	switch mode {
	case PeerStrict:
		return []variant{{match: chainMatch{transport: tlsBytes}, http: true, tls: ownTLS()}}
	case PeerPermissive:
		return []variant{{match: chainMatch{transport: tlsBytes, alpn: meshALPN}, http: true, tls: ownTLS()}, plain}
	}
	return []variant{plain}
}

func sniffedVariants(mode PeerMode) []variant {
	meshRequests := variant{match: chainMatch{transport: tlsBytes, alpn: meshHTTP}, http: true, tls: ownTLS()}
	requests := variant{match: chainMatch{transport: rawBuffer, alpn: plaintextHTTP}, http: true}
	connections := variant{match: chainMatch{transport: rawBuffer}}
	switch mode {
	case PeerStrict:
		return []variant{meshRequests, {match: chainMatch{transport: tlsBytes}, tls: ownTLS()}}
	case PeerPermissive:
		return []variant{
			meshRequests, requests,
			{match: chainMatch{transport: tlsBytes, alpn: meshConnection}, tls: ownTLS()},
			connections, applicationTLS(),
		}
	}
	return []variant{requests, connections}
}

func connectionVariants(mode PeerMode) []variant {
	plain := variant{match: chainMatch{transport: rawBuffer}}
	switch mode {
	case PeerStrict:
		return []variant{{match: chainMatch{transport: tlsBytes}, tls: ownTLS()}}
	case PeerPermissive:
		return []variant{{match: chainMatch{transport: tlsBytes, alpn: meshALPN}, tls: ownTLS()}, applicationTLS(), plain}
	}
	return []variant{plain}
}

// applicationTLS is TLS between client and application, which passes as it is.
func applicationTLS() variant { return variant{match: chainMatch{transport: tlsBytes}} }

// ownTLS takes mesh TLS off with the workload's own certificate. It does not
// offer the names in meshALPN, so that a client can settle its own protocol.
func ownTLS() *tlsTermination { return &tlsTermination{alpn: []string{"h2", "http/1.1"}} }

// terminated is the one form of a port whose Sidecar terminates TLS.
func terminated(p config.Protocol, spec *networking.ServerTLSSettings) []variant {
	return []variant{{
		match: chainMatch{transport: tlsBytes}, http: afterTLS(p).IsHTTP(), tls: &tlsTermination{spec: spec, alpn: []string{"h2", "http/1.1"}},
	}}
}

// afterTLS is what a protocol is once its TLS is taken off.
func afterTLS(p config.Protocol) config.Protocol {
	switch p {
	case config.ProtocolHTTPS:
		return config.ProtocolHTTP
	case config.ProtocolTLS:
		return config.ProtocolTCP
	}
	return p
}

// formsOf are the forms in which connections may come to a port that the
// workload serves.
func (in *inbound) formsOf(p *InboundPort) []variant {
	mode, refused := in.modeOn(p.Port)
	own := p.Ingress.GetTls()
	switch {
	case refused:
		return []variant{{refused: true}}
	case own != nil && mode == PeerDisable:
		return terminated(p.ServicePort.Protocol, own)
	case own != nil:
		in.b.problems = append(in.b.problems, config.At(&in.b.scope.Sidecar.Meta, "spec.ingress", config.Warning, "NoEffect",
			"tls of port %d has no effect, because the port takes mesh TLS. Set mode DISABLE in portLevelMtls of a PeerAuthentication for the workload", p.Port))
		return variants(afterTLS(p.ServicePort.Protocol), mode)
	}
	return variants(p.ServicePort.Protocol, mode)
}

// modeOn is the PeerAuthentication of a port, as far as the proxy can follow
// it. A proxy without certificates has plaintext only, and must refuse it
// where the policy does.
func (in *inbound) modeOn(port uint32) (mode PeerMode, refused bool) {
	mode = in.b.scope.Peer.On(port)
	if in.env.traits.Certificates {
		return mode, false
	}
	return PeerDisable, mode == PeerStrict
}

// passthroughChains take the connections to ports that nothing declares: those
// with a PeerAuthentication of their own, then all others.
func (in *inbound) passthroughChains() []*chain {
	served := map[uint32]bool{}
	for i := range in.b.scope.Inbound {
		p := &in.b.scope.Inbound[i]
		served[p.Port] = !in.bound(p)
	}
	out := in.passthroughOn(0)
	for _, port := range slices.Sorted(maps.Keys(in.b.scope.Peer.Ports)) {
		if !served[port] && port != in.env.inboundPort() {
			out = append(out, in.passthroughOn(port)...)
		}
	}
	return out
}

func (in *inbound) passthroughOn(port uint32) []*chain {
	mode, refused := in.modeOn(port)
	if refused {
		return []*chain{{name: VirtualInboundListener, match: chainMatch{port: port}, tcp: silent(toCluster(BlackHoleCluster))}}
	}
	var out []*chain
	for _, v := range variants(config.ProtocolUnset, mode) {
		c := &chain{name: VirtualInboundListener, match: v.match, tls: v.tls}
		c.match.port = port
		if v.http {
			c.name = VirtualInboundCatchAllHTTP
			c.http = &httpChain{
				statPrefix: InboundPassthroughCluster, from: Inbound,
				inline: in.routesTo(InboundPassthroughCluster, "", config.ServicePort{}),
			}
		} else {
			c.tcp = toCluster(InboundPassthroughCluster)
		}
		out = append(out, c)
	}
	return out
}
