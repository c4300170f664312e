package translate

import (
	"slices"
	"strconv"
	"strings"
	"unique"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// GatewayServer is one server of one Gateway that selects the proxy.
type GatewayServer struct {
	Gateway *config.Gateway
	Spec    *networking.Server
	// Index is the server's place in the Gateway's list.
	Index int
	// content identifies the server with all that it says, kind is what of a port
	// it needs for itself, and name its Gateway as VirtualServices name it.
	content config.Hash
	kind    serverKind
	name    string
	// protocol is what the server speaks, and ownTable the name of the table that
	// it shares with no other, if it has one.
	protocol config.Protocol
	ownTable string
	// chain is the filter chain of a server that takes TLS off requests, but for
	// its http, which depends on the workload; nil for others. Not to be modified.
	chain *chain
	// Hosts are the server's hosts with the namespaces whose VirtualServices
	// may use them.
	Hosts []ServerHost
	// Route is the name of the RouteConfiguration that answers it; empty
	// where connections are forwarded whole.
	Route string
	// HTTP3: the server is reached over QUIC, too, and says so in its answers.
	HTTP3 bool
	// VirtualServices are those bound to the Gateway that are visible to it
	// and share a host with the server, in order of precedence.
	VirtualServices []*SettledVirtualService
}

// settledGateway is a Gateway with its servers' hosts spelled out. A pure
// function of the object; shared by scopes.
type settledGateway struct {
	*config.Gateway
	// selector tells it from Gateways with another selector.
	selector unique.Handle[string]
	// servers lack what depends on the workload: Route, HTTP3, VirtualServices.
	servers []GatewayServer
}

func settleGateway(gw *config.Gateway) *settledGateway {
	s := &settledGateway{Gateway: gw, selector: unique.Make(labelText(gw.Spec.GetSelector()))}
	name := gw.Namespace + "/" + gw.Name
	for i, spec := range gw.Spec.GetServers() {
		if spec.GetPort() == nil {
			continue // reported by the field table
		}
		server := GatewayServer{
			Gateway: gw, Spec: spec, Index: i, Hosts: serverHosts(gw, spec.GetHosts()),
			content: serverContent(gw, i), kind: kindOf(spec), name: name,
			protocol: config.ParseProtocol(spec.GetPort().GetProtocol()),
		}
		if server.ownTable = ownTable(&server); server.ownTable != "" {
			server.chain = server.terminating()
		}
		s.servers = append(s.servers, server)
	}
	return s
}

// terminating is GatewayServer.chain.
func (g *GatewayServer) terminating() *chain {
	c := &chain{tls: terminationOf(g), source: &g.Gateway.Meta}
	names, lost, ok := sniNames(g.hostNames())
	if !ok || len(lost) > 0 {
		return nil // which is told anew in each scope
	}
	c.match.sni = names
	h := config.NewHasher().Str("server").Hash(g.content)
	addSource(h, c.source)
	c.origin = h.Sum()
	return c
}

func (g *GatewayServer) hostNames() []string {
	out := make([]string, len(g.Hosts))
	for i, h := range g.Hosts {
		out[i] = h.Host
	}
	return out
}

// nextGateways are the Gateways of m, the oldest first, made of those of was.
func nextGateways(list []*settledGateway, m, was *config.Mesh) []*settledGateway {
	if m.Gateways.Same(was.Gateways) {
		return list
	}
	gone := map[*config.Gateway]bool{}
	var come []*settledGateway
	for old, gw := range m.Gateways.Changed(was.Gateways) {
		if old != nil {
			gone[old] = true
		}
		if gw != nil {
			come = append(come, settleGateway(gw))
		}
	}
	out := make([]*settledGateway, 0, len(list)+len(come))
	for _, s := range list {
		if !gone[s.Gateway] {
			out = append(out, s)
		}
	}
	compare := func(a, b *settledGateway) int { return precedence(&a.Meta, &b.Meta) }
	if len(come) > 16 {
		out = append(out, come...)
		slices.SortFunc(out, compare)
		return out
	}
	for _, s := range come {
		i, _ := slices.BinarySearchFunc(out, s, compare)
		out = slices.Insert(out, i, s)
	}
	return out
}

// fewServers is how many servers a Gateway has all of which are looked at anew
// when it changes.
const fewServers = 4

// serverContent is GatewayServer.content.
func serverContent(gw *config.Gateway, i int) config.Hash {
	h := config.NewHasher().Str(gw.Namespace, gw.Name).Uint(uint64(i))
	if servers := gw.Spec.GetServers(); len(servers) > fewServers {
		return h.Proto(servers[i]).Sum()
	}
	return h.Hash(gw.Hash).Sum()
}

// ServerHost is one entry of Server.hosts, spelled out.
type ServerHost struct {
	// Namespace limits the VirtualServices; empty means any.
	Namespace string
	// Host is in lower case, and may be a wildcard.
	Host string
}

// Field is the path of the server in its Gateway.
func (g *GatewayServer) Field() string { return "spec.servers[" + strconv.Itoa(g.Index) + "]" }

// Shared is the part of a VirtualService host that the server has, or ok
// false: the narrower of the two where they overlap.
func (g *GatewayServer) Shared(namespace, host string) (shared string, ok bool) {
	for _, h := range g.Hosts {
		if h.Namespace != "" && h.Namespace != namespace {
			continue
		}
		if s, ok := meet(h.Host, host); ok {
			return s, true
		}
	}
	return "", false
}

// GatewayPort is everything that the Gateways of a proxy serve on one
// listener address.
type GatewayPort struct {
	// Bind is the address, empty for every address.
	Bind string
	// Port is what the proxy listens on: the target port that the gateway's
	// Service maps the server's port to, or the server's port.
	Port    uint32
	Servers []*GatewayServer
}

func (p *GatewayPort) addTo(h config.Hasher) {
	h.Str(p.Bind).Uint(uint64(p.Port)).Uint(uint64(len(p.Servers)))
	for _, s := range p.Servers {
		h.Str(s.Route).Bool(s.HTTP3)
		h.Hash(s.Gateway.Hash).Uint(uint64(s.Index)).Uint(uint64(len(s.VirtualServices)))
		for _, v := range s.VirtualServices {
			h.Hash(v.Hash)
		}
	}
}

// gatherGateways finds the Gateway servers that select the scope's proxies,
// with conflicts between them settled.
func (ix *Index) gatherGateways(s *Scope) {
	m := newGatewayMerge(ix.servicesSelecting(s.Class.Namespace, s.Labels), parseLabels(s.Class.Traits.Ports))
	m.addAll(ix.gatewaysSelecting(s.Labels))
	s.Gateways = m.merged()
	bound := boundRules{ix: ix, client: s.Class.Namespace, hosts: map[*config.Gateway]*ruleHosts{}}
	for _, p := range s.Gateways {
		for _, server := range p.Servers {
			server.VirtualServices = bound.to(server)
		}
	}
	s.problems = append(s.problems, m.problems...)
}

// gatewaysSelecting are the Gateways, of any namespace, whose selector takes
// workloads of these labels, the oldest first. A Gateway without a selector
// takes every gateway workload.
func (ix *Index) gatewaysSelecting(labels map[string]string) []*settledGateway {
	var out []*settledGateway
	known := map[unique.Handle[string]]bool{} // thousands of Gateways have few selectors
	for _, gw := range ix.gateways {
		selects, ok := known[gw.selector]
		if !ok {
			selects = config.Selects(gw.Spec.GetSelector(), labels)
			known[gw.selector] = selects
		}
		if selects {
			out = append(out, gw)
		}
	}
	return out
}

// boundRules finds the VirtualServices of servers, as the proxies of a namespace
// see them.
type boundRules struct {
	ix     *Index
	client string
	hosts  map[*config.Gateway]*ruleHosts // of Gateways with many servers
}

// ruleHosts are VirtualServices, as places in a list, by host.
type ruleHosts struct {
	list  []*SettledVirtualService
	exact map[string][]int
	wild  []int
}

// to are the VirtualServices of a server's Gateway that share a host with the
// server, in order of precedence.
func (x *boundRules) to(g *GatewayServer) []*SettledVirtualService {
	list := x.ix.virtualServices.byGateway[g.name].visibleTo(x.client)
	shares := func(vs *SettledVirtualService) bool {
		return slices.ContainsFunc(vs.Hosts, func(h string) bool { _, ok := g.Shared(vs.Namespace, h); return ok })
	}
	wild := slices.ContainsFunc(g.Hosts, func(h ServerHost) bool { return isWildcard(h.Host) })
	if len(g.Gateway.Spec.GetServers()) < 2 || wild {
		if len(list) == 1 && shares(list[0]) {
			return list // most have a Gateway of their own
		}
		return filter(list, shares)
	}
	hosts := x.hosts[g.Gateway]
	if hosts == nil {
		hosts = newRuleHosts(list)
		x.hosts[g.Gateway] = hosts
	}
	places := slices.Clone(hosts.wild)
	for _, h := range g.Hosts {
		places = append(places, hosts.exact[h.Host]...)
	}
	slices.Sort(places)
	var out []*SettledVirtualService
	for _, i := range slices.Compact(places) {
		if shares(hosts.list[i]) {
			out = append(out, hosts.list[i])
		}
	}
	return out
}

func newRuleHosts(list []*SettledVirtualService) *ruleHosts {
	x := &ruleHosts{list: list, exact: make(map[string][]int, len(list))}
	for i, vs := range list {
		for _, h := range vs.Hosts {
			if isWildcard(h) {
				x.wild = append(x.wild, i)
			} else {
				x.exact[h] = append(x.exact[h], i)
			}
		}
	}
	return x
}

// serverHosts spells out Server.hosts (networking/v1alpha3 Server.hosts):
// "./host" is for the Gateway's own namespace, "*/host" for any.
func serverHosts(gw *config.Gateway, hosts []string) []ServerHost {
	out := make([]ServerHost, 0, len(hosts))
	for _, h := range hosts {
		ns, host, ok := strings.Cut(h, "/")
		switch {
		case !ok:
			ns, host = "", h
		case ns == ".":
			ns = gw.Namespace
		case ns == "*":
			ns = ""
		}
		out = append(out, ServerHost{Namespace: ns, Host: strings.ToLower(strings.TrimSuffix(host, "."))})
	}
	return out
}
