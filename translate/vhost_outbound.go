package translate

import (
	"slices"
	"strings"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// vhostInput says what one virtual host of a sidecar's table is made of.
type vhostInput struct {
	host    string
	port    uint32
	service *VisibleService        // nil for a host that no service has
	rules   *SettledVirtualService // nil for the plain route to the service
}

// vhostInputs lists the virtual hosts of a table: those of services, and
// those of hosts that VirtualServices alone have.
func vhostInputs(t *routeTable) []vhostInput {
	e := t.Egress
	if t.Only != nil {
		return []vhostInput{{t.Only.Hostname, t.Port, t.Only, withHTTP(e.rulesFor(t.Only.Hostname))}}
	}
	out := make([]vhostInput, 0, len(e.Services))
	for _, s := range e.Services {
		for i := range s.InReach {
			if p := &s.InReach[i]; t.has(p) {
				rules := withHTTP(e.rulesFor(s.Hostname))
				if rules != nil || s.ExternalName == "" {
					out = append(out, vhostInput{s.Hostname, p.Number, s, rules})
				}
			}
		}
	}
	return append(out, hostsWithoutService(t, out)...)
}

// has reports whether a table routes the requests of a service's port.
func (t *routeTable) has(p *config.ServicePort) bool {
	return (t.Port == 0 || p.Number == t.Port) && carriesHTTP(p.Protocol)
}

// carriesHTTP reports whether a port's requests are routed: it is HTTP, or
// what it is shows in its first bytes.
func carriesHTTP(p config.Protocol) bool { return p.IsHTTP() || p == config.ProtocolUnset }

func withHTTP(r *SettledVirtualService) *SettledVirtualService {
	if r == nil || len(r.Spec.GetHttp()) == 0 {
		return nil
	}
	return r
}

// hostsWithoutService are the hosts of VirtualServices that no service of the
// table has. They answer on port 80, where HTTP to any name goes, on ports
// where the same VirtualService applies to a service, and where a wildcard
// service covers them.
func hostsWithoutService(t *routeTable, served []vhostInput) []vhostInput {
	var out []vhostInput
	var about *servedHosts // only made where there is such a host
	for _, r := range t.Egress.VirtualServices {
		if withHTTP(r) == nil {
			continue
		}
		for _, h := range r.Hosts {
			if t.serves(h) || t.Egress.claimant(h) != r {
				continue
			}
			if about == nil {
				about = newServedHosts(served)
			}
			if isWildcard(h) && about.suffixes[h[1:]] {
				continue // it applies to the services below it
			}
			for _, port := range about.portsOf(t, r, h) {
				out = append(out, vhostInput{h, port, nil, r})
			}
		}
	}
	return out
}

// serves reports whether a table has a service of just this host.
func (t *routeTable) serves(host string) bool {
	services := t.Egress.Services
	i, found := slices.BinarySearchFunc(services, host, func(s *VisibleService, h string) int { return strings.Compare(s.Hostname, h) })
	return found && slices.ContainsFunc(services[i].InReach, func(p config.ServicePort) bool { return t.has(&p) })
}

// servedHosts is what a table's services mean for the hosts that have none.
type servedHosts struct {
	suffixes map[string]bool // of the services' hosts, from each dot on
	wild     []string        // hosts of services that are wildcards
	// ports are those at which a VirtualService applies to some service.
	ports map[*SettledVirtualService][]uint32
}

func newServedHosts(served []vhostInput) *servedHosts {
	x := &servedHosts{suffixes: map[string]bool{}, ports: map[*SettledVirtualService][]uint32{}}
	for i := range served {
		in := &served[i]
		if in.rules != nil && !slices.Contains(x.ports[in.rules], in.port) {
			x.ports[in.rules] = append(x.ports[in.rules], in.port)
		}
		if isWildcard(in.host) {
			x.wild = append(x.wild, in.host)
		}
		rest := strings.TrimPrefix(in.host, "*")
		for i := strings.IndexByte(rest, '.'); i >= 0; i = strings.IndexByte(rest, '.') {
			x.suffixes[rest[i:]] = true
			rest = rest[i+1:]
		}
	}
	return x
}

func (x *servedHosts) portsOf(t *routeTable, r *SettledVirtualService, host string) []uint32 {
	switch {
	case t.Port == 80:
		return []uint32{80}
	case len(x.ports[r]) > 0:
		return x.ports[r]
	case t.Port != 0 && slices.ContainsFunc(x.wild, func(w string) bool { return hostCovers(w, host) }):
		return []uint32{t.Port}
	}
	return nil
}

// claimant is the VirtualService that has a host itself, not through a
// wildcard above it.
func (e *Egress) claimant(host string) *SettledVirtualService {
	if isWildcard(host) {
		return e.hosts.wild[host[1:]]
	}
	return e.hosts.exact[host]
}

// outboundVhost makes the virtual host that in describes.
func (b *build) outboundVhost(t *routeTable, env *routeEnv, in *vhostInput) madeVhost {
	var made madeVhost
	if in.rules != nil {
		made = b.ruledVhost(t, env, in)
		// Where no rule applies to this client it is as if there were none.
		if made.part != nil || in.service == nil || in.service.ExternalName != "" {
			return made
		}
	}
	plain := b.plainVhost(t, env, in)
	plain.problems = append(slices.Clip(made.problems), plain.problems...)
	return plain
}

// addDomains adds what domainsOf reads.
func (env *routeEnv) addDomains(h config.Hasher, t *routeTable, in *vhostInput) {
	h.Str(in.host).Uint(uint64(in.port)).Uint(uint64(env.formsOf(t, in.port)))
	if t.Only != nil {
		h.Uint(uint64(allDomains))
		return
	}
	reach := reachOf(in.host, env.dnsDomain)
	aliases := t.Egress.hosts.aliases[in.host]
	h.Uint(uint64(reach)).Uint(uint64(len(aliases))).Str(aliases...)
	if reach == sharedDomain || len(aliases) > 0 {
		h.Str(env.dnsDomain)
	}
}

// allDomains stands in keys for a virtual host that answers to every name.
const allDomains = 99

// formsOf are the forms of names in a table. One for every port knows the
// names alone for port 80 only.
func (env *routeEnv) formsOf(t *routeTable, port uint32) nameForms {
	switch {
	case t.Port == 0 && port != 80:
		return portForm
	case env.withPorts:
		return bothForms
	}
	return bareForm
}

func (env *routeEnv) domainsFor(t *routeTable, in *vhostInput) domains {
	if t.Only != nil {
		return domains{names: []string{"*"}, proper: 1}
	}
	return domainsOf(in.host, in.service, t.Egress.hosts.aliases[in.host], env.dnsDomain, env.formsOf(t, in.port), in.port)
}

// plainVhost leads everything to the service itself.
func (b *build) plainVhost(t *routeTable, env *routeEnv, in *vhostInput) madeVhost {
	h := config.NewHasher().Str("plain vhost").Hash(env.hash, in.service.routing)
	env.addDomains(h, t, in)
	return remember(b.t, h.Sum(), func() madeVhost {
		cluster := OutboundCluster(in.port, "", in.host)
		r := defaultRoute(cluster, in.host, in.port, env)
		if hash := hashPolicy(in.service.Rule, in.port, ""); hash != nil {
			r.GetRoute().HashPolicy = []*route.RouteAction_HashPolicy{hash}
		}
		vh := &route.VirtualHost{
			Name: vhostName(in.host, in.port), Routes: []*route.Route{r},
			IncludeRequestAttemptCount: env.attemptCount, Metadata: serviceProvenance(in.service.Service),
		}
		return b.encodeVhost(vh, env.domainsFor(t, in), []string{cluster}, &in.service.Meta)
	})
}

// encodeVhost is newVhostPart with what can go wrong as a Problem.
func (b *build) encodeVhost(vh *route.VirtualHost, d domains, clusters []string, sources ...*config.Meta) madeVhost {
	p, err := newVhostPart(vh, d, sources...)
	if err != nil {
		return madeVhost{problems: []config.Problem{unencodable("virtual host "+vh.Name, err, sources)}}
	}
	p.clusters = clusters
	return madeVhost{part: p}
}
