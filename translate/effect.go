package translate

import (
	"slices"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Effect is what of a Mesh is in effect. It follows one Mesh after the other
// and keeps a route that works from being replaced by one that cannot work
// yet: a VirtualService that names a host, port or subset that does not exist,
// and a DestinationRule that takes away a subset that a route in effect names,
// wait; the version before stays. So objects can be applied in any order.
//
// Only a change that Effect has seen can wait: the first Mesh is in effect as
// it is, and so is a VirtualService that replaces nothing. Immutable.
type Effect struct {
	raw, mesh *config.Mesh
	index     func(*config.Mesh) *Index
	problems  []config.Problem
}

// Mesh is what is in effect. It is the Mesh last followed, unless something
// of it waits.
func (e *Effect) Mesh() *config.Mesh { return e.mesh }

// Problems says what waits, and for what.
func (e *Effect) Problems() []config.Problem { return e.problems }

// Follow returns the Effect of the next Mesh. The receiver may be nil: nothing
// was in effect before. index arranges Meshes: NewIndex, or what remembers its
// results for others (Translator.Index).
func (e *Effect) Follow(next *config.Mesh, index func(*config.Mesh) *Index) *Effect {
	out := &Effect{raw: next, mesh: next, index: index}
	if e == nil || e.routingSame(next) {
		return out
	}
	out.holdRoutes(e.mesh)
	out.holdRules(e.mesh)
	return out
}

// routingSame reports that nothing waits and nothing that could has changed.
func (e *Effect) routingSame(next *config.Mesh) bool {
	return e.raw == e.mesh && next.VirtualServices.Same(e.raw.VirtualServices) &&
		next.DestinationRules.Same(e.raw.DestinationRules)
}

// holdRoutes keeps back the changed VirtualServices that cannot work yet.
func (e *Effect) holdRoutes(before *config.Mesh) {
	var ix *Index
	b := config.NewBuilder(e.mesh)
	for old, vs := range e.mesh.VirtualServices.Changed(before.VirtualServices) {
		if vs == nil {
			continue
		}
		if ix == nil {
			ix = e.index(e.mesh)
		}
		missing := ix.missing(vs)
		if len(missing) == 0 || !ix.replaces(old, vs) {
			continue
		}
		if old != nil {
			config.Put(b, virtualServicesOf, old)
		} else {
			config.Remove(b, virtualServicesOf, vs.Namespace, vs.Name)
		}
		e.wait(&vs.Meta, missing[0].Field, "%s; the object waits, and what was in effect before stays", reason(missing[0]))
	}
	e.take(b)
}

// holdRules keeps the version before of the changed DestinationRules that take
// away what a route in effect needs.
func (e *Effect) holdRules(before *config.Mesh) {
	changed := false
	for old := range e.mesh.DestinationRules.Changed(before.DestinationRules) {
		changed = changed || old != nil
	}
	if !changed {
		return
	}
	was, now := e.index(before), e.index(e.mesh)
	for vs := range e.mesh.VirtualServices.All() {
		lost := now.missing(vs)
		if len(lost) == 0 {
			continue
		}
		if old, ok := before.VirtualServices.Get(vs.Namespace, vs.Name); !ok || len(was.missing(old)) > 0 {
			continue // it did not work before either
		}
		e.restore(before, vs, lost)
		now = e.index(e.mesh)
	}
}

// restore puts back one changed DestinationRule after the other as long as
// that gives a VirtualService back what it lost.
func (e *Effect) restore(before *config.Mesh, vs *config.VirtualService, lost []config.Problem) {
	for old, rule := range e.mesh.DestinationRules.Changed(before.DestinationRules) {
		if old == nil || len(lost) == 0 {
			continue
		}
		b := config.NewBuilder(e.mesh)
		config.Put(b, destinationRulesOf, old)
		with := e.finish(b)
		left := e.index(with).missing(vs)
		if len(left) >= len(lost) {
			continue
		}
		meta := &old.Meta
		if rule != nil {
			meta = &rule.Meta
		}
		e.wait(meta, "", "takes away what %s names in %s; the object waits, and its version before stays in effect",
			vs.Key, lost[0].Field)
		e.mesh, lost = with, left
	}
}

// reason is a problem's message without the consequence, which waiting averts.
func reason(p config.Problem) string {
	text, _, _ := strings.Cut(p.Message, "; ")
	text, _, _ = strings.Cut(text, ", so that")
	return text
}

func (e *Effect) wait(m *config.Meta, field, format string, args ...any) {
	e.problems = append(e.problems, config.At(m, field, config.Warning, "Waiting", format, args...))
}

// take makes the builder's Mesh the one in effect, if it differs.
func (e *Effect) take(b *config.Builder) {
	if b.Changed() {
		e.mesh = e.finish(b)
	}
}

// finish makes a Mesh that stands for the same publication as the raw one.
func (e *Effect) finish(b *config.Builder) *config.Mesh {
	m := b.Mesh()
	m.Sequence = e.raw.Sequence
	return m
}

func virtualServicesOf(m *config.Mesh) *config.Index[*config.VirtualService] {
	return &m.VirtualServices
}

func destinationRulesOf(m *config.Mesh) *config.Index[*config.DestinationRule] {
	return &m.DestinationRules
}

// missing are the destinations of a VirtualService for which there is no
// cluster.
func (ix *Index) missing(vs *config.VirtualService) []config.Problem {
	x := &referenceCheck{ix: ix, delegated: map[config.Key]bool{}}
	x.destinations(vs)
	return slices.DeleteFunc(x.problems, func(p config.Problem) bool {
		return p.Code != "HostNotFound" && p.Code != "PortNotFound" && p.Code != "SubsetNotFound"
	})
}

// replaces reports whether a VirtualService takes the place of routes that
// work: those of its version before, or, if it is new, the plain routes that
// services have inside the mesh.
func (ix *Index) replaces(old, vs *config.VirtualService) bool {
	if old != nil {
		return len(ix.missing(old)) == 0
	}
	gateways := vs.Spec.GetGateways()
	if len(gateways) > 0 && !slices.Contains(gateways, meshGateway) {
		return false
	}
	return slices.ContainsFunc(vs.Spec.GetHosts(), func(host string) bool {
		return ix.services.visible(fullHost(host, vs.Namespace, ix.mesh.Settings.DomainSuffix), vs.Namespace) != nil
	})
}
