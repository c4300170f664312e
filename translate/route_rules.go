package translate

import (
	"fmt"
	"slices"
	"strconv"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/structpb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// ruled is a VirtualService on one port of one gateway, as the clients of one
// scope see it.
type ruled struct {
	env     *routeEnv
	egress  *Egress
	rules   *SettledVirtualService
	gateway string // "mesh" or namespace/name
	port    uint32
	tls     bool // the gateway's server terminates TLS
}

// addTo adds everything that the routes depend on.
func (r *ruled) addTo(h config.Hasher) {
	h.Hash(r.env.hash, r.rules.Hash).Str(r.gateway).Uint(uint64(r.port)).Bool(r.tls)
	if r.rules.readsNamespace {
		h.Str(r.env.class.Namespace)
	}
	if r.rules.readsLabels {
		h.Str(r.env.class.Labels)
	}
	for _, host := range r.rules.Destinations {
		s := r.egress.service(host)
		if s == nil {
			h.Uint(0)
			continue
		}
		h.Hash(s.routing)
		if s.ExternalName != "" {
			h.Str(r.egress.hosts.concrete(host))
		}
	}
}

// madeRoutes are the routes that a VirtualService comes to.
type madeRoutes struct {
	routes      []*route.Route
	clusters    []string
	longestBody int
	sources     []*config.Meta // the VirtualService and its delegates
	problems    []config.Problem
}

// make translates the rules that apply to the client. Rules are tried in
// order, so nothing after one that takes every request is made.
func (r *ruled) make() *madeRoutes {
	out := &madeRoutes{sources: []*config.Meta{&r.rules.Meta}}
	for _, rule := range r.rules.httpRules() {
		if !slices.Contains(out.sources, rule.meta) {
			out.sources = append(out.sources, rule.meta)
		}
		matches := rule.Match
		if len(matches) == 0 {
			matches = []*networking.HTTPMatchRequest{nil}
		}
		for i, m := range matches {
			if !r.applies(m) {
				continue
			}
			made := out.add(r, &rule, m, i)
			if made != nil && takesAll(made.GetMatch()) {
				return out
			}
		}
	}
	return out
}

// applies reports whether a match concerns this port, gateway and client. A
// match that names gateways leaves the client's labels aside.
func (r *ruled) applies(m *networking.HTTPMatchRequest) bool {
	if m == nil {
		return true
	}
	if m.GetPort() != 0 && m.GetPort() != r.port {
		return false
	}
	if len(m.GetGateways()) > 0 {
		return slices.Contains(m.GetGateways(), r.gateway)
	}
	return config.Selects(m.GetSourceLabels(), r.env.labels) &&
		(m.GetSourceNamespace() == "" || m.GetSourceNamespace() == r.env.class.Namespace)
}

// add makes one route. A route that Envoy would refuse is left out, so that
// it spoils no other.
func (o *madeRoutes) add(r *ruled, rule *httpRule, m *networking.HTTPMatchRequest, i int) *route.Route {
	d := &destinations{ruled: r, rule: rule}
	made := &route.Route{
		Name: routeName(rule.GetName(), m.GetName()), Match: routeMatch(m), StatPrefix: m.GetStatPrefix(),
		Metadata: ruleProvenance(rule, i),
	}
	addHeaderChanges(made, rule.GetHeaders())
	switch {
	case rule.GetRedirect() != nil:
		made.Action = redirect(rule.GetRedirect(), r.port, r.tls)
	case rule.GetDirectResponse() != nil:
		made.Action = directResponse(rule.GetDirectResponse())
	default:
		d.lead(made)
	}
	made.Decorator = &route.Decorator{Operation: operation(made, r)}
	addFilters(made, rule, r.env)
	if err := made.ValidateAll(); err != nil {
		field := rule.field
		if m != nil {
			field += fmt.Sprintf(".match[%d]", i)
		}
		o.problems = append(o.problems, config.At(rule.meta, field, config.Error, "RouteInvalid",
			"Envoy would refuse the route and does not get it: %v", err))
		return nil
	}
	o.routes = append(o.routes, made)
	o.clusters = append(o.clusters, d.clusters...)
	o.longestBody = max(o.longestBody, bodySize(rule.GetDirectResponse()))
	return made
}

func routeName(rule, match string) string {
	if match == "" {
		return rule
	}
	return rule + "." + match
}

// takesAll reports whether a match takes every request.
func takesAll(m *route.RouteMatch) bool {
	switch p := m.GetPathSpecifier().(type) {
	case *route.RouteMatch_Prefix:
		if p.Prefix != "/" && p.Prefix != "" {
			return false
		}
	case *route.RouteMatch_SafeRegex:
		if p.SafeRegex.GetRegex() != ".*" {
			return false
		}
	default:
		return false
	}
	return len(m.GetHeaders()) == 0 && len(m.GetQueryParameters()) == 0 && len(m.GetDynamicMetadata()) == 0
}

// operation names a route in traces: the destination's host:port and path if
// there is one, or else the VirtualService's name in the host's place.
func operation(made *route.Route, r *ruled) string {
	path := "/*"
	switch p := made.GetMatch().GetPathSpecifier().(type) {
	case *route.RouteMatch_Prefix:
		path = p.Prefix + "*"
	case *route.RouteMatch_Path:
		path = p.Path
	case *route.RouteMatch_SafeRegex:
		path = p.SafeRegex.GetRegex()
	}
	if _, port, _, host, ok := ParseCluster(made.GetRoute().GetCluster()); ok {
		return vhostName(host, port) + path
	}
	return r.rules.Name + ":" + strconv.Itoa(int(r.port)) + path
}

// ruleProvenance names the object that a rule was written in and its line, and
// which of several matches a route is of.
func ruleProvenance(rule *httpRule, match int) *core.Metadata {
	md := provenance(rule.meta)
	if rule.meta.File == "" {
		return md
	}
	fields := md.FilterMetadata[provenanceFilter].Fields
	fields["line"] = structpb.NewNumberValue(float64(rule.meta.LineOf(rule.field)))
	if len(rule.Match) > 1 && !rule.combined {
		fields["match"] = structpb.NewNumberValue(float64(match))
	}
	return md
}

// ruledVhost makes a virtual host of a VirtualService's rules; it has no part
// if none of them applies to the client.
func (b *build) ruledVhost(t *routeTable, env *routeEnv, in *vhostInput) madeVhost {
	r := ruled{env: env, egress: t.Egress, rules: in.rules, gateway: meshGateway, port: in.port}
	h := config.NewHasher().Str("ruled vhost")
	r.addTo(h)
	env.addDomains(h, t, in)
	if in.service != nil {
		h.Hash(in.service.routing)
	}
	return remember(b.t, h.Sum(), func() madeVhost {
		applied := r // on the heap only where routes are made
		made := applied.make()
		if len(made.routes) == 0 {
			return madeVhost{problems: made.problems}
		}
		vh := &route.VirtualHost{
			Name: vhostName(in.host, in.port), Routes: made.routes,
			IncludeRequestAttemptCount: env.attemptCount, Metadata: provenance(&in.rules.Meta),
		}
		out := b.encodeVhost(vh, env.domainsFor(t, in), made.clusters, made.sources...)
		if out.part != nil {
			out.part.longestBody, out.part.ruled = made.longestBody, true
		}
		out.problems = append(made.problems, out.problems...)
		return out
	})
}
