package translate

import (
	"slices"
	"strings"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// patchable is a type of resources that patches are applied to.
type patchable struct {
	name string
	new  func() proto.Message
	// whole is the applyTo of the resource itself.
	whole networking.EnvoyFilter_ApplyTo
	parts []networking.EnvoyFilter_ApplyTo
	// apply changes m by one patch. matched says that the patch is for m;
	// removed, that m is to go.
	apply func(s *Scope, m proto.Message, p *patch) (matched, removed bool, err error)
}

func patchables() (clusters, listeners, routes *patchable) {
	const (
		chain   = networking.EnvoyFilter_FILTER_CHAIN
		network = networking.EnvoyFilter_NETWORK_FILTER
		http    = networking.EnvoyFilter_HTTP_FILTER
		first   = networking.EnvoyFilter_LISTENER_FILTER
		vhost   = networking.EnvoyFilter_VIRTUAL_HOST
		rule    = networking.EnvoyFilter_HTTP_ROUTE
		table   = networking.EnvoyFilter_ROUTE_CONFIGURATION
	)
	type parts = []networking.EnvoyFilter_ApplyTo
	return &patchable{"cluster", func() proto.Message { return &cluster.Cluster{} }, networking.EnvoyFilter_CLUSTER, nil, patchCluster},
		// Route tables of inbound traffic are a part of their listener.
		&patchable{"listener", func() proto.Message { return &listener.Listener{} }, networking.EnvoyFilter_LISTENER,
			parts{chain, network, http, first, vhost, rule, table}, patchListener},
		&patchable{"route", func() proto.Message { return &route.RouteConfiguration{} }, table, parts{vhost, rule}, patchRoutes}
}

// patch applies the scope's EnvoyFilters to what was made so far.
func (b *build) patch() {
	s := b.scope
	if len(s.patches) == 0 {
		return
	}
	used := make([]bool, len(s.patches))
	clusters, listeners, routes := patchables()
	b.clusters = b.patched(clusters, b.clusters, used)
	b.listeners = b.patched(listeners, b.listeners, used)
	b.routes = b.patched(routes, b.routes, used)
	for i, p := range s.patches {
		if p.spec.GetApplyTo() == networking.EnvoyFilter_EXTENSION_CONFIG {
			used[i] = true
			b.addExtension(p)
		}
		if !used[i] && p.named() && p.spec.GetMatch().GetContext() != networking.EnvoyFilter_ANY {
			b.problems = append(b.problems, config.At(&p.filter.Meta, p.field()+".match", config.Warning, "PatchUnmatched",
				"matches nothing that proxies of namespace %s have (%s); the patch has no effect on them", s.Class.Namespace, p.spec.GetApplyTo()))
		}
	}
}

func (b *build) addExtension(p *patch) {
	m, ok := proto.Clone(p.value).(*core.TypedExtensionConfig)
	if !ok {
		return
	}
	b.add(&b.extensions, m.GetName(), m, p)
}

// add puts a whole resource of a patch in, if it is valid.
func (b *build) add(to *[]*Resource, name string, m proto.Message, p *patch) {
	if slices.ContainsFunc(*to, func(r *Resource) bool { return r.Name == name }) {
		b.problems = append(b.problems, config.At(&p.filter.Meta, p.field()+".patch.value.name", config.Warning, "PatchInvalid",
			"is %s, which exists already; the patch is left out. Use MERGE to change it", shown(name)))
		return
	}
	if err := validateDeep(m.ProtoReflect()); err != nil {
		b.problems = append(b.problems, p.invalid(name, err))
		return
	}
	r, err := NewResource(name, m, Refs{}, &p.filter.Meta)
	if err != nil {
		b.problems = append(b.problems, p.invalid(name, err))
		return
	}
	*to = append(*to, r)
}

func (p *patch) invalid(name string, err error) config.Problem {
	return config.At(&p.filter.Meta, p.field(), config.Error, "PatchInvalid",
		"would make %s invalid: %s; the patch is left out", shown(name), plainError(err))
}

// patchedResource is what patches made of one resource.
type patchedResource struct {
	resource *Resource // nil: removed
	used     []int
	problems []config.Problem
}

// patched applies the patches of one type of resources.
func (b *build) patched(k *patchable, in []*Resource, used []bool) []*Resource {
	var mine []int
	for i, p := range b.scope.patches {
		if to := p.spec.GetApplyTo(); to == k.whole || slices.Contains(k.parts, to) {
			mine = append(mine, i)
		}
	}
	if len(mine) == 0 {
		return in
	}
	h := config.NewHasher().Str("envoyfilter", k.name).Uint(uint64(b.scope.Class.Side))
	addPatches(h, b.scope.patches)
	if b.scope.Class.Side == GatewaySide {
		h.Hash(b.scope.key) // a route table is found by its Gateway
	}
	of := h.Sum()
	out := make([]*Resource, 0, len(in))
	told := map[string]bool{} // one problem a patch, however many resources it fails on
	for _, r := range in {
		key := config.NewHasher().Hash(of, r.Version).Str(r.Name).Sum()
		done := remember(b.t, key, func() *patchedResource { return b.scope.patchOne(k, r, mine) })
		for _, i := range done.used {
			used[i] = true
		}
		for _, p := range done.problems {
			if at := p.Object.String() + p.Field; !told[at] {
				told[at] = true
				b.problems = append(b.problems, p)
			}
		}
		if done.resource != nil {
			out = append(out, done.resource)
		}
	}
	for _, i := range mine {
		p := b.scope.patches[i]
		if p.spec.GetApplyTo() == k.whole && p.operation() == networking.EnvoyFilter_Patch_ADD && k.whole != networking.EnvoyFilter_ROUTE_CONFIGURATION {
			used[i] = true
			m := proto.Clone(p.value)
			b.add(&out, nameOfMessage(m), m, p)
		}
	}
	return out
}

func nameOfMessage(m proto.Message) string {
	n, _ := m.(interface{ GetName() string })
	return n.GetName()
}

// patchOne applies one patch after the other. A patch that fails, or whose
// result is not valid, is left out; the others stay.
func (s *Scope) patchOne(k *patchable, r *Resource, mine []int) *patchedResource {
	out := &patchedResource{resource: r}
	m := k.new()
	if err := proto.Unmarshal(r.Bytes(), m); err != nil {
		return out // it was encoded by this program
	}
	sources := slices.Clone(r.Sources)
	for _, i := range mine {
		p := s.patches[i]
		if p.spec.GetApplyTo() == k.whole && p.operation() == networking.EnvoyFilter_Patch_ADD {
			continue
		}
		next := proto.Clone(m)
		matched, removed, err := k.apply(s, next, p)
		if !matched {
			continue
		}
		out.used = append(out.used, i)
		if removed {
			out.resource = nil
			return out
		}
		if err == nil {
			err = validateDeep(next.ProtoReflect())
		}
		if err != nil {
			out.problems = append(out.problems, p.invalid(r.Name, err))
			continue
		}
		m, sources = next, append(sources, &p.filter.Meta)
	}
	if len(sources) == len(r.Sources) {
		return out
	}
	made, err := NewResource(r.Name, m, r.Refs, sources...)
	if err != nil {
		out.problems = append(out.problems, unencodable(r.Name, err, sources))
		return out
	}
	out.resource = made
	return out
}

func extensionSet(list []*Resource) *Set {
	if len(list) == 0 {
		return nil
	}
	return NewSet(list)
}

// plainError is an error of protobuf in one line, always the same.
func plainError(err error) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(err.Error(), "\u00a0", " ")), " ")
}
