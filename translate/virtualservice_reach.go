package translate

import (
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// hostIndex finds what an Egress says about a host.
type hostIndex struct {
	services map[string]*VisibleService        // Services and Destinations
	exact    map[string]*SettledVirtualService // by host
	wild     map[string]*SettledVirtualService // by wildcard host without its "*"
	// aliases are the ExternalName services of a host, in order.
	aliases map[string][]string
}

// newEgress makes an outbound view. services are ordered by host, one per
// host; rules are in order of precedence. The slices are kept.
func newEgress(l *EgressListener, services []*VisibleService, rules []*SettledVirtualService) *Egress {
	e := &Egress{Listener: l, Services: services, VirtualServices: rules}
	e.hosts.services = make(map[string]*VisibleService, len(services))
	for _, s := range services {
		e.hosts.services[s.Hostname] = s
	}
	e.hosts.findAliases(services)
	e.hosts.exact = make(map[string]*SettledVirtualService, len(rules))
	e.hosts.wild = map[string]*SettledVirtualService{}
	for _, r := range rules {
		for _, h := range r.Hosts {
			claims, key := e.hosts.exact, h
			if isWildcard(h) {
				claims, key = e.hosts.wild, h[1:]
			}
			if claims[key] == nil {
				claims[key] = r
			}
		}
	}
	e.hash = e.identity()
	return e
}

func (e *Egress) identity() config.Hash {
	h := config.NewHasher()
	if e.Listener != nil {
		e.Listener.addTo(h)
	}
	for _, list := range [][]*VisibleService{e.Services, e.Destinations} {
		h.Uint(uint64(len(list)))
		for _, v := range list {
			h.Hash(v.Hash)
		}
	}
	h.Uint(uint64(len(e.VirtualServices)))
	for _, v := range e.VirtualServices {
		h.Hash(v.Hash)
	}
	return h.Sum()
}

func (x *hostIndex) findAliases(services []*VisibleService) {
	for _, s := range services {
		if s.ExternalName == "" {
			continue
		}
		if x.aliases == nil {
			x.aliases = map[string][]string{}
		}
		target := x.concrete(s.Hostname)
		x.aliases[target] = append(x.aliases[target], s.Hostname)
	}
}

// concrete follows ExternalName services to the host that they stand for. A
// cycle, which no resolver follows either, ends where it began.
func (x *hostIndex) concrete(host string) string {
	at := host
	for range maxAliasHops {
		s := x.services[at]
		if s == nil || s.ExternalName == "" {
			return at
		}
		at = strings.TrimSuffix(strings.ToLower(s.ExternalName), ".")
	}
	return host
}

// maxAliasHops is more than anyone chains, and ends cycles.
const maxAliasHops = 8

// reachOnly makes an outbound view of some of what the scope's namespace
// sees: those services and VirtualServices, and what the latter lead to.
func (ix *Index) reachOnly(s *Scope, l *EgressListener, services []*VisibleService, rules []*SettledVirtualService) *Egress {
	e := newEgress(l, services, rules)
	for _, r := range rules {
		for _, host := range r.Destinations {
			if e.hosts.services[host] != nil {
				continue
			}
			svc := ix.services.visible(host, s.Class.Namespace)
			if svc == nil {
				continue
			}
			v := ix.shareVisible(nil, svc, ix.ruleFor(svc, s.Class.Namespace, s.Labels))
			e.hosts.services[host] = v
			e.Destinations = append(e.Destinations, v)
		}
	}
	e.hash = e.identity()
	return e
}

// service returns the service of a host in reach, or nil.
func (e *Egress) service(host string) *VisibleService {
	if e == nil {
		return nil
	}
	return e.hosts.services[host]
}

// rulesFor returns the VirtualService that has the most specific host that
// covers a host, or nil. Of two with the same host the first one counts.
func (e *Egress) rulesFor(host string) *SettledVirtualService {
	if isWildcard(host) {
		host = host[1:]
	} else if r := e.hosts.exact[host]; r != nil {
		return r
	}
	if len(e.hosts.wild) == 0 {
		return nil
	}
	for rest := host; rest != ""; {
		i := strings.IndexByte(rest, '.')
		if i < 0 {
			break
		}
		if r := e.hosts.wild[rest[i:]]; r != nil {
			return r
		}
		rest = rest[i+1:]
	}
	return e.hosts.wild[""]
}
