package meshtest

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/simulate"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// maxSuspects bounds the objects that are taken away one by one to find a
// cause, and maxNamed those that are named where none is found.
const (
	maxSuspects = 64
	maxNamed    = 5
)

// cause is what is told of a rejection, and the mesh without it; nil where
// nothing can be taken away.
type cause struct {
	problems []config.Problem
	without  *simulate.World
}

func (p *prediction) causeOf(ctx context.Context, w *simulate.World, bad *refused) (*cause, error) {
	var filters []*config.EnvoyFilter
	var others []*config.Meta
	for _, m := range slices.Compact(slices.Clone(bad.resource.Sources)) {
		f, ok := w.Mesh.EnvoyFilters.Get(m.Namespace, m.Name)
		switch {
		case m.Kind == "EnvoyFilter" && ok:
			if !slices.Contains(filters, f) {
				filters = append(filters, f)
			}
		case !slices.ContainsFunc(others, func(o *config.Meta) bool { return o.Key == m.Key }):
			others = append(others, m)
		}
	}
	if c, err := p.causeInPatch(ctx, w, bad, filters); c != nil || err != nil {
		return c, err
	}
	for _, m := range others[:min(len(others), maxSuspects)] {
		mesh := withoutObject(w.Mesh, m)
		if mesh == nil {
			continue
		}
		without := w.With(mesh)
		now, err := p.verdict(ctx, without, bad)
		if err != nil {
			return nil, err
		}
		if now == taken {
			return &cause{[]config.Problem{p.problem(bad, m, "")}, without}, nil
		}
	}
	c := &cause{}
	for _, f := range filters {
		c.problems = append(c.problems, p.problem(bad, &f.Meta, ""))
	}
	if len(filters) == 0 && len(others) <= maxNamed {
		for _, m := range others {
			c.problems = append(c.problems, p.problem(bad, m, ""))
		}
	}
	if len(c.problems) == 0 {
		c.problems = []config.Problem{p.problem(bad, &config.Meta{}, "")}
	}
	return c, nil
}

// causeInPatch finds a patch with which alone the piece is refused, or without
// which it is not.
func (p *prediction) causeInPatch(ctx context.Context, w *simulate.World, bad *refused, filters []*config.EnvoyFilter) (*cause, error) {
	type place struct {
		filter *config.EnvoyFilter
		index  int
	}
	var patches []place
	for _, f := range filters {
		for i, x := range f.Spec.GetConfigPatches() {
			if x.GetApplyTo() != noPatch {
				patches = append(patches, place{f, i})
			}
		}
	}
	patches = patches[:min(len(patches), maxSuspects)]
	for _, alone := range []bool{true, false} {
		for _, s := range patches {
			keep := func(f *config.EnvoyFilter, i int) bool { return (f == s.filter && i == s.index) == alone }
			now, err := p.verdict(ctx, withPatches(w, filters, keep), bad)
			if err != nil {
				return nil, err
			}
			if (now == rejected) != alone {
				continue
			}
			without := withPatches(w, filters, func(f *config.EnvoyFilter, i int) bool { return f != s.filter || i != s.index })
			problem := p.problem(bad, &s.filter.Meta, fmt.Sprintf("spec.configPatches[%d]", s.index))
			return &cause{[]config.Problem{problem}, without}, nil
		}
	}
	return nil, nil
}

func (p *prediction) problem(bad *refused, m *config.Meta, field string) config.Problem {
	return config.At(m, field, config.Error, "EnvoyRejects", "Envoy %s would reject the %s %q of %s: %s",
		p.envoy.Version, bad.kind, bad.resource.Name, bad.pod.Name(), bad.text)
}

// verdict is what the Envoy makes of a resource.
type verdict int

const (
	gone verdict = iota // the proxy is not sent it
	taken
	rejected
)

// verdict asks about the piece that another state of the mesh has in the
// place of a refused one.
func (p *prediction) verdict(ctx context.Context, w *simulate.World, bad *refused) (verdict, error) {
	i := slices.IndexFunc(w.Pods(), func(o *simulate.Pod) bool {
		return o.Namespace == bad.pod.Namespace && o.Workload.Name == bad.pod.Workload.Name
	})
	if i < 0 || w.Config(w.Pods()[i]) == nil {
		return gone, nil
	}
	for _, part := range w.Config(w.Pods()[i]).Parts() {
		item := setOf(part.Resources(), bad.kind).Get(bad.resource.Name)
		if item == nil {
			continue
		}
		now := &piece{kind: bad.kind, resource: item}
		if err := now.decode(); err != nil {
			return gone, err
		}
		text, err := p.refuses(ctx, bad.around, []*piece{now})
		if err != nil || text == "" {
			return taken, err
		}
		return rejected, nil
	}
	return gone, nil
}

func setOf(r *translate.Resources, kind string) *translate.Set {
	switch kind {
	case "cluster":
		return r.Clusters
	case "listener":
		return r.Listeners
	case "route":
		return r.Routes
	}
	return r.Extensions
}

// noPatch is what proxies are sent nothing of. It takes the place of a patch
// that is left out, so that the others keep their positions.
const noPatch = networking.EnvoyFilter_BOOTSTRAP

// withPatches is the mesh with some patches of filters only.
func withPatches(w *simulate.World, filters []*config.EnvoyFilter, keep func(f *config.EnvoyFilter, i int) bool) *simulate.World {
	b := config.NewBuilder(w.Mesh)
	for _, f := range filters {
		spec, _ := proto.Clone(f.Spec).(*networking.EnvoyFilter)
		h := config.NewHasher().Str("without").Hash(f.Hash)
		for i, x := range spec.GetConfigPatches() {
			if !keep(f, i) {
				x.ApplyTo, x.Match = noPatch, nil
				h.Uint(uint64(i))
			}
		}
		meta := f.Meta
		meta.Hash = h.Sum()
		config.Put(b, func(m *config.Mesh) *config.Index[*config.EnvoyFilter] { return &m.EnvoyFilters }, &config.EnvoyFilter{Meta: meta, Spec: spec})
	}
	return w.With(b.Mesh())
}

// withoutObject is the mesh without an object; nil if the object is of a kind
// without which the proxies would have little left.
func withoutObject(mesh *config.Mesh, o *config.Meta) *config.Mesh {
	b := config.NewBuilder(mesh)
	switch o.Kind {
	case "VirtualService":
		config.Remove(b, func(m *config.Mesh) *config.Index[*config.VirtualService] { return &m.VirtualServices }, o.Namespace, o.Name)
	case "DestinationRule":
		config.Remove(b, func(m *config.Mesh) *config.Index[*config.DestinationRule] { return &m.DestinationRules }, o.Namespace, o.Name)
	case "Telemetry":
		config.Remove(b, func(m *config.Mesh) *config.Index[*config.Telemetry] { return &m.Telemetries }, o.Namespace, o.Name)
	case "AuthorizationPolicy":
		config.Remove(b, func(m *config.Mesh) *config.Index[*config.AuthorizationPolicy] { return &m.AuthorizationPolicies }, o.Namespace, o.Name)
	case "RequestAuthentication":
		config.Remove(b, func(m *config.Mesh) *config.Index[*config.RequestAuthentication] { return &m.RequestAuthentications }, o.Namespace, o.Name)
	case "WasmPlugin":
		config.Remove(b, func(m *config.Mesh) *config.Index[*config.WasmPlugin] { return &m.WasmPlugins }, o.Namespace, o.Name)
	case "TrafficExtension":
		config.Remove(b, func(m *config.Mesh) *config.Index[*config.TrafficExtension] { return &m.TrafficExtensions }, o.Namespace, o.Name)
	default:
		return nil
	}
	return b.Mesh()
}
