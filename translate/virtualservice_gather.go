package translate

import (
	"maps"
	"slices"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// SettledVirtualService is a VirtualService with its delegates found and its
// names spelled out. A pure function of those objects; shared by scopes.
type SettledVirtualService struct {
	*config.VirtualService
	// Hosts are full names in lower case, in the object's order, each once.
	Hosts []string
	// Gateways are "mesh" or namespace/name; never empty.
	Gateways []string
	// Destinations are the full hosts that routes and mirrors lead to, each
	// once, in order of appearance.
	Destinations []string
	Hash         config.Hash

	visibility config.Visibility
	viewers    []string // namespaces that may see something else than others because of it
	domain     string   // the cluster's DNS domain, for short names
	// delegates are those of Spec.Http by position; nil where a rule has
	// none, or where it cannot be found.
	delegates []*config.VirtualService
	// readsLabels and readsNamespace report that some match tests them.
	readsLabels, readsNamespace bool
}

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

// delegatesTo reports whether some rule delegates to one of the named, whether
// it exists or not.
func (s *SettledVirtualService) delegatesTo(names map[config.Key]bool) bool {
	return slices.ContainsFunc(s.Spec.GetHttp(), func(rule *networking.HTTPRoute) bool {
		d := rule.GetDelegate()
		if d == nil {
			return false
		}
		key := s.Key
		key.Namespace, key.Name = delegateNamespace(d, s.Namespace), d.GetName()
		return names[key]
	})
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

func settle(m *config.Mesh, vs *config.VirtualService) *SettledVirtualService {
	s := &SettledVirtualService{
		VirtualService: vs,
		visibility:     virtualServiceVisibility(m, vs),
		domain:         m.Settings.DomainSuffix,
	}
	s.Hosts = make([]string, 0, len(vs.Spec.GetHosts()))
	for _, host := range vs.Spec.GetHosts() {
		if h := fullHost(host, vs.Namespace, s.domain); !slices.Contains(s.Hosts, h) {
			s.Hosts = append(s.Hosts, h)
		}
	}
	if len(vs.Spec.GetExportTo()) > 0 || !s.visibility.Public {
		s.viewers = append([]string{vs.Namespace}, s.visibility.Namespaces...)
	}
	s.Gateways = withoutRepeats(fullGateways(vs.Spec.GetGateways(), vs.Namespace))
	if len(s.Gateways) == 0 {
		s.Gateways = justMesh
	}
	s.findDelegates(m)
	s.survey()
	h := config.NewHasher().Hash(vs.Hash).Str(s.domain)
	for i, d := range s.delegates {
		if d != nil {
			h.Uint(uint64(i)).Hash(d.Hash)
		}
	}
	s.Hash = h.Sum()
	return s
}

var justMesh = []string{meshGateway}

func fullGateways(gateways []string, ns string) []string {
	if len(gateways) == 0 {
		return nil
	}
	out := make([]string, len(gateways))
	for i, g := range gateways {
		out[i] = fullGateway(g, ns)
	}
	return out
}

func withoutRepeats(list []string) []string {
	for i := range list {
		if slices.Contains(list[:i], list[i]) {
			out := slices.Clone(list[:i])
			for _, s := range list[i:] {
				if !slices.Contains(out, s) {
					out = append(out, s)
				}
			}
			return out
		}
	}
	return list
}

// findDelegates looks up the VirtualServices that rules delegate to: without
// hosts, and visible to the root's namespace.
func (s *SettledVirtualService) findDelegates(m *config.Mesh) {
	for i, rule := range s.Spec.GetHttp() {
		d := rule.GetDelegate()
		if d == nil {
			continue
		}
		if s.delegates == nil {
			s.delegates = make([]*config.VirtualService, len(s.Spec.GetHttp()))
		}
		found, ok := m.VirtualServices.Get(delegateNamespace(d, s.Namespace), d.GetName())
		if ok && len(found.Spec.GetHosts()) == 0 && virtualServiceVisibility(m, found).To(s.Namespace) {
			s.delegates[i] = found
		}
	}
}

func delegateNamespace(d *networking.Delegate, root string) string {
	if d.GetNamespace() != "" {
		return d.GetNamespace()
	}
	return root
}

// survey notes where the rules lead and what of a client they test.
func (s *SettledVirtualService) survey() {
	for i, rule := range s.Spec.GetHttp() {
		s.surveyHTTP(rule, s.Namespace)
		if s.delegates != nil && s.delegates[i] != nil {
			for _, sub := range s.delegates[i].Spec.GetHttp() {
				s.surveyHTTP(sub, s.delegates[i].Namespace)
			}
		}
	}
	for _, rule := range s.Spec.GetTls() {
		for _, m := range rule.GetMatch() {
			s.reads(m.GetSourceLabels(), m.GetSourceNamespace())
		}
		for _, d := range rule.GetRoute() {
			s.leadsTo(d.GetDestination(), s.Namespace)
		}
	}
	for _, rule := range s.Spec.GetTcp() {
		for _, m := range rule.GetMatch() {
			s.reads(m.GetSourceLabels(), m.GetSourceNamespace())
		}
		for _, d := range rule.GetRoute() {
			s.leadsTo(d.GetDestination(), s.Namespace)
		}
	}
}

func (s *SettledVirtualService) surveyHTTP(rule *networking.HTTPRoute, ns string) {
	for _, m := range rule.GetMatch() {
		s.reads(m.GetSourceLabels(), m.GetSourceNamespace())
	}
	for _, d := range rule.GetRoute() {
		s.leadsTo(d.GetDestination(), ns)
	}
	s.leadsTo(rule.GetMirror(), ns)
	for _, d := range rule.GetMirrors() {
		s.leadsTo(d.GetDestination(), ns)
	}
}

func (s *SettledVirtualService) reads(labels map[string]string, namespace string) {
	s.readsLabels = s.readsLabels || len(labels) > 0
	s.readsNamespace = s.readsNamespace || namespace != ""
}

func (s *SettledVirtualService) leadsTo(d *networking.Destination, ns string) {
	if d.GetHost() == "" {
		return
	}
	if host := s.fullDestination(d.GetHost(), ns); !slices.Contains(s.Destinations, host) {
		s.Destinations = append(s.Destinations, host)
	}
}

// fullDestination is fullHost; most rules lead to one of the VirtualService's
// own hosts, whose full name is there already.
func (s *SettledVirtualService) fullDestination(host, ns string) string {
	if own := s.Spec.GetHosts(); ns == s.Namespace && len(own) == len(s.Hosts) {
		if i := slices.Index(own, host); i >= 0 {
			return s.Hosts[i]
		}
	}
	return fullHost(host, ns, s.domain)
}
