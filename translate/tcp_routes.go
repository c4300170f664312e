package translate

import (
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// tcpChainsOf are the chains that forward a port's connections: those of the
// VirtualServices' tls or tcp routes that apply, or one to the service.
func (o *outbound) tcpChainsOf(p *outboundPort) []*chain {
	rules := o.l4Rules(p.egress, p.service.Hostname)
	if p.port.Protocol.IsTLS() {
		return o.b.withoutOverlap(o.tlsChains(p, rules))
	}
	return o.b.withoutOverlap(o.plainChains(p, rules))
}

// l4Rules are the VirtualServices with tls or tcp routes that apply to a
// host, in order of precedence.
func (o *outbound) l4Rules(e *Egress, host string) []*SettledVirtualService {
	all, ok := o.l4[e]
	if !ok {
		for _, vs := range e.VirtualServices {
			if len(vs.Spec.GetTcp())+len(vs.Spec.GetTls()) > 0 {
				all = append(all, vs)
			}
		}
		o.l4[e] = all
	}
	var out []*SettledVirtualService
	for _, vs := range all {
		if slices.ContainsFunc(vs.Hosts, func(h string) bool { _, ok := meet(h, host); return ok }) {
			out = append(out, vs)
		}
	}
	return out
}

// tlsChains are chosen by SNI. Of matches that look at the same bytes the
// first one that applies to this client counts.
func (o *outbound) tlsChains(p *outboundPort, rules []*SettledVirtualService) []*chain {
	var out []*chain
	seen := map[string]bool{}
	for _, vs := range rules {
		for _, r := range vs.Spec.GetTls() {
			if len(r.GetRoute()) == 0 {
				continue
			}
			for _, m := range r.GetMatch() {
				cidrs := p.cidrs
				if len(m.GetDestinationSubnets()) > 0 && p.port.Number > 0 {
					cidrs = m.GetDestinationSubnets()
				}
				id := strings.Join(m.GetSniHosts(), ",") + "|" + strings.Join(cidrs, ",")
				if seen[id] || !o.applies(vs, tlsClient(m), p.port.Number) {
					continue
				}
				seen[id] = true
				if sni, ok := o.b.sniNames(&vs.Meta, "spec.tls", m.GetSniHosts()); ok {
					out = append(out, &chain{
						match: chainMatch{sni: sni, cidrs: cidrs},
						tcp:   o.b.routedTo(p.egress, vs, r.GetRoute(), p.port.Number), source: &vs.Meta,
					})
				}
			}
		}
	}
	if len(out) > 0 {
		return out
	}
	c := o.ownChain(p)
	if o.needsSNI(p) {
		sni, ok := o.b.sniNames(&p.service.Meta, "spec.hosts", []string{p.service.Hostname})
		if !ok {
			return nil
		}
		c.match.sni = sni
	}
	return []*chain{c}
}

// needsSNI reports whether only the SNI tells the service from others: it has
// no address of its own.
func (o *outbound) needsSNI(p *outboundPort) bool {
	if len(p.cidrs) > 0 || p.service.Resolution == config.ResolveDynamicDNS && isWildcard(p.service.Hostname) {
		return true
	}
	if _, unix := unixPath(p.bind.primary()); unix {
		return false
	}
	shared := o.wildcard(p) || o.env.traits.Local.Outbound != "" && !p.chosen
	return shared && !p.own
}

// plainChains are chosen by destination address. The first rule that matches
// any address ends the list.
func (o *outbound) plainChains(p *outboundPort, rules []*SettledVirtualService) []*chain {
	var out []*chain
	for _, vs := range rules {
		for _, r := range vs.Spec.GetTcp() {
			if len(r.GetRoute()) == 0 {
				continue
			}
			subnets, all := o.subnetsOf(vs, r, p.port.Number)
			if !all && len(subnets) == 0 {
				continue
			}
			c := &chain{
				match: chainMatch{cidrs: subnets},
				tcp:   o.b.routedTo(p.egress, vs, r.GetRoute(), p.port.Number), source: &vs.Meta,
			}
			if all {
				c.match.cidrs = p.cidrs
				return append(out, c)
			}
			out = append(out, c)
		}
	}
	own := o.ownChain(p)
	if slices.ContainsFunc(out, func(c *chain) bool { return c.match.same(&own.match) }) {
		return out
	}
	return append(out, own)
}

// subnetsOf says which destinations a tcp route takes of this client's
// connections: all, or those of some subnets.
func (o *outbound) subnetsOf(vs *SettledVirtualService, r *networking.TCPRoute, port uint32) (subnets []string, all bool) {
	if len(r.GetMatch()) == 0 {
		return nil, true
	}
	for _, m := range r.GetMatch() {
		if !o.applies(vs, tcpClient(m), port) {
			continue
		}
		if len(m.GetDestinationSubnets()) == 0 || port == 0 {
			return nil, true
		}
		subnets = append(subnets, m.GetDestinationSubnets()...)
	}
	return subnets, false
}

// ownChain forwards to the service itself.
func (o *outbound) ownChain(p *outboundPort) *chain {
	port := p.port.Number
	if p.chosen && len(p.service.Ports) == 1 {
		port = p.service.Ports[0].Number
	}
	name := OutboundCluster(port, "", p.service.Hostname)
	t := toCluster(name)
	t.statPrefix = o.b.statName(name, p.service, port, "")
	o.b.tcpPolicy(t, p.service, "")
	if p.service.Resolution == config.ResolveDynamicDNS && isWildcard(p.service.Hostname) && p.port.Protocol.IsTLS() && port != 0 {
		t.dynamic = &sniDynamic{host: p.service.Hostname, port: port}
	}
	return &chain{match: chainMatch{cidrs: p.cidrs}, tcp: t, source: &p.service.Meta}
}

// clientMatch is what tls and tcp matches test of the client and of the
// listener; all of it is known beforehand.
type clientMatch struct {
	port      uint32
	labels    map[string]string
	gateways  []string
	namespace string
}

func tlsClient(m *networking.TLSMatchAttributes) clientMatch {
	return clientMatch{m.GetPort(), m.GetSourceLabels(), m.GetGateways(), m.GetSourceNamespace()}
}

func tcpClient(m *networking.L4MatchAttributes) clientMatch {
	return clientMatch{m.GetPort(), m.GetSourceLabels(), m.GetGateways(), m.GetSourceNamespace()}
}

func (o *outbound) applies(vs *SettledVirtualService, m clientMatch, port uint32) bool {
	s := o.b.scope
	return (m.port == 0 || m.port == port) &&
		config.Selects(m.labels, s.Labels) &&
		(m.namespace == "" || m.namespace == s.Class.Namespace) &&
		(len(m.gateways) == 0 || slices.Contains(fullGateways(m.gateways, vs.Namespace), meshGateway))
}

// sniNames are the names for a match; "*" alone matches anything, for which
// they are nil. Names that Envoy cannot match are left out and reported: a
// wildcard stands for whole labels in an SNI. ok is false if none is left.
func (b *build) sniNames(source *config.Meta, field string, in []string) (names []string, ok bool) {
	names, lost, ok := sniNames(in)
	for _, n := range lost {
		b.problems = append(b.problems, config.At(source, field, config.Warning, "SNIWildcard",
			"host %s cannot be matched by SNI: a wildcard stands for whole labels there. Write it like *.example.com", shown(n)))
	}
	return names, ok
}

// sniNames are the names for a match, and those that Envoy cannot match.
func sniNames(in []string) (names, lost []string, ok bool) {
	if slices.Contains(in, "*") {
		return nil, nil, true
	}
	for _, n := range in {
		n = strings.ToLower(strings.TrimSuffix(n, "."))
		if strings.Contains(strings.TrimPrefix(n, "*."), "*") || n == "" {
			lost = append(lost, n)
			continue
		}
		names = append(names, n)
	}
	return names, lost, len(names) > 0
}

// routedTo forwards to the destinations of a tls or tcp route. Weights of
// zero take part in nothing; without any weight the first destination takes
// all.
func (b *build) routedTo(e *Egress, vs *SettledVirtualService, routes []*networking.RouteDestination, port uint32) *tcpChain {
	first := routes[0].GetDestination()
	t := &tcpChain{}
	if len(routes) == 1 {
		name := b.destinationCluster(e, vs, first, port)
		svc := e.service(fullHost(first.GetHost(), vs.Namespace, vs.domain))
		t.statPrefix, t.clusters = b.statName(name, svc, port, first.GetSubset()), []weightedCluster{{name: name}}
		b.tcpPolicy(t, svc, first.GetSubset())
		return t
	}
	t.statPrefix = vs.Name + "." + vs.Namespace
	for _, r := range routes {
		if r.GetWeight() > 0 {
			t.clusters = append(t.clusters, weightedCluster{b.destinationCluster(e, vs, r.GetDestination(), port), uint32(r.GetWeight())})
		}
	}
	if len(t.clusters) == 0 {
		t.clusters = []weightedCluster{{name: b.destinationCluster(e, vs, first, port)}}
	}
	b.tcpPolicy(t, e.service(fullHost(first.GetHost(), vs.Namespace, vs.domain)), "")
	return t
}

// statName is a cluster's name in the statistics of the connections to it, by
// the mesh's pattern (outboundClusterStatName) if it has one.
func (b *build) statName(cluster string, v *VisibleService, port uint32, subset string) string {
	pattern := b.scope.Settings.Mesh.GetOutboundClusterStatName()
	if pattern == "" || v == nil {
		return cluster
	}
	sp, ok := v.Port(port)
	if !ok {
		sp = config.ServicePort{Number: port}
	}
	return statPattern(pattern, v.Service, sp, port, subset)
}

// destinationCluster is the cluster that a route's destination means: on its
// own port, the only port of the service, or the port of the listener.
func (b *build) destinationCluster(e *Egress, vs *SettledVirtualService, d *networking.Destination, port uint32) string {
	host := fullHost(d.GetHost(), vs.Namespace, vs.domain)
	svc := e.service(host)
	switch {
	case d.GetPort().GetNumber() != 0:
		port = d.GetPort().GetNumber()
	case svc != nil && len(svc.Ports) == 1:
		port = svc.Ports[0].Number
	}
	if svc != nil && svc.ExternalName != "" {
		host = e.hosts.concrete(host)
	}
	return OutboundCluster(port, d.GetSubset(), host)
}

// tcpPolicy applies what a service's DestinationRule says about connections
// that are forwarded whole.
func (b *build) tcpPolicy(t *tcpChain, v *VisibleService, subset string) {
	if v == nil || v.Rule == nil {
		return
	}
	policy := v.Rule.Spec.GetTrafficPolicy()
	pool := policy.GetConnectionPool().GetTcp()
	t.idle, t.lifetime = pool.GetIdleTimeout(), pool.GetMaxConnectionDuration()
	t.bySourceIP = policy.GetLoadBalancer().GetConsistentHash().GetUseSourceIp()
	t.tunnel = policy.GetTunnel()
	if subset == "" {
		return
	}
	t.tunnel = nil
	for _, s := range v.Rule.Spec.GetSubsets() {
		if s.GetName() != subset {
			continue
		}
		t.tunnel = s.GetTrafficPolicy().GetTunnel()
		if lb := s.GetTrafficPolicy().GetLoadBalancer(); lb != nil {
			t.bySourceIP = lb.GetConsistentHash().GetUseSourceIp()
		}
	}
}
