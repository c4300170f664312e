package translate

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbac "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httprbac "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
	security "istio.io/api/security/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// grpcServerPrefix begins the name of the Listener that a gRPC server asks
// for; the address that it listens on follows.
const grpcServerPrefix = "xds.istio.io/grpc/lds/inbound/"

// grpcServer makes the Listeners of the workload's ports, one for each address
// at which a server may listen.
func (b *build) grpcServer() {
	addresses := []string{"0.0.0.0", "::", "127.0.0.1", "::1"}
	if own := b.scope.Class.Traits.Addresses; own != "" {
		addresses = append(addresses, strings.Split(own, ",")...)
	}
	env := newListenerEnv(b.scope)
	b.problems = append(b.problems, env.unasked()...)
	for i := range b.scope.Inbound {
		p := &b.scope.Inbound[i]
		for _, a := range addresses {
			if _, err := netip.ParseAddr(a); err != nil {
				continue
			}
			if r := b.grpcServerListener(p, a); r != nil {
				b.listeners = append(b.listeners, r)
			}
		}
	}
}

func (b *build) grpcServerListener(p *InboundPort, address string) *Resource {
	name := grpcServerPrefix + net.JoinHostPort(address, strconv.FormatUint(uint64(p.Port), 10))
	env := newListenerEnv(b.scope)
	tlsOnly := b.grpcTakesMeshTLS(p.Port)
	h := config.NewHasher().Str("grpc server", name).Hash(env.key).Bool(tlsOnly)
	p.addTo(h)
	return b.resource(h.Sum(), func() (string, proto.Message, Refs, []*config.Meta, []config.Problem) {
		chain := &listener.FilterChain{Name: "inbound", Filters: []*listener.Filter{{
			Name: "envoy.filters.network.http_connection_manager",
			ConfigType: &listener.Filter_TypedConfig{TypedConfig: packed(&hcm.HttpConnectionManager{
				StatPrefix:     "inbound",
				RouteSpecifier: &hcm.HttpConnectionManager_RouteConfig{RouteConfig: grpcServerRoutes()},
				HttpFilters:    append(env.grpcAccess(), grpcRouter()...),
			})},
		}}}
		if tlsOnly {
			chain.TransportSocket = &core.TransportSocket{Name: tlsSocket, ConfigType: &core.TransportSocket_TypedConfig{
				TypedConfig: packed(&tls.DownstreamTlsContext{
					CommonTlsContext: grpcTLS(nil), RequireClientCertificate: wrapperspb.Bool(true),
				}),
			}}
		}
		l := &listener.Listener{Name: name, Address: socketAddress(address, p.Port), FilterChains: []*listener.FilterChain{chain}}
		var sources []*config.Meta
		if p.Service != nil {
			sources = []*config.Meta{&p.Service.Meta}
		}
		return name, l, Refs{}, sources, nil
	})
}

// grpcTakesMeshTLS says whether a port takes mesh TLS only, or none: gRPC
// cannot take both. Clients go by the label that says that a pod takes it.
func (b *build) grpcTakesMeshTLS(port uint32) bool {
	switch b.scope.Peer.On(port) {
	case PeerDisable:
		return false
	case PeerStrict:
		return true
	}
	return b.scope.Class.Traits.TLSMode
}

func grpcServerRoutes() *route.RouteConfiguration {
	return &route.RouteConfiguration{Name: "inbound", VirtualHosts: []*route.VirtualHost{{
		Name: "inbound", Domains: []string{"*"},
		Routes: []*route.Route{{Match: anyPath(), Action: &route.Route_NonForwardingAction{NonForwardingAction: &route.NonForwardingAction{}}}},
	}}}
}

// grpcAccess are the policies about requests in the forms that gRPC knows,
// DENY and ALLOW (gRFC A41). It cannot ask an authorizer, so what one was to
// decide about is denied.
func (e *listenerEnv) grpcAccess() []*hcm.HttpFilter {
	var out []*hcm.HttpFilter
	denied := map[string]*rbac.Policy{}
	for _, p := range e.policies.access.policies {
		if actionOf(p) == security.AuthorizationPolicy_CUSTOM && !dryRun(p) {
			for name, rule := range newRuleWriter(p, trustDomains(e.mesh), false).policies("") {
				denied[name] = rule
			}
		}
	}
	if len(denied) > 0 {
		out = append(out, httpFilter(httpAccessFilter+".unasked", &httprbac.RBAC{
			Rules: &rbac.RBAC{Action: rbac.RBAC_DENY, Policies: denied},
		})...)
	}
	for _, s := range e.accessSteps(false) {
		if s.rules != nil && s.rules.Action != rbac.RBAC_LOG {
			out = append(out, httpFilter(httpAccessFilter+"."+s.rules.Action.String(), &httprbac.RBAC{Rules: s.rules})...)
		}
	}
	return out
}

// unasked are the policies whose authorizer gRPC cannot ask.
func (e *listenerEnv) unasked() []config.Problem {
	var out []config.Problem
	for _, p := range e.policies.access.policies {
		if actionOf(p) == security.AuthorizationPolicy_CUSTOM && !dryRun(p) {
			out = append(out, config.At(&p.Meta, "spec.action", config.Warning, "AuthorizerUnsupported",
				"gRPC servers without a proxy cannot ask provider %q: what the policy names is denied by those that it is for", p.Spec.GetProvider().GetName()))
		}
	}
	return out
}
