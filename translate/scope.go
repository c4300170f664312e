package translate

import (
	"github.com/pilotfish-mesh/pilotfish/config"
)

// Scope is everything that one class of proxies may see, gathered from one
// Mesh, with conflicts between objects settled. Translation reads nothing
// else. Immutable.
type Scope struct {
	Class    Class
	Labels   map[string]string // Class.Labels, parsed
	Settings *config.Settings

	// Listeners are the outbound views: one that catches everything, or one
	// for each egress listener of the workload's Sidecar. Outbound and
	// GatewaySide only (a gateway has exactly one).
	Egress []*Egress
	// OutboundPolicy is what happens to destinations that no service names.
	OutboundPolicy OutboundPolicy
	// Sidecar is the Sidecar resource that applies, or nil.
	Sidecar *config.SidecarScope
	// Headless are the endpoints' addresses, by port name, of the headless
	// services in reach that have ports which are not HTTP: clients connect
	// to those addresses, so each has a listener. Outbound only.
	Headless map[config.ServiceID]map[string][]string
	// Inbound are the ports that the workload serves. Inbound only.
	Inbound []InboundPort
	// Peer says in which forms connections may come. Inbound only.
	Peer PeerPolicy
	// Gateways are the gateways' servers that select this proxy, merged by
	// port. GatewaySide only.
	Gateways []GatewayPort

	// policies decide about requests and connections to the proxy. Inbound and
	// GatewaySide only.
	policies policies

	// extensions are filters of the user's own, in order.
	extensions []*extension

	// telemetry is what is told of the proxy's traffic, and to whom.
	telemetry telemetryRules
	// collectors are services that it is told to and that are not in reach
	// otherwise. Outbound and GatewaySide only.
	collectors []*VisibleService

	// patches are those of EnvoyFilters, in order.
	patches []*patch

	problems []config.Problem
	key      config.Hash
}

// Egress is one outbound view: the services and routes that are in reach
// behind one listener address.
type Egress struct {
	// Listener is the Sidecar's egress listener, or nil for the view that
	// catches everything.
	Listener *EgressListener
	// Services in reach, ordered by hostname, then namespace; one per host.
	Services []*VisibleService
	// VirtualServices in reach for gateway "mesh", settled, in order of
	// precedence.
	VirtualServices []*SettledVirtualService
	// Destinations are services that are in reach only because a
	// VirtualService leads to them: they have clusters, but no listener and
	// no virtual host.
	Destinations []*VisibleService

	hosts hostIndex
	hash  config.Hash // of everything above
}

// VisibleService is a service as the clients of one scope see it. It is a
// pure function of a Service and its DestinationRules, and shared by scopes.
type VisibleService struct {
	*config.Service
	// Rule is what the DestinationRules say about it, or nil.
	Rule *Rule
	// Ports are those in reach: all of the service's, or the one that a
	// Sidecar's egress listener names.
	InReach []config.ServicePort
	// Inline are the endpoints of a service whose names the proxy resolves:
	// they are part of its clusters. Nil for all others (see
	// Index.inlineEndpoints).
	Inline *config.Endpoints
	// Peers are who answers for the service by mesh TLS.
	Peers *Peers
	// Hash identifies all of the above.
	Hash config.Hash

	from    *config.Endpoints // what Inline and Peers were read off; nil for none
	routing config.Hash       // Hash without Inline and Peers: all that routes depend on
}

// Key identifies everything that the Scope gathered: equal keys, equal
// resources.
func (s *Scope) Key() config.Hash { return s.key }

// Problems are those found while gathering, such as two VirtualServices that
// claim one host.
func (s *Scope) Problems() []config.Problem { return s.problems }

// Scope gathers for one class.
func (ix *Index) Scope(c Class) *Scope {
	if c.Side == Inbound {
		return regather(ix.gathered, c, ix.inboundInputs(c.Namespace), func() *Scope { return ix.gather(c) })
	}
	return ix.gather(c)
}

func (ix *Index) gather(c Class) *Scope {
	s := &Scope{Class: c, Labels: parseLabels(c.Labels), Settings: ix.mesh.Settings}
	switch c.Side {
	case Outbound:
		ix.gatherSidecar(s)
		ix.gatherEgress(s)
		ix.gatherHeadless(s)
	case Inbound:
		ix.gatherSidecar(s)
		ix.gatherInbound(s)
		s.Peer = ix.peers.in(c.Namespace).of(s.Labels)
		ix.gatherPolicies(s)
	case GatewaySide:
		ix.gatherGateways(s)
		ix.gatherPolicies(s)
		ix.gatherEgress(s)
	}
	ix.gatherExtensions(s)
	ix.gatherTelemetry(s)
	ix.gatherPatches(s)
	s.key = s.hash()
	return s
}

func (s *Scope) hash() config.Hash {
	h := config.NewHasher()
	c := &s.Class
	t := &c.Traits
	h.Uint(uint64(c.Side)).Str(c.Namespace, c.Labels)
	h.Str(string(t.Interception), t.DNSDomain, t.Addresses, t.Local.Outbound, t.Local.App, t.Generator, t.EnvoyVersion, t.ServiceCluster, t.Ports, t.ProxyConfig)
	h.Uint(uint64(t.Local.PortBase)).Bool(t.Local.OwnResolver).Bool(t.IPv6Only).Bool(t.DualStack).Bool(t.Unprivileged).Bool(t.DNSCapture).Bool(t.IstioFilters).Bool(t.Certificates).Bool(t.SetsState).Bool(t.DNSCluster).Bool(t.Telemetry).Bool(t.FollowsParent).Bool(t.PlainTags).Bool(t.TLSMode).Bool(t.Modules)
	addExtensions(h, s.extensions)
	t.Near.addTo(h)
	h.Hash(s.Settings.Hash)
	if s.Sidecar != nil {
		h.Hash(s.Sidecar.Hash)
	}
	s.OutboundPolicy.addTo(h)
	h.Uint(uint64(len(s.Egress)))
	for _, e := range s.Egress {
		e.addTo(h)
	}
	s.addHeadless(h)
	h.Uint(uint64(len(s.Inbound)))
	for i := range s.Inbound {
		s.Inbound[i].addTo(h)
	}
	s.Peer.addTo(h)
	s.policies.addTo(h)
	s.telemetry.addTo(h)
	h.Uint(uint64(len(s.collectors)))
	for _, v := range s.collectors {
		h.Hash(v.Hash)
	}
	addPatches(h, s.patches)
	h.Uint(uint64(len(s.Gateways)))
	for i := range s.Gateways {
		s.Gateways[i].addTo(h)
	}
	return h.Sum()
}

func (e *Egress) addTo(h config.Hasher) { h.Hash(e.hash) }
