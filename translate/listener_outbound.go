package translate

import (
	"slices"
	"sort"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Names of filter chains that exist once per listener.
const (
	passthroughChain         = "PassthroughFilterChain"
	outboundBlackHoleChain   = "virtualOutbound-blackhole"
	outboundCatchAllTCPChain = "virtualOutbound-catchall-tcp"
	httpProxyRoutes          = "http_proxy"
)

// outboundListeners makes what a sidecar's application connects through: a
// listener for each address and port that a service in reach has, and
// virtualOutbound, which receives every redirected connection and hands it to
// the one for its destination.
func (b *build) outboundListeners() {
	o := &outbound{
		b: b, env: newListenerEnv(b.scope), at: map[socketKey]*outboundDraft{},
		dynamic: map[*Egress][]string{}, l4: map[*Egress][]*SettledVirtualService{},
	}
	for _, e := range b.scope.Egress {
		o.addEgress(e)
	}
	o.addHTTPProxy()
	for _, d := range o.drafts {
		o.finish(d)
		o.env.emit(b, &d.draft)
	}
	if d := o.virtualOutbound(); d != nil {
		o.env.emit(b, d)
	}
	b.tables = append(b.tables, o.tables()...)
}

// outbound is the state of settling who gets which socket.
type outbound struct {
	b      *build
	env    listenerEnv
	at     map[socketKey]*outboundDraft
	drafts []*outboundDraft // in order of creation
	// dynamic are dynamicHosts, by view.
	dynamic map[*Egress][]string
	// l4 are the VirtualServices with tls or tcp routes, by view.
	l4 map[*Egress][]*SettledVirtualService
}

// socketKey is what may exist once: an address with a port.
type socketKey struct {
	address string
	port    uint32
}

// outboundDraft is a draft that services still compete for.
type outboundDraft struct {
	draft
	// protocol is what the listener speaks so far: an HTTP or TCP protocol,
	// or Unset where it sniffs.
	protocol config.Protocol
	// owner is the service that made it, and what its port speaks, for
	// Problems.
	owner         *VisibleService
	ownerProtocol config.Protocol
	// table is the route table that its HTTP chain asks for, or nil.
	table *routeTable
	// claims are what the chains match.
	claims chainClaims
	// settled by a Sidecar's listener with a port: later listeners of the
	// same Sidecar add nothing to it.
	settled bool
}

// addEgress makes the listeners of one outbound view.
func (o *outbound) addEgress(e *Egress) {
	bind := o.bindOf(e)
	o.dynamic[e] = dynamicHosts([]*Egress{e})
	if o.b.scope.OutboundPolicy.DynamicDNS {
		o.dynamic[e] = append(o.dynamic[e], anyHostCache)
	}
	if port := e.Listener.port(); port != nil {
		sp := config.ServicePort{Name: port.GetName(), Number: port.GetNumber(), Protocol: config.ParseProtocol(port.GetProtocol())}
		if !o.env.canBind(sp.Number, bind.real) || o.reserved(bind, sp) {
			o.cannotBind(sp.Number)
			return
		}
		for _, v := range inOrderOfCreation(e.Services) {
			o.add(&outboundPort{egress: e, service: v, port: sp, bind: bind, chosen: true})
		}
		return
	}
	for _, d := range o.drafts {
		d.settled = true
	}
	for _, v := range inOrderOfCreation(e.Services) {
		for _, p := range v.InReach {
			if o.env.canBind(p.Number, bind.real) && !o.reserved(bind, p) {
				o.addPort(&outboundPort{egress: e, service: v, port: p, bind: bind})
			}
		}
	}
}

// binding is where an outbound view's listeners bind. Without addresses each
// service has its own.
type binding struct {
	addresses []string
	real      bool
}

func (b *binding) primary() string {
	if len(b.addresses) == 0 {
		return ""
	}
	return b.addresses[0]
}

// bindOf follows Sidecar.egress.bind and captureMode
// (networking/v1alpha3 IstioEgressListener).
func (o *outbound) bindOf(e *Egress) binding {
	spec := e.Listener.spec()
	var b binding
	_, unix := unixPath(spec.GetBind())
	b.real = o.env.traits.Interception == config.NoneMode ||
		spec.GetCaptureMode() == networking.CaptureMode_NONE || unix
	switch {
	case spec.GetBind() != "":
		b.addresses = []string{spec.GetBind()}
	case b.real && o.env.traits.Local.Outbound != "":
		b.addresses = []string{o.env.traits.Local.Outbound}
	case b.real:
		b.addresses = o.env.loopbacks()
	}
	return b
}

// reserved reports whether a wildcard listener of this port would collide
// with the proxy's own listeners.
func (o *outbound) reserved(bind binding, p config.ServicePort) bool {
	if a := bind.primary(); a != "" && a != o.env.wildcards()[0] || a == "" && !p.Protocol.IsHTTP() {
		return false
	}
	return p.Number == o.env.outboundPort() || p.Number == o.env.inboundPort() || ownPorts[p.Number]
}

// ownPorts are those of the proxy's static listeners: readiness and
// statistics.
var ownPorts = map[uint32]bool{15021: true, 15090: true}

// inOrderOfCreation sorts services by age: the older one gets a socket that
// two of them want.
func inOrderOfCreation(services []*VisibleService) []*VisibleService {
	older := func(a, b *VisibleService) bool { return a.Created.Before(b.Created) }
	if sort.SliceIsSorted(services, func(i, j int) bool { return older(services[i], services[j]) }) {
		return services
	}
	out := append([]*VisibleService(nil), services...)
	sort.SliceStable(out, func(i, j int) bool { return older(out[i], out[j]) })
	return out
}

// finish adds what every outbound listener has: a chain for what no other
// takes, so that a connection to an address that is no service's still
// follows the outbound policy.
func (o *outbound) finish(d *outboundDraft) {
	var chains []*chain
	for _, c := range d.chains {
		if c.match.anything() {
			d.fallback = c
		} else {
			chains = append(chains, c)
		}
	}
	d.chains = chains
	switch {
	case d.fallback == nil:
		d.fallback = &chain{name: passthroughChain, tcp: o.unknownDestination()}
	case len(d.chains) == 0:
		d.chains, d.fallback = []*chain{d.fallback}, nil
	}
}

// unknownDestination is where connections go that no service takes.
func (o *outbound) unknownDestination() *tcpChain {
	return toCluster(o.b.scope.unknownCluster())
}

// unknownCluster is the cluster for connections that no service takes,
// according to the outbound traffic policy.
func (s *Scope) unknownCluster() string {
	switch {
	case !s.OutboundPolicy.AllowsAny():
		return BlackHoleCluster
	case s.OutboundPolicy.Policy.GetEgressProxy().GetHost() != "":
		d := s.OutboundPolicy.Policy.GetEgressProxy()
		return OutboundCluster(d.GetPort().GetNumber(), d.GetSubset(), fullHost(d.GetHost(), s.Class.Namespace, s.Settings.DomainSuffix))
	default:
		return PassthroughCluster
	}
}

// virtualOutbound receives every connection that the pod's rules redirect.
func (o *outbound) virtualOutbound() *draft {
	if o.env.traits.Interception == config.NoneMode {
		return nil
	}
	port := o.env.outboundPort()
	d := &draft{
		socket: socket{
			name: VirtualOutboundListener, addresses: o.env.wildcards(), port: port, bound: port, real: true,
		},
		direction: core.TrafficDirection_OUTBOUND,
		original:  handOff,
		chains: []*chain{
			// A connection to the redirection port itself would come back to it
			// forever.
			{name: outboundBlackHoleChain, match: chainMatch{port: port}, tcp: silent(toCluster(BlackHoleCluster))},
			{name: outboundCatchAllTCPChain, tcp: o.unknownDestination()},
		},
	}
	if o.b.scope.OutboundPolicy.DynamicDNS {
		d.chains = append(d.chains, unknownRequests())
		d.uninspected = o.portsWithoutRequests()
	}
	return d
}

// unknownRequests sends requests to where their host resolves, whatever
// address the application connected to.
func unknownRequests() *chain {
	return &chain{
		name: outboundCatchAllTCPChain + "-http", match: chainMatch{alpn: plaintextHTTP},
		http: &httpChain{
			statPrefix: "outbound_" + VirtualOutboundListener + "_" + DynamicDNSRoute, from: Outbound,
			inline:  &inlineRoutes{cluster: AllowAnyDynamicDNSCluster, virtualHost: DynamicDNSRoute, operation: DynamicDNSRoute},
			dynamic: []string{anyHostCache},
		},
	}
}

// portsWithoutRequests are the ports of listeners that route no requests:
// those connections pass virtualOutbound first and must not wait there.
func (o *outbound) portsWithoutRequests() []uint32 {
	routed := map[uint32]bool{}
	for _, d := range o.drafts {
		routed[d.socket.port] = routed[d.socket.port] || d.table != nil
	}
	var out []uint32
	for port, yes := range routed {
		if !yes && port != 0 {
			out = append(out, port)
		}
	}
	slices.Sort(out)
	return out
}

func silent(c *tcpChain) *tcpChain {
	c.silent = true
	return c
}

// tables are the route tables that the listeners ask for, each name once.
func (o *outbound) tables() []routeTable {
	var out []routeTable
	seen := map[string]bool{}
	for _, d := range o.drafts {
		if d.table != nil && !seen[d.table.Name] {
			seen[d.table.Name] = true
			out = append(out, *d.table)
		}
	}
	return out
}

func (o *outbound) cannotBind(port uint32) {
	o.b.problems = append(o.b.problems, config.At(&o.b.scope.Sidecar.Meta, "spec.egress", config.Warning, "PortUnavailable",
		"the proxy cannot listen on port %d: it is below 1024 and the pod may not bind it, or it is one of the proxy's own. Use another port", port))
}
