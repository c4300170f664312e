package translate

import (
	"fmt"
	"slices"
	"strconv"
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
		if namesNoFilter(p.spec) {
			continue
		}
		b.applied = append(b.applied, Applied{Filter: &p.filter.Meta, Patch: p.index, To: p.spec.GetApplyTo().String(), Matched: used[i]})
	}
}

// Applied says whether an entry of an EnvoyFilter's configPatches that is for a
// class of proxies matched anything of theirs.
type Applied struct {
	Filter  *config.Meta
	Patch   int
	To      string
	Matched bool
}

// UnmatchedPatches are problems of patches that match nothing of all the proxies
// that they are for.
func UnmatchedPatches(all []*Resources) []config.Problem {
	type entry struct {
		filter config.Key
		hash   config.Hash
		patch  int
	}
	matched := map[entry]bool{}
	for _, r := range all {
		for _, a := range r.Applied {
			e := entry{a.Filter.Key, a.Filter.Hash, a.Patch}
			matched[e] = matched[e] || a.Matched
		}
	}
	var out []config.Problem
	for _, r := range all {
		for _, a := range r.Applied {
			e := entry{a.Filter.Key, a.Filter.Hash, a.Patch}
			if matched[e] {
				continue
			}
			matched[e] = true // told once
			out = append(out, config.At(a.Filter, "spec.configPatches["+strconv.Itoa(a.Patch)+"].match", config.Warning, "PatchUnmatched",
				"matches nothing of the proxies that it is for (%s); the patch has no effect", a.To))
		}
	}
	return out
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
	if err := (&patching{name: name}).valid(m); err != nil {
		b.problems = append(b.problems, p.invalid(name, err))
		return
	}
	r, err := NewResource(name, m, refsWithin(m, Refs{}), &p.filter.Meta)
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
	names := make(map[string]bool, len(b.clusters))
	for _, c := range b.clusters {
		names[c.Name] = true
	}
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
		switch {
		case done.resource == nil:
		case len(done.used) > 0 && k.whole != networking.EnvoyFilter_CLUSTER:
			out = append(out, offered(done.resource, names))
		default:
			out = append(out, done.resource)
		}
	}
	for _, i := range mine {
		p := b.scope.patches[i]
		if p.spec.GetApplyTo() == k.whole && p.adds() && k.whole != networking.EnvoyFilter_ROUTE_CONFIGURATION {
			used[i] = true
			if b.scope.Class.Side == Inbound && p.spec.GetMatch().GetContext() == networking.EnvoyFilter_ANY {
				continue // the proxy's other side has it
			}
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

// patchOne applies patches one after the other. One that fails, or whose result
// is not valid, is left out; the others stay.
func (s *Scope) patchOne(k *patchable, r *Resource, mine []int) *patchedResource {
	m := k.new()
	if err := proto.Unmarshal(r.Bytes(), m); err != nil {
		return &patchedResource{resource: r} // it was encoded by this program
	}
	w := &patching{scope: s, kind: k, name: r.Name, message: m, sources: slices.Clone(r.Sources)}
	mine = slices.DeleteFunc(slices.Clone(mine), func(i int) bool {
		return s.patches[i].spec.GetApplyTo() == k.whole && s.patches[i].adds()
	})
	w.all(mine)
	out := &patchedResource{resource: r, used: w.used, problems: w.problems}
	switch {
	case w.removed:
		out.resource = nil
	case len(w.sources) > len(r.Sources):
		made, err := NewResource(r.Name, w.message, refsWithin(w.message, r.Refs), w.sources...)
		if err != nil {
			out.problems = append(out.problems, unencodable(r.Name, err, w.sources))
			break
		}
		out.resource = made
	}
	return out
}

// patching is one resource while patches are applied to it.
type patching struct {
	scope    *Scope
	kind     *patchable
	name     string
	message  proto.Message
	removed  bool
	used     []int // patches that matched
	sources  []*config.Meta
	problems []config.Problem
}

// all applies patches, which are validated together: a message is copied and
// looked through once, unless something is wrong. Then the halves are tried, so
// that a thousand patches cost no more than a few that are wrong.
func (w *patching) all(list []int) {
	if w.removed || len(list) == 0 {
		return
	}
	next := proto.Clone(w.message)
	var used []int
	var sources []*config.Meta
	var failed error
	for _, i := range list {
		p := w.scope.patches[i]
		matched, removed, err := w.kind.apply(w.scope, next, p)
		if !matched {
			continue
		}
		used, sources = append(used, i), append(sources, &p.filter.Meta)
		if w.removed = removed; removed {
			break
		}
		if failed = err; err != nil {
			break
		}
	}
	if len(used) > 0 && !w.removed && failed == nil {
		failed = w.valid(next)
	}
	switch {
	case w.removed, failed == nil:
		w.message, w.used, w.sources = next, append(w.used, used...), append(w.sources, sources...)
	case len(list) == 1:
		w.used = append(w.used, list[0])
		w.problems = append(w.problems, w.scope.patches[list[0]].invalid(w.name, failed))
	default:
		w.all(list[:len(list)/2])
		w.all(list[len(list)/2:])
	}
}

// valid says why Envoy would refuse a message.
func (w *patching) valid(m proto.Message) error {
	if name := nameOfMessage(m); name != w.name {
		return fmt.Errorf("name is %s; a name by which others refer to it cannot be changed", shown(name))
	}
	if err := validateDeep(m.ProtoReflect()); err != nil {
		return err
	}
	switch m := m.(type) {
	case *route.RouteConfiguration:
		return distinctHosts(m)
	case *listener.Listener:
		return orderedFilters(m)
	}
	return nil
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
