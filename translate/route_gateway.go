package translate

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// gatewayRoutes fills the tables that a gateway's listeners ask for.
func (b *build) gatewayRoutes() {
	done := make(map[string]bool, len(b.tables))
	env := b.newRouteEnv(false)
	h := config.NewHasher()
	list := newSuccession[rememberedTable](b.t, config.NewHasher().Str("gateway tables").Hash(env.hash).Sum(), len(b.tables))
	for i := range b.tables {
		t := &b.tables[i]
		if done[t.Name] || len(t.Servers) == 0 {
			continue
		}
		done[t.Name] = true
		if r := b.rememberedTable(t, env, h, list); r != nil {
			b.routes = append(b.routes, r)
		}
	}
	list.end()
}

// fewRules bounds the VirtualServices of tables that are remembered whole:
// gateways have thousands of those, of which a change concerns one. Larger ones
// change with each of their many virtual hosts, which are remembered.
const fewRules = 16

// rememberedTable is one of them with what was found in making it.
type rememberedTable struct {
	resource *Resource
	problems []config.Problem
}

// rememberedTable is gatewayTable, made once for equal inputs. h is for hashing.
func (b *build) rememberedTable(t *routeTable, env *routeEnv, h config.Hasher, list *succession[rememberedTable]) *Resource {
	egress := b.gatewayEgress(t)
	rules := 0
	h.Reset().Str("gateway table", t.Name).Hash(env.hash).Uint(uint64(len(t.Servers)))
	for _, s := range t.Servers {
		if rules += len(s.VirtualServices); rules > fewRules {
			return b.gatewayTable(t, env)
		}
		h.Hash(s.content).Bool(s.HTTP3).Uint(uint64(len(s.VirtualServices)))
		for _, vs := range s.VirtualServices {
			(&ruled{env: env, egress: egress, rules: vs}).addTo(h)
		}
	}
	made := list.next(h.Sum(), func() rememberedTable {
		one := &build{t: b.t, scope: b.scope}
		return rememberedTable{one.gatewayTable(t, env), one.problems}
	})
	b.problems = append(b.problems, made.problems...)
	return made.resource
}

func (b *build) gatewayTable(t *routeTable, env *routeEnv) *Resource {
	port := t.Servers[0].Spec.GetPort().GetNumber()
	var parts []*vhostPart
	for _, v := range gatewayVhosts(t, env, b.gatewayEgress(t)) {
		made := b.gatewayVhost(env, v)
		b.problems = append(b.problems, made.problems...)
		if made.part != nil {
			parts = append(parts, made.part)
		}
	}
	if len(parts) == 0 {
		// A table of no hosts at all: every request is a 404.
		vh := &route.VirtualHost{Name: vhostName("blackhole", port)}
		made := b.encodeVhost(vh, domains{names: []string{"*"}, proper: 1}, nil)
		parts = append(parts, made.part)
	}
	slices.SortStableFunc(parts, func(x, y *vhostPart) int { return strings.Compare(x.name, y.name) })
	clusters, sources := clustersAndSources(parts)
	return b.spliceRoutes(t.Name, parts, true, clusters, sources)
}

func (b *build) gatewayEgress(t *routeTable) *Egress {
	if t.Egress != nil || len(b.scope.Egress) == 0 {
		return t.Egress
	}
	return b.scope.Egress[0]
}

// gatewayVhost is one virtual host of a gateway: hosts with the same rules.
type gatewayVhost struct {
	hosts      []string
	port       uint32
	requireTLS bool
	http3      bool     // say that the port is served over QUIC, too
	rules      []*ruled // in order of precedence
	hash       config.Hash
}

// gatewayVhosts lists the virtual hosts of a table, by host. The rules of all
// VirtualServices of one host apply, those of the earlier server and of the
// older VirtualService first.
func gatewayVhosts(t *routeTable, env *routeEnv, egress *Egress) []*gatewayVhost {
	byHost := map[string]*gatewayVhost{}
	http3 := slices.ContainsFunc(t.Servers, func(s *GatewayServer) bool { return s.HTTP3 })
	get := func(host string, port uint32) *gatewayVhost {
		v := byHost[host]
		if v == nil {
			v = &gatewayVhost{hosts: []string{host}, port: port, http3: http3}
			byHost[host] = v
		}
		return v
	}
	for _, s := range t.Servers {
		port, toHTTPS := s.Spec.GetPort().GetNumber(), s.Spec.GetTls().GetHttpsRedirect()
		for _, rules := range s.VirtualServices {
			if withHTTP(rules) == nil {
				continue
			}
			r := &ruled{
				env: env, egress: egress, rules: rules, port: port, tls: s.Spec.GetTls() != nil,
				gateway: s.name,
			}
			for _, host := range serverHostsOf(s, rules) {
				v := get(host, port)
				v.add(r)
				v.requireTLS = v.requireTLS || toHTTPS
			}
		}
		for _, h := range s.Hosts {
			if toHTTPS {
				get(h.Host, port).requireTLS = true
			}
		}
	}
	return collapse(byHost)
}

// add appends rules, unless the same are there already through another server
// of the Gateway.
func (v *gatewayVhost) add(r *ruled) {
	for _, have := range v.rules {
		if have.rules == r.rules && have.gateway == r.gateway && have.port == r.port && have.tls == r.tls {
			return
		}
	}
	v.rules = append(v.rules, r)
}

// collapse makes one virtual host of hosts with equal rules: a VirtualService
// of many hosts is sent once. It is named after the most specific one, which
// EnvoyFilters match.
func collapse(byHost map[string]*gatewayVhost) []*gatewayVhost {
	hosts := make([]string, 0, len(byHost))
	for h := range byHost {
		hosts = append(hosts, h)
	}
	slices.SortFunc(hosts, moreSpecificFirst)
	first := map[config.Hash]*gatewayVhost{}
	out := make([]*gatewayVhost, 0, len(hosts))
	for _, host := range hosts {
		v := byHost[host]
		h := config.NewHasher().Str("gateway vhost").Uint(uint64(v.port)).Bool(v.requireTLS).Bool(v.http3).Uint(uint64(len(v.rules)))
		for _, r := range v.rules {
			r.addTo(h)
		}
		v.hash = h.Sum()
		if same := first[v.hash]; same != nil {
			same.hosts = append(same.hosts, host)
			continue
		}
		first[v.hash] = v
		out = append(out, v)
	}
	return out
}

// moreSpecificFirst orders hosts by length, those with a wildcard last.
func moreSpecificFirst(a, b string) int {
	wild := func(host string) int {
		if strings.HasPrefix(host, "*") {
			return 1
		}
		return 0
	}
	return cmp.Or(wild(a)-wild(b), len(b)-len(a), strings.Compare(a, b))
}

// gatewayVhost encodes a virtual host. It has no part if it would answer
// nothing: no rule applies to the gateway.
func (b *build) gatewayVhost(env *routeEnv, v *gatewayVhost) madeVhost {
	key := config.NewHasher().Hash(v.hash).Bool(env.attemptCount).Str(v.hosts...).Sum()
	return remember(b.t, key, func() madeVhost {
		all := v.make()
		if len(all.routes) == 0 && !v.requireTLS {
			return madeVhost{problems: all.problems}
		}
		vh := &route.VirtualHost{
			Name: vhostName(v.hosts[0], v.port), Routes: all.routes, IncludeRequestAttemptCount: env.attemptCount,
		}
		if len(v.rules) > 0 {
			vh.Metadata = provenance(&v.rules[0].rules.Meta)
		}
		if v.requireTLS {
			vh.RequireTls = route.VirtualHost_ALL
		}
		if v.http3 {
			vh.ResponseHeadersToAdd = []*core.HeaderValueOption{{Header: &core.HeaderValue{
				Key: "alt-svc", Value: "h3=\":" + strconv.Itoa(int(v.port)) + "\"; ma=86400",
			}}}
		}
		var d domains
		d.add(bareForm, v.port, v.hosts...)
		d.proper = len(d.names)
		out := b.encodeVhost(vh, d, all.clusters, all.sources...)
		if out.part != nil {
			out.part.longestBody = all.longestBody
		}
		out.problems = append(all.problems, out.problems...)
		return out
	})
}

// make puts the routes of all rules together.
func (v *gatewayVhost) make() *madeRoutes {
	all := &madeRoutes{}
	for _, r := range v.rules {
		made := r.make()
		all.routes = append(all.routes, made.routes...)
		all.clusters = append(all.clusters, made.clusters...)
		all.problems = append(all.problems, made.problems...)
		all.longestBody = max(all.longestBody, made.longestBody)
		for _, m := range made.sources {
			if !slices.Contains(all.sources, m) {
				all.sources = append(all.sources, m)
			}
		}
	}
	// What takes every request must not hide the rules of the next
	// VirtualService.
	slices.SortStableFunc(all.routes, func(x, y *route.Route) int { return rank(x) - rank(y) })
	return all
}

func rank(r *route.Route) int {
	if takesAll(r.GetMatch()) {
		return 1
	}
	return 0
}

// serverHostsOf are the hosts that a server and a VirtualService have in
// common: the narrower one where one covers the other.
func serverHostsOf(s *GatewayServer, rules *SettledVirtualService) []string {
	var out []string
	for _, h := range s.Hosts {
		if h.Namespace != "" && h.Namespace != rules.Namespace {
			continue
		}
		for _, want := range rules.Hosts {
			if host, ok := meet(h.Host, want); ok && !slices.Contains(out, host) {
				out = append(out, host)
			}
		}
	}
	return out
}
