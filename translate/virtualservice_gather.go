package translate

import (
	"maps"
	"slices"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// virtualServiceIndex holds the VirtualServices that have hosts, by gateway
// and by who may see them. Delegates only appear inside the others.
type virtualServiceIndex struct {
	// byGateway has, for "mesh" and each namespace/name, the VirtualServices
	// bound to it in order of creation.
	byGateway map[string]*boundVirtualServices
	settled   []*SettledVirtualService // in order of creation
	roots     []*SettledVirtualService // those that delegate
	// viewers are the namespaces of those that not everyone sees, and the
	// namespaces that see them.
	viewers tally
}

// boundVirtualServices are those of one gateway. Precedence follows Istio:
// what a namespace keeps to itself, then what was exported to it by name,
// then what everyone sees; the older one first in each. Immutable.
type boundVirtualServices struct {
	public   []*SettledVirtualService
	publicOf map[string][]*SettledVirtualService // by their own namespace
	private  map[string][]*SettledVirtualService
	exported map[string][]*SettledVirtualService
}

// next is the index of m, made of that of was. The receiver may be zero, for an
// empty Mesh.
func (x virtualServiceIndex) next(m, was *config.Mesh) virtualServiceIndex {
	if x.byGateway != nil && m.VirtualServices.Same(was.VirtualServices) {
		return x
	}
	gone, come := x.turnover(m, was)
	out := virtualServiceIndex{byGateway: maps.Clone(x.byGateway), viewers: maps.Clone(x.viewers)}
	if out.byGateway == nil {
		out.byGateway, out.viewers = map[string]*boundVirtualServices{}, tally{}
	}
	out.settled = exchange(x.settled, gone, come)
	delegates := func(s *SettledVirtualService) bool { return s.delegates != nil }
	out.roots = exchange(x.roots, filter(gone, delegates), filter(come, delegates))
	type turn struct{ gone, come []*SettledVirtualService }
	turns := map[string]*turn{}
	at := func(gateway string) *turn {
		if turns[gateway] == nil {
			turns[gateway] = &turn{}
		}
		return turns[gateway]
	}
	for _, s := range gone {
		out.viewers.count(-1, s.viewers...)
		for _, gw := range s.Gateways {
			at(gw).gone = append(at(gw).gone, s)
		}
	}
	for _, s := range come {
		out.viewers.count(1, s.viewers...)
		for _, gw := range s.Gateways {
			at(gw).come = append(at(gw).come, s)
		}
	}
	for gw, t := range turns {
		if b := out.byGateway[gw].next(t.gone, t.come); b != nil {
			out.byGateway[gw] = b
		} else {
			delete(out.byGateway, gw)
		}
	}
	return out
}

// turnover are the VirtualServices that are not the same any more, and those
// that are new or take their place, each in order of creation.
func (x *virtualServiceIndex) turnover(m, was *config.Mesh) (gone, come []*SettledVirtualService) {
	stale := map[config.Key]bool{}
	for old, vs := range m.VirtualServices.Changed(was.VirtualServices) {
		if old != nil {
			stale[old.Key] = true
		}
		if vs != nil {
			stale[vs.Key] = true
			if len(vs.Spec.GetHosts()) > 0 {
				come = append(come, settle(m, vs))
			}
		}
	}
	if len(x.settled) > 0 {
		for old := range m.VirtualServices.Changed(was.VirtualServices) {
			if old != nil && len(old.Spec.GetHosts()) > 0 {
				gone = append(gone, x.find(old))
			}
		}
		for _, s := range x.roots {
			if !stale[s.Key] && s.delegatesTo(stale) {
				gone, come = append(gone, s), append(come, settle(m, s.VirtualService))
			}
		}
	}
	slices.SortFunc(gone, inPrecedence)
	slices.SortFunc(come, inPrecedence)
	return gone, come
}

// find is the settled form of a VirtualService that the index has.
func (x *virtualServiceIndex) find(vs *config.VirtualService) *SettledVirtualService {
	i, _ := slices.BinarySearchFunc(x.settled, vs, func(s *SettledVirtualService, vs *config.VirtualService) int {
		return precedence(&s.Meta, &vs.Meta)
	})
	return x.settled[i]
}

func inPrecedence(a, b *SettledVirtualService) int { return precedence(&a.Meta, &b.Meta) }

func filter(in []*SettledVirtualService, keep func(*SettledVirtualService) bool) []*SettledVirtualService {
	var out []*SettledVirtualService
	for _, s := range in {
		if keep(s) {
			out = append(out, s)
		}
	}
	return out
}

// exchange is a list in order without those that are gone and with those that
// have come, both in order. The list is not modified.
func exchange(list, gone, come []*SettledVirtualService) []*SettledVirtualService {
	if len(gone)+len(come) == 0 {
		return list
	}
	out := make([]*SettledVirtualService, 0, len(list)-len(gone)+len(come))
	for i := 0; i < len(list) || len(come) > 0; {
		switch {
		case len(gone) > 0 && i < len(list) && list[i] == gone[0]:
			i, gone = i+1, gone[1:]
		case i == len(list) || len(come) > 0 && inPrecedence(come[0], list[i]) < 0:
			out, come = append(out, come[0]), come[1:]
		default:
			// All up to the next place where something happens.
			end := len(list)
			if len(gone) > 0 {
				end = i + placeOfRule(list[i:], gone[0])
			}
			if len(come) > 0 {
				end = min(end, i+placeOfRule(list[i:], come[0]))
			}
			end = max(end, i+1)
			out = append(out, list[i:end]...)
			i = end
		}
	}
	return out
}

// placeOfRule is where in a list in order s is, or would be.
func placeOfRule(list []*SettledVirtualService, s *SettledVirtualService) int {
	i, _ := slices.BinarySearchFunc(list, s, inPrecedence)
	return i
}

func precedence(a, b *config.Meta) int {
	switch {
	case a.Before(b):
		return -1
	case b.Before(a):
		return 1
	}
	return 0
}

// next is b, which may be nil, without some and with others, both in order; nil
// if none is left.
func (b *boundVirtualServices) next(gone, come []*SettledVirtualService) *boundVirtualServices {
	if b == nil {
		b = &boundVirtualServices{}
	}
	out := &boundVirtualServices{public: b.public}
	public := func(s *SettledVirtualService) bool { return s.visibility.Public }
	out.public = exchange(b.public, filter(gone, public), filter(come, public))
	out.publicOf = exchangeBy(b.publicOf, gone, come, func(s *SettledVirtualService) []string {
		if !s.visibility.Public {
			return nil
		}
		return []string{s.Namespace}
	})
	out.private = exchangeBy(b.private, gone, come, func(s *SettledVirtualService) []string {
		if s.visibility.Public || !slices.Contains(s.visibility.Namespaces, s.Namespace) {
			return nil
		}
		return []string{s.Namespace}
	})
	out.exported = exchangeBy(b.exported, gone, come, func(s *SettledVirtualService) []string {
		if s.visibility.Public {
			return nil
		}
		others := slices.DeleteFunc(slices.Clone(s.visibility.Namespaces), func(ns string) bool { return ns == s.Namespace })
		return slices.Compact(others)
	})
	if len(out.public)+len(out.private)+len(out.exported) == 0 {
		return nil
	}
	return out
}

// exchangeBy is exchange for lists by namespace.
func exchangeBy(lists map[string][]*SettledVirtualService, gone, come []*SettledVirtualService,
	namespaces func(*SettledVirtualService) []string,
) map[string][]*SettledVirtualService {
	type turn struct{ gone, come []*SettledVirtualService }
	turns := map[string]turn{}
	for _, s := range gone {
		for _, ns := range namespaces(s) {
			t := turns[ns]
			t.gone = append(t.gone, s)
			turns[ns] = t
		}
	}
	for _, s := range come {
		for _, ns := range namespaces(s) {
			t := turns[ns]
			t.come = append(t.come, s)
			turns[ns] = t
		}
	}
	if len(turns) == 0 {
		return lists
	}
	out := maps.Clone(lists)
	if out == nil {
		out = map[string][]*SettledVirtualService{}
	}
	for ns, t := range turns {
		if list := exchange(out[ns], t.gone, t.come); len(list) > 0 {
			out[ns] = list
		} else {
			delete(out, ns)
		}
	}
	return out
}

// from lists those that a namespace's proxies see of some namespaces, in order
// of precedence.
func (b *boundVirtualServices) from(namespaces []string, client string) []*SettledVirtualService {
	if b == nil {
		return nil
	}
	own := func(s *SettledVirtualService) bool { return slices.Contains(namespaces, s.Namespace) }
	out := append(filter(b.private[client], own), filter(b.exported[client], own)...)
	var public []*SettledVirtualService
	for _, ns := range namespaces {
		public = append(public, b.publicOf[ns]...)
	}
	if len(namespaces) > 1 {
		slices.SortFunc(public, inPrecedence)
	}
	return append(out, public...)
}

// visibleTo lists the VirtualServices that a namespace's proxies see. The
// slice may be shared.
func (b *boundVirtualServices) visibleTo(namespace string) []*SettledVirtualService {
	if b == nil {
		return nil
	}
	private, exported := b.private[namespace], b.exported[namespace]
	if len(private) == 0 && len(exported) == 0 {
		return b.public
	}
	return slices.Concat(private, exported, b.public)
}

// inMesh are the VirtualServices for sidecars that a namespace sees, in order
// of precedence.
func (x *virtualServiceIndex) inMesh(namespace string) []*SettledVirtualService {
	return x.byGateway[meshGateway].visibleTo(namespace)
}

func virtualServiceDefault(m *config.Mesh, ns string) config.Visibility {
	return config.ParseVisibility(m.Settings.Mesh.GetDefaultVirtualServiceExportTo(), ns, config.Visibility{Public: true})
}

func virtualServiceVisibility(m *config.Mesh, vs *config.VirtualService) config.Visibility {
	return config.ParseVisibility(vs.Spec.GetExportTo(), vs.Namespace, virtualServiceDefault(m, vs.Namespace))
}
