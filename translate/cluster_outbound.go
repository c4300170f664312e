package translate

import (
	"slices"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// clusterTraits are what of a proxy its clusters depend on.
type clusterTraits struct {
	gateway  bool
	ipv6Only bool
	// captured: connections carry their original destination.
	captured bool
	// keepCase: HTTP/1.1 header names keep the case they came in.
	keepCase bool
	// ownResolver: see config.LocalAddresses.
	ownResolver bool
	// dnsCluster: see Traits. bufferLimit is of connections to endpoints, in
	// bytes; 0 leaves Envoy's own.
	dnsCluster  bool
	bufferLimit uint32
	// certificates: the proxy has some for mesh TLS; setsState: see Traits.
	certificates, setsState bool
	// near is where the proxy runs, for clusters that carry endpoints.
	near Viewer
}

func (b *build) clusterTraits() clusterTraits {
	c := &b.scope.Class
	pc := b.scope.proxyConfig()
	limit := settingsFor(c.Side, pc, b.scope.Settings.Mesh).GetClusterPerConnectionBufferLimitBytes()
	return clusterTraits{
		gateway:  c.Side == GatewaySide,
		ipv6Only: c.Traits.IPv6Only,
		captured: c.Side != GatewaySide && c.Traits.Interception != config.NoneMode,
		keepCase: pc.GetProxyHeaders().GetPreserveHttp1HeaderCase().GetValue(),

		ownResolver:  c.Traits.Local.OwnResolver,
		dnsCluster:   c.Traits.DNSCluster,
		bufferLimit:  natural(limit).GetValue(),
		certificates: c.Traits.Certificates,
		setsState:    c.Traits.SetsState,
	}
}

func (t clusterTraits) addTo(h config.Hasher) {
	h.Bool(t.gateway).Bool(t.ipv6Only).Bool(t.captured).Bool(t.keepCase).Bool(t.ownResolver).Bool(t.certificates).Bool(t.setsState).
		Bool(t.dnsCluster).Uint(uint64(t.bufferLimit))
	t.near.addTo(h)
}

// clusterGroup is what one service's clusters come to: one for each port in
// reach and each subset.
type clusterGroup struct {
	clusters  []*Resource
	endpoints []EndpointSpec
	problems  []config.Problem
}

// outboundClusters makes the clusters of every service in reach, and those
// that stand for destinations that no service names.
func (b *build) outboundClusters() {
	traits := b.clusterTraits()
	b.addSpecialClusters(traits)
	b.addOutsideServices(traits)
	several := len(b.scope.Egress) > 1
	seen := map[string]bool{}
	var groups []*clusterGroup
	for _, e := range b.scope.Egress {
		for _, v := range slices.Concat(e.Services, e.Destinations) {
			g := b.clustersOf(traits, v, false)
			if several || len(b.scope.collectors) > 0 {
				g = g.without(seen)
			}
			groups = append(groups, g)
		}
	}
	for _, v := range b.scope.collectors {
		groups = append(groups, b.clustersOf(traits, v, false).without(seen))
	}
	if b.passesThroughTLS() {
		for _, e := range b.scope.Egress {
			for _, v := range e.Services {
				if !v.External {
					groups = append(groups, b.clustersOf(traits, v, true))
				}
			}
		}
	}
	b.addClusters(groups)
}

// addClusters adds groups, with room for all of them made at once.
func (b *build) addClusters(groups []*clusterGroup) {
	clusters, endpoints := 0, 0
	for _, g := range groups {
		clusters, endpoints = clusters+len(g.clusters), endpoints+len(g.endpoints)
	}
	b.clusters, b.endpoints = slices.Grow(b.clusters, clusters), slices.Grow(b.endpoints, endpoints)
	for _, g := range groups {
		b.clusters = append(b.clusters, g.clusters...)
		b.endpoints = append(b.endpoints, g.endpoints...)
		b.problems = append(b.problems, g.problems...)
	}
}

// without leaves out what an earlier egress view already has, and records the
// rest as seen.
func (g *clusterGroup) without(seen map[string]bool) *clusterGroup {
	out := &clusterGroup{problems: g.problems}
	taken := map[string]bool{}
	for _, r := range g.clusters {
		if !seen[r.Name] {
			out.clusters = append(out.clusters, r)
			taken[r.Name], seen[r.Name] = true, true
		}
	}
	for _, e := range g.endpoints {
		if taken[e.Cluster] {
			out.endpoints = append(out.endpoints, e)
		}
	}
	return out
}

// passesThroughTLS reports whether some gateway server forwards mesh TLS by
// its SNI, which names a cluster.
func (b *build) passesThroughTLS() bool {
	for i := range b.scope.Gateways {
		for _, s := range b.scope.Gateways[i].Servers {
			if s.Spec.GetTls().GetMode() == networking.ServerTLSSettings_AUTO_PASSTHROUGH {
				return true
			}
		}
	}
	return false
}

// clustersOf returns a service's clusters, made once for all scopes that see
// the service alike.
func (b *build) clustersOf(traits clusterTraits, v *VisibleService, sni bool) *clusterGroup {
	if v.Inline != nil {
		traits.near = b.scope.Class.Traits.Near
		traits.near.Labels = b.scope.Class.Labels
	}
	h := config.NewHasher().Str("clusters", v.Hostname, v.Namespace).Bool(sni).
		Hash(v.Hash, b.scope.Settings.Hash)
	traits.addTo(h)
	key := h.Sum()
	if r, ok := b.t.memo.Get(key); ok && r.clusters != nil {
		return r.clusters
	}
	g := &clusterGroup{}
	if v.ExternalName == "" { // an alias has its target's clusters
		for _, p := range v.InReach {
			if p.Protocol != config.ProtocolUDP {
				g.addPort(b.scope.Settings, traits, v, p, sni)
			}
		}
	}
	b.t.memo.Add(key, remembered{clusters: g})
	return g
}

func (g *clusterGroup) addPort(s *config.Settings, t clusterTraits, v *VisibleService, p config.ServicePort, sni bool) {
	g.add(newClusterDraft(s, t, v, p, nil, sni))
	if v.Rule == nil || v.isForwarded() {
		return
	}
	for _, subset := range v.Rule.Spec.GetSubsets() {
		g.add(newClusterDraft(s, t, v, p, subset, sni))
	}
}

func (g *clusterGroup) add(d *clusterDraft) {
	d.finish()
	r, err := NewResource(d.out.Name, d.out, d.refs, d.sources()...)
	if err != nil {
		g.problems = append(g.problems, unencodable(d.out.Name, err, d.sources()))
		return
	}
	g.clusters = append(g.clusters, r)
	g.problems = append(g.problems, d.problems...)
	if d.isEDS() {
		g.endpoints = append(g.endpoints, d.endpointSpec())
	}
}
