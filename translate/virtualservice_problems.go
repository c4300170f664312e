package translate

import (
	"fmt"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// virtualServiceProblems tests what VirtualServices say about other objects:
// hosts, subsets, gateways and delegates that do not exist, hosts that two
// claim, and rules that the delegates before them shadow.
func (ix *Index) virtualServiceProblems() []config.Problem {
	x := &referenceCheck{ix: ix, delegated: map[config.Key]bool{}, hintsLeft: maxHints}
	for _, s := range ix.virtualServices.settled {
		x.delegates(s)
		x.gateways(s)
		x.hosts(s)
	}
	x.claims()
	for vs := range ix.mesh.VirtualServices.All() {
		x.destinations(vs)
		if len(vs.Spec.GetHosts()) == 0 && !x.delegated[vs.Key] {
			x.warn(&vs.Meta, "spec.hosts", "NoEffect", "is empty, so this is a delegate, but no VirtualService delegates to it")
		}
	}
	return x.problems
}

// maxHints bounds the search for names that are like an unknown one.
const maxHints = 20

// referenceCheck collects the problems between VirtualServices and others.
type referenceCheck struct {
	ix        *Index
	delegated map[config.Key]bool
	hintsLeft int
	problems  []config.Problem
}

func (x *referenceCheck) warn(m *config.Meta, field, code, format string, args ...any) {
	x.problems = append(x.problems, config.At(m, field, config.Warning, code, format, args...))
}

// delegates tests what a root delegates to, and the rules that come of it.
func (x *referenceCheck) delegates(s *SettledVirtualService) {
	if s.delegates == nil {
		return
	}
	for i, rule := range s.Spec.GetHttp() {
		d := rule.GetDelegate()
		if d == nil {
			continue
		}
		ns := delegateNamespace(d, s.Namespace)
		if to := s.delegates[i]; to != nil {
			x.delegated[to.Key] = true
			continue
		}
		field := httpField(i) + ".delegate"
		found, ok := x.ix.mesh.VirtualServices.Get(ns, d.GetName())
		switch {
		case !ok:
			x.warn(&s.Meta, field, "DelegateNotFound", "is %s/%s, which does not exist; the rule has no effect", ns, d.GetName())
		case len(found.Spec.GetHosts()) > 0:
			x.warn(&s.Meta, field, "DelegateInvalid", "is %s/%s, which has hosts; a delegate has none", ns, d.GetName())
		default:
			x.warn(&s.Meta, field, "DelegateNotFound", "is %s/%s, whose exportTo does not include namespace %s", ns, d.GetName(), s.Namespace)
		}
	}
	rules, problems := s.mergeRules()
	x.problems = append(x.problems, problems...)
	routes := make([]*networking.HTTPRoute, len(rules))
	for i := range rules {
		routes[i] = rules[i].HTTPRoute
	}
	for _, sh := range httpShadows(routes) {
		dead, by := &rules[sh.dead.rule], &rules[sh.by.rule]
		field := dead.field
		if dead.meta.Key == s.Key && sh.dead.match >= 0 { // a delegate's matches are put together with its root's
			field += fmt.Sprintf(".match[%d]", sh.dead.match)
		}
		x.warn(dead.meta, field, "RouteShadowed", "is never reached under %s: %s of %s takes all of its requests before",
			s.Key, by.field, by.meta.Key)
	}
}

// gateways tests that the gateways exist and let the hosts in.
func (x *referenceCheck) gateways(s *SettledVirtualService) {
	for i, name := range s.Gateways {
		if name == meshGateway {
			continue
		}
		field := fmt.Sprintf("spec.gateways[%d]", i)
		ns, short, _ := strings.Cut(name, "/")
		gw, ok := x.ix.mesh.Gateways.Get(ns, short)
		if !ok {
			x.warn(&s.Meta, field, "GatewayNotFound", "is %s, which does not exist%s", name, x.gatewayHint(ns, short))
			continue
		}
		for j, host := range s.Hosts {
			if !slices.ContainsFunc(gw.Spec.GetServers(), func(server *networking.Server) bool { return admits(gw, server, s.Namespace, host) }) {
				x.warn(&s.Meta, fmt.Sprintf("spec.hosts[%d]", j), "HostNotInGateway",
					"is %s, which no server of %s admits from namespace %s; add it to the server's hosts", host, gw.Key, s.Namespace)
			}
		}
	}
}

// admits reports whether a server takes a host of a VirtualService of a
// namespace.
func admits(gw *config.Gateway, server *networking.Server, namespace, host string) bool {
	_, ok := (&GatewayServer{Hosts: serverHosts(gw, server.GetHosts())}).Shared(namespace, host)
	return ok
}

func (x *referenceCheck) gatewayHint(ns, name string) string {
	var here []string
	for _, g := range x.ix.mesh.Gateways.In(ns) {
		here = append(here, g.Name)
	}
	if best := nearest(name, here, ""); best != "" {
		return fmt.Sprintf("; did you mean %s/%s?", ns, best)
	}
	for other := range x.ix.mesh.Gateways.All() {
		if other.Name == name {
			return fmt.Sprintf("; did you mean %s/%s?", other.Namespace, name)
		}
	}
	return ""
}

// hosts tests the hosts that can only be services of the cluster.
func (x *referenceCheck) hosts(s *SettledVirtualService) {
	if !slices.Contains(s.Gateways, meshGateway) {
		return
	}
	suffix := ".svc." + s.domain
	for i, host := range s.Hosts {
		if isWildcard(host) || !strings.HasSuffix(host, suffix) || x.ix.services.visible(host, s.Namespace) != nil {
			continue
		}
		x.warn(&s.Meta, fmt.Sprintf("spec.hosts[%d]", i), "HostNotFound", "%s", x.unknownHost(host, s.Namespace, ""))
	}
}

// unknownHost says that a host is no service that a namespace sees, what
// comes of it, and why.
func (x *referenceCheck) unknownHost(host, namespace, effect string) string {
	if hidden := x.ix.services.all[host]; len(hidden) > 0 {
		return fmt.Sprintf("is %s, which %s does not export to namespace %s%s", host, hidden[0].Key, namespace, effect)
	}
	unknown := fmt.Sprintf("is %s, which is no known host%s; ", host, effect)
	if full := host + ".svc." + x.ix.mesh.Settings.DomainSuffix; x.ix.services.all[full] != nil {
		return unknown + "a name with dots must be complete: write " + full
	}
	if x.hintsLeft > 0 {
		x.hintsLeft--
		if best := x.ix.nearestHost(host); best != "" {
			return unknown + "did you mean " + best + "?"
		}
	}
	return unknown + "add a Service or ServiceEntry for it"
}

// nearestHost is the host that a mistyped one most likely stands for, or "". Of
// the cluster's own names it is the service's that is compared, in the same
// namespace, and else the same name in another one: the rest is alike in all.
func (ix *Index) nearestHost(host string) string {
	suffix := ".svc." + ix.mesh.Settings.DomainSuffix
	short, own := strings.CutSuffix(host, suffix)
	if !own {
		return config.Nearest(host, ix.services.hosts)
	}
	name, ns, _ := strings.Cut(short, ".")
	elsewhere := ""
	var names []string
	for _, h := range ix.services.hosts {
		if other, ok := strings.CutSuffix(h, "."+ns+suffix); ok {
			names = append(names, other)
		} else if elsewhere == "" && strings.HasPrefix(h, name+".") && strings.HasSuffix(h, suffix) {
			elsewhere = h
		}
	}
	if best := config.Nearest(name, names); best != "" {
		return best + "." + ns + suffix
	}
	return elsewhere
}

// claims reports hosts that an earlier VirtualService for sidecars has
// already, as far as one client sees both.
func (x *referenceCheck) claims() {
	first := map[string][]*SettledVirtualService{}
	for _, s := range x.ix.virtualServices.settled {
		if !slices.Contains(s.Gateways, meshGateway) {
			continue
		}
		for i, host := range s.Hosts {
			field := fmt.Sprintf("spec.hosts[%d]", i)
			for _, earlier := range first[host] {
				if x.claim(earlier, s, host, field) {
					break
				}
			}
			if len(first[host]) < maxPairs {
				first[host] = append(first[host], s)
			}
		}
	}
}

// claim reports one host of two VirtualServices, if they meet.
func (x *referenceCheck) claim(earlier, later *SettledVirtualService, host, field string) bool {
	if !meetSomewhere(earlier.visibility, later.visibility) {
		return false
	}
	if earlier.visibility.Public == later.visibility.Public {
		x.warn(&later.Meta, field, "HostClaimed",
			"is %s, whose requests in the mesh follow %s alone; move the rules there, or bind one of the two to gateways only", host, earlier.Key)
		return true
	}
	narrow, wide := earlier, later
	if precedes(later, earlier) {
		narrow, wide, field = later, earlier, "spec.hosts"
	}
	x.problems = append(x.problems, config.At(&wide.Meta, field, config.Info, "HostClaimed",
		"is %s, whose requests from namespace %s follow %s, which only these see",
		host, strings.Join(narrow.visibility.Namespaces, ", "), narrow.Key))
	return true
}

// precedes reports whether a later VirtualService goes before an earlier one:
// what is kept to a namespace goes before what everyone sees.
func precedes(later, earlier *SettledVirtualService) bool {
	return !later.visibility.Public && earlier.visibility.Public
}

func meetSomewhere(a, b config.Visibility) bool {
	if a.Public {
		return b.Public || len(b.Namespaces) > 0
	}
	return slices.ContainsFunc(a.Namespaces, b.To)
}

// destinations tests where rules lead.
func (x *referenceCheck) destinations(vs *config.VirtualService) {
	d := &destinationCheck{referenceCheck: x, vs: vs, effect: "requests get 503"}
	for i, rule := range vs.Spec.GetHttp() {
		at := httpField(i)
		for j, to := range rule.GetRoute() {
			d.test(fmt.Sprintf("%s.route[%d].destination", at, j), to.GetDestination())
		}
		d.test(at+".mirror", rule.GetMirror())
		for j, to := range rule.GetMirrors() {
			d.test(fmt.Sprintf("%s.mirrors[%d].destination", at, j), to.GetDestination())
		}
	}
	d.effect = "connections fail"
	for i, rule := range vs.Spec.GetTls() {
		for j, to := range rule.GetRoute() {
			d.test(fmt.Sprintf("spec.tls[%d].route[%d].destination", i, j), to.GetDestination())
		}
	}
	for i, rule := range vs.Spec.GetTcp() {
		for j, to := range rule.GetRoute() {
			d.test(fmt.Sprintf("spec.tcp[%d].route[%d].destination", i, j), to.GetDestination())
		}
	}
}

// destinationCheck tests the destinations of one VirtualService.
type destinationCheck struct {
	*referenceCheck
	vs     *config.VirtualService
	effect string // of a destination that does not exist
}

func (d *destinationCheck) test(field string, to *networking.Destination) {
	if to.GetHost() == "" {
		return
	}
	host := fullHost(to.GetHost(), d.vs.Namespace, d.ix.mesh.Settings.DomainSuffix)
	s := d.ix.services.visible(host, d.vs.Namespace)
	if s == nil {
		d.warn(&d.vs.Meta, field+".host", "HostNotFound", "%s", d.unknownHost(host, d.vs.Namespace, ", so that "+d.effect))
		return
	}
	d.port(field, to, s)
	if to.GetSubset() != "" {
		d.subset(field, to.GetSubset(), s)
	}
}

func (d *destinationCheck) port(field string, to *networking.Destination, s *config.Service) {
	if s.ExternalName != "" {
		return
	}
	numbers := make([]string, len(s.Ports))
	for i, p := range s.Ports {
		numbers[i] = itoa(int(p.Number))
	}
	if to.GetPort() != nil {
		if _, ok := s.Port(to.GetPort().GetNumber()); !ok {
			d.warn(&d.vs.Meta, field+".port", "PortNotFound", "is %d, but %s has %s, so that %s",
				to.GetPort().GetNumber(), s.Hostname, strings.Join(numbers, ", "), d.effect)
		}
		return
	}
	own := slices.ContainsFunc(d.vs.Spec.GetHosts(), func(h string) bool {
		return hostCovers(fullHost(h, d.vs.Namespace, d.ix.mesh.Settings.DomainSuffix), s.Hostname)
	})
	if len(s.Ports) > 1 && (!own || forGateways(d.vs.Spec)) {
		d.warn(&d.vs.Meta, field, "PortRequired", "names no port, but %s has several (%s), so the port of the request is taken; write port.number",
			s.Hostname, strings.Join(numbers, ", "))
	}
}

// subset tests that a subset exists for the clients that will ask for it.
func (d *destinationCheck) subset(field, subset string, s *config.Service) {
	clients := []string{d.vs.Namespace}
	for _, g := range d.vs.Spec.GetGateways() {
		if ns, _, ok := strings.Cut(fullGateway(g, d.vs.Namespace), "/"); ok {
			clients = append(clients, ns)
		}
	}
	var known []string
	for _, ns := range clients {
		rule := d.ix.ruleFor(s, ns, nil)
		if rule == nil {
			continue
		}
		for _, sub := range rule.Spec.GetSubsets() {
			if sub.GetName() == subset {
				return
			}
			if !slices.Contains(known, sub.GetName()) {
				known = append(known, sub.GetName())
			}
		}
	}
	have := "has no subsets"
	if len(known) > 0 {
		have = "has " + shown(strings.Join(known, ", "))
	}
	d.warn(&d.vs.Meta, field+".subset", "SubsetNotFound", "is %s, but %s %s; %s until a DestinationRule names it",
		shown(subset), s.Hostname, have, d.effect)
}
