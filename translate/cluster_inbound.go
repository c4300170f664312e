package translate

import (
	"net"
	"strconv"
	"strings"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

const (
	// Connections from these addresses are the sidecar's own to its
	// application; the pod's redirection leaves them alone.
	inboundSourceIPv4 = "127.0.0.6"
	inboundSourceIPv6 = "::6"
	// forever is about what Envoy takes for a duration: less than 2^63 ns.
	forever = 100 * 365 * 24 * time.Hour
)

// inboundClusters makes one cluster for each port that the workload serves,
// and the one for its other ports.
func (b *build) inboundClusters() {
	traits := b.clusterTraits()
	b.special(traits, InboundPassthroughCluster, func(name string) *cluster.Cluster {
		c := b.passthrough(traits, name)
		c.UpstreamBindConfig = inboundSource(b.scope.Class.Traits.IPv6Only)
		return c
	})
	for i := range b.scope.Inbound {
		b.inboundCluster(traits, &b.scope.Inbound[i])
	}
}

func (b *build) inboundCluster(traits clusterTraits, p *InboundPort) {
	s := b.scope
	h := config.NewHasher().Str("inbound", string(p.ServicePort.Protocol), p.ServicePort.Name, s.Class.Traits.Local.App, s.Class.Traits.Addresses).
		Uint(uint64(p.Port)).Uint(uint64(p.ServicePort.Number)).Hash(s.Settings.Hash)
	traits.addTo(h)
	for _, part := range []*config.Meta{serviceMeta(p.Service), sidecarMeta(s.Sidecar)} {
		if part != nil {
			h.Hash(part.Hash)
		}
	}
	if p.Service != nil {
		h.Str(p.Service.Hostname, p.Service.Namespace)
	}
	if p.Rule != nil {
		h.Hash(p.Rule.Hash)
	}
	r := b.resource(h.Sum(), func() (string, proto.Message, Refs, []*config.Meta, []config.Problem) {
		d := newInboundDraft(s, traits, p)
		return d.out.Name, d.out, Refs{}, inboundSources(s, p), d.problems
	})
	if r != nil {
		b.clusters = append(b.clusters, r)
	}
}

func serviceMeta(s *config.Service) *config.Meta {
	if s == nil {
		return nil
	}
	return &s.Meta
}

func sidecarMeta(s *config.SidecarScope) *config.Meta {
	if s == nil {
		return nil
	}
	return &s.Meta
}

func inboundSources(s *Scope, p *InboundPort) []*config.Meta {
	var out []*config.Meta
	for _, m := range []*config.Meta{serviceMeta(p.Service), sidecarMeta(s.Sidecar)} {
		if m != nil {
			out = append(out, m)
		}
	}
	if p.Rule != nil {
		out = append(out, p.Rule.Sources...)
	}
	return out
}

func newInboundDraft(s *Scope, t clusterTraits, p *InboundPort) *clusterDraft {
	name := InboundCluster(p.Port)
	d := &clusterDraft{settings: s.Settings, traits: t, port: p.ServicePort, inbound: true}
	d.out = &cluster.Cluster{
		Name: name, AltStatName: name + statSuffix,
		CommonLbConfig: &cluster.Cluster_CommonLbConfig{},
		Metadata:       inboundMetadata(s, p),
	}
	if pattern := s.Settings.Mesh.GetInboundClusterStatName(); pattern != "" && p.Service != nil {
		d.out.AltStatName = statPattern(pattern, p.Service, p.ServicePort, p.Port, "") + statSuffix
	}
	d.policy = inboundPolicy(s, p)
	d.reachApplication(s, p)
	d.protocol()
	d.connectionPool()
	d.finish()
	return d
}

// inboundPolicy is what of a policy counts on the receiving side: the
// connection pool, so that the server takes as much as its clients may send.
// A Sidecar's word goes first.
func inboundPolicy(s *Scope, p *InboundPort) *networking.TrafficPolicy {
	policy := effectivePolicy(s.Settings.Mesh, p.Rule, p.ServicePort.Number, "")
	pool := inboundPool(s.Sidecar, p.Port)
	if pool == nil {
		return policy
	}
	out := shallowPolicy(policy)
	out.ConnectionPool = pool
	return out
}

func inboundMetadata(s *Scope, p *InboundPort) *core.Metadata {
	switch {
	case p.Service != nil:
		m := provenance(&p.Service.Meta)
		m.FilterMetadata[provenanceFilter].Fields["services"] = serviceList(p.Service)
		return m
	case s.Sidecar != nil:
		return provenance(&s.Sidecar.Meta)
	}
	return nil
}

// reachApplication decides where the application is: where the connection was
// meant to go, unless the Sidecar or the way of interception says otherwise.
func (d *clusterDraft) reachApplication(s *Scope, p *InboundPort) {
	target := ""
	if in := ingressOf(s.Sidecar, p.Port); in != nil {
		target = in.GetDefaultEndpoint()
	}
	if path, ok := strings.CutPrefix(target, "unix://"); ok {
		d.atAddress(&core.Address{Address: &core.Address_Pipe{Pipe: &core.Pipe{Path: path}}})
		return
	}
	host, port := "", p.Port
	if h, n, err := net.SplitHostPort(target); err == nil {
		number, err := strconv.ParseUint(n, 10, 16)
		if err == nil {
			host, port = h, uint32(number)
		}
	}
	switch {
	case !d.traits.captured:
		d.atAddress(socketAddress(s.localTarget(host), port))
	case host == "127.0.0.1" || host == "::1" || host == "" && d.localhostOnly():
		d.atAddress(socketAddress(s.loopback(), port))
	default:
		d.atDestination(s, p.Port, port)
	}
}

// localhostOnly reports whether applications are reached at localhost rather
// than at the pod's address (MeshConfig.inboundTrafficPolicy).
func (d *clusterDraft) localhostOnly() bool {
	return d.settings.Mesh.GetInboundTrafficPolicy().GetMode() == meshconfig.MeshConfig_InboundTrafficPolicy_LOCALHOST
}

// atDestination follows the connection's original destination, the pod's own
// address, on the application's port.
func (d *clusterDraft) atDestination(s *Scope, listen, port uint32) {
	d.setType(cluster.Cluster_ORIGINAL_DST)
	d.out.LbPolicy = cluster.Cluster_CLUSTER_PROVIDED
	// The destination is always the same, and forgetting it would only cost
	// the connections to it.
	d.out.CleanupInterval = durationpb.New(forever)
	d.out.UpstreamBindConfig = inboundSource(s.Class.Traits.IPv6Only)
	if port != listen {
		d.out.LbConfig = &cluster.Cluster_OriginalDstLbConfig_{OriginalDstLbConfig: &cluster.Cluster_OriginalDstLbConfig{
			UpstreamPortOverride: wrapperspb.UInt32(port),
		}}
	}
}

func (d *clusterDraft) atAddress(a *core.Address) {
	d.setType(cluster.Cluster_STATIC)
	d.out.LoadAssignment = &endpoint.ClusterLoadAssignment{
		ClusterName: d.out.Name,
		Endpoints: []*endpoint.LocalityLbEndpoints{{LbEndpoints: []*endpoint.LbEndpoint{{
			HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{Address: a}},
		}}}},
	}
}

// localTarget is where an application listens whose connections are not
// captured: what stands for the pod's addresses, or localhost.
func (s *Scope) localTarget(host string) string {
	t := &s.Class.Traits
	switch {
	case t.Local.App != "":
		return t.Local.App
	case (host == "0.0.0.0" || host == "::") && t.Addresses != "":
		first, _, _ := strings.Cut(t.Addresses, ",")
		return first
	}
	return s.loopback()
}

func (s *Scope) loopback() string {
	if s.Class.Traits.IPv6Only {
		return "::1"
	}
	return "127.0.0.1"
}

func inboundSource(ipv6Only bool) *core.BindConfig {
	if ipv6Only {
		return &core.BindConfig{SourceAddress: anyPort(inboundSourceIPv6)}
	}
	return &core.BindConfig{
		SourceAddress:        anyPort(inboundSourceIPv4),
		ExtraSourceAddresses: []*core.ExtraSourceAddress{{Address: anyPort(inboundSourceIPv6)}},
	}
}

func anyPort(ip string) *core.SocketAddress {
	return &core.SocketAddress{Address: ip, PortSpecifier: &core.SocketAddress_PortValue{}}
}

func socketAddress(ip string, port uint32) *core.Address {
	return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address: ip, PortSpecifier: &core.SocketAddress_PortValue{PortValue: port},
	}}}
}

// ingressOf is the Sidecar's ingress listener on a port, or nil.
func ingressOf(s *config.SidecarScope, port uint32) *networking.IstioIngressListener {
	if s == nil {
		return nil
	}
	for _, in := range s.Spec.GetIngress() {
		if in.GetPort().GetNumber() == port {
			return in
		}
	}
	return nil
}

// inboundPool is what a Sidecar says about connections to a port: the
// listener's own settings before those of all ports.
func inboundPool(s *config.SidecarScope, port uint32) *networking.ConnectionPoolSettings {
	if s == nil {
		return nil
	}
	if pool := ingressOf(s, port).GetConnectionPool(); pool != nil {
		return pool
	}
	return s.Spec.GetInboundConnectionPool()
}
