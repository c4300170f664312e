package simulate

import (
	"fmt"
	"time"

	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	authz "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ext_authz/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	rbac "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	sniforward "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3"
	tcp "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
)

// Network filters that never decide where a connection goes.
var passiveNetworkFilters = map[string]bool{
	"istio.metadata_exchange": true, "istio.stats": true, "istio_authn": true,
	"envoy.filters.network.metadata_exchange": true, "envoy.filters.network.set_filter_state": true,
}

// filterChain runs a chain's network filters.
func (e *exchange) filterChain(fc *listener.FilterChain) {
	if !e.terminate(fc) {
		return
	}
	for _, f := range fc.GetFilters() {
		if passiveNetworkFilters[f.GetName()] {
			continue
		}
		m, err := e.config.unpack(f.GetTypedConfig())
		if err != nil {
			e.hop.unknownFilter("network", f.GetName())
			continue
		}
		switch t := m.(type) {
		case *rbac.RBAC:
			if !e.networkRBAC(f.GetName(), t) {
				return
			}
		case *authz.ExtAuthz:
			e.hop.authorizer(f.GetName(), e.md, t.GetFilterEnabledMetadata())
		case *sniforward.FilterConfig: // it only resolves what the cluster asks for
		case *tcp.TcpProxy:
			e.tcpProxy(t)
			return
		case *hcm.HttpConnectionManager:
			e.connectionManager(t)
			return
		default:
			e.hop.unknownFilter("network", f.GetName())
		}
	}
	if e.hop.Reply == nil {
		e.close("the chain has no filter that would forward the connection: it is closed")
	}
}

// plaintextInside reports whether what is inside of the connection can be
// read here.
func (e *exchange) readable() bool {
	return e.conn.TLS == nil || !e.hop.Downstream.Passthrough
}

func (e *exchange) tcpProxy(t *tcp.TcpProxy) {
	e.hop.Timeout = Span{}
	if t.GetIdleTimeout() != nil && t.GetIdleTimeout().AsDuration() == 0 {
		e.hop.Timeout = Span{Set: true}
	}
	if t.GetTunnelingConfig() != nil {
		e.hop.Sent = &Sent{Method: "CONNECT", Authority: t.GetTunnelingConfig().GetHostname()}
		if t.GetTunnelingConfig().GetUsePost() {
			e.hop.Sent.Method = "POST"
		}
	}
	switch s := t.GetClusterSpecifier().(type) {
	case *tcp.TcpProxy_Cluster:
		e.hop.To = []Destination{e.destination(s.Cluster, 100, connectionRefused)}
	case *tcp.TcpProxy_WeightedClusters:
		total := uint32(0)
		for _, w := range s.WeightedClusters.GetClusters() {
			total += w.GetWeight()
		}
		for _, w := range s.WeightedClusters.GetClusters() {
			e.hop.To = append(e.hop.To, e.destination(w.GetName(), percentOf(w.GetWeight(), total), connectionRefused))
		}
	default:
		e.hop.unknown(fmt.Sprintf("TCP proxy with %T", t.GetClusterSpecifier()))
	}
}

func percentOf(part, whole uint32) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) * 100 / float64(whole)
}

// unavailable makes the reply for a cluster that cannot be used.
type unavailable func(why, flag string) *Reply

func connectionRefused(why, flag string) *Reply {
	return &Reply{Reason: why + ": the connection is closed", Flag: flag}
}

func serviceUnavailable(why, flag string) *Reply {
	return &Reply{Status: 503, Reason: why, Flag: flag}
}

const defaultTimeout = 15 * time.Second
