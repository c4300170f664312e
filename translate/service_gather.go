package translate

import (
	"maps"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// serviceIndex finds services by host and by who may see them.
type serviceIndex struct {
	// all are the services by host in the order in which clients of other
	// namespaces prefer them: Kubernetes before ServiceEntries, the older
	// before the younger.
	all map[string][]*config.Service
	// hosts are the keys of all, sorted.
	hosts []string
	// exports are the namespaces that services which not everyone sees are
	// exported to, shared those of hosts that several namespaces have.
	exports, shared tally
	// common is the view of every namespace that is not in views.
	common *serviceView
	// views are those of the namespaces that may see something else.
	views map[string]*serviceView
}

// next is the index of ix, made of that of prev, whose Mesh may be empty.
func (x serviceIndex) next(ix, prev *Index) serviceIndex {
	if x.all == nil || !ix.mesh.Services.Same(prev.mesh.Services) {
		x = x.changed(ix.mesh, prev.mesh)
	}
	return x.arrange(ix, prev)
}

func (x serviceIndex) changed(m, was *config.Mesh) serviceIndex {
	groups := map[string][]*config.Service{}
	all := make(map[string][]*config.Service, max(len(x.all), m.Services.Len()))
	maps.Copy(all, x.all)
	touch := func(host string) []*config.Service {
		if _, ok := groups[host]; !ok {
			groups[host] = slices.Clone(all[host])
		}
		return groups[host]
	}
	for old, s := range m.Services.Changed(was.Services) {
		if old != nil {
			groups[old.Hostname] = slices.DeleteFunc(touch(old.Hostname), func(o *config.Service) bool { return o == old })
		}
		if s != nil {
			groups[s.Hostname] = append(touch(s.Hostname), s)
		}
	}
	shared := maps.Clone(x.shared)
	if shared == nil {
		shared = tally{}
	}
	var come, gone []string
	for host, services := range groups {
		before := all[host]
		shared.count(-1, sharers(before)...)
		shared.count(1, sharers(services)...)
		if len(services) == 0 {
			delete(all, host)
			gone = append(gone, host)
			continue
		}
		if len(before) == 0 {
			come = append(come, host)
		}
		sort.Slice(services, func(i, j int) bool { return preferred(services[i], services[j]) })
		all[host] = services
	}
	return serviceIndex{
		all: all, hosts: withEdits(x.hosts, gone, come), shared: shared,
		exports: tallied(x.exports, m.Services, was.Services, func(s *config.Service) []string {
			if s.ExportTo.Public {
				return nil
			}
			return s.ExportTo.Namespaces
		}),
	}
}

// sharers are the namespaces of a host's services, if there are several.
func sharers(services []*config.Service) []string {
	if len(services) < 2 {
		return nil
	}
	out := make([]string, len(services))
	for i, s := range services {
		out[i] = s.Namespace
	}
	return out
}

// withEdits is a sorted list without some texts and with others.
func withEdits(list, gone, come []string) []string {
	if len(gone)+len(come) == 0 {
		return list
	}
	out := append(make([]string, 0, len(list)+len(come)), list...)
	if len(gone) > 0 {
		left := make(map[string]bool, len(gone))
		for _, s := range gone {
			left[s] = true
		}
		out = slices.DeleteFunc(out, func(s string) bool { return left[s] })
	}
	if len(come) < 32 {
		for _, s := range come {
			i, _ := slices.BinarySearch(out, s)
			out = slices.Insert(out, i, s)
		}
		return out
	}
	out = append(out, come...)
	sort.Strings(out)
	return out
}

// arrange gives a view of their own to the namespaces whose clients may see
// other services, or be under other DestinationRules or VirtualServices, than
// everyone else.
func (x serviceIndex) arrange(ix, prev *Index) serviceIndex {
	kept := x.common != nil && ix.seesSame(prev)
	before := x
	follow := func(v *serviceView, of *serviceView) *serviceView {
		if kept {
			v.before = of.latest()
		}
		return v
	}
	x.common = follow(&serviceView{}, before.common)
	x.views = map[string]*serviceView{}
	own := func(ns string) {
		if x.views[ns] == nil {
			x.views[ns] = follow(&serviceView{namespace: ns, selective: ix.destinationRules.selective[ns] > 0}, before.views[ns])
		}
	}
	own(ix.mesh.RootNamespace())
	for _, namespaces := range []tally{x.exports, x.shared, ix.destinationRules.viewers, ix.virtualServices.viewers} {
		for ns := range namespaces {
			own(ns)
		}
	}
	return x
}

// seesSame reports whether everyone sees the same services as in the Index
// before, with the same rules and peers.
func (ix *Index) seesSame(prev *Index) bool {
	m, was := ix.mesh, prev.mesh
	if !m.Services.Same(was.Services) || !m.DestinationRules.Same(was.DestinationRules) || !m.PeerAuthentications.Same(was.PeerAuthentications) {
		return false
	}
	for old, eps := range m.Endpoints.Changed(was.Endpoints) {
		if !eps.SamePeers(old) {
			return false
		}
		e := eps
		if e == nil {
			e = old
		}
		if s, ok := m.Services.Get(e.ID.Namespace, e.ID.Hostname); ok && carriesEndpoints(s) {
			return false
		}
	}
	return true
}

// serviceView is what one client namespace sees: the services, one per host,
// and the routes for gateway "mesh". It is made when a scope first asks for
// it, depends on nothing but the Mesh, and is shared by all scopes of the
// namespace.
type serviceView struct {
	namespace string
	// selective: DestinationRules of the namespace select workloads, so what
	// a workload sees depends on its labels.
	selective bool

	made atomic.Bool // mu need not be held to read what follows before
	mu   sync.Mutex
	// before is the view of an Index before this one, which sees the same
	// services; nil if there is none, and when the view is made.
	before   *serviceView
	services []*VisibleService // by hostname
	egress   *Egress
	// gateway is egress without the mesh's routes, made when one asks.
	gateway func() *Egress
}

// latest is the view, or what it is to be made of. The receiver may be nil.
func (v *serviceView) latest() *serviceView {
	if v == nil || v.made.Load() {
		return v
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.made.Load() {
		return v
	}
	return v.before
}

func namedNamespaces(exportTo []string) []string {
	var out []string
	for _, e := range exportTo {
		if e != "*" && e != "." && e != "~" {
			out = append(out, e)
		}
	}
	return out
}

// preferred orders services of one host for a client in neither's namespace.
func preferred(a, b *config.Service) bool {
	switch {
	case a.Kubernetes != b.Kubernetes:
		return a.Kubernetes
	case a.Before(&b.Meta):
		return true
	case b.Before(&a.Meta):
		return false
	}
	return a.Namespace < b.Namespace
}

// visible returns the service of a host that clients of a namespace see, or
// nil: that of their own namespace, or the first one exported to them.
func (x *serviceIndex) visible(host, clientNamespace string) *config.Service {
	var first *config.Service
	for _, s := range x.all[host] {
		if !s.ExportTo.To(clientNamespace) {
			continue
		}
		if s.Namespace == clientNamespace {
			return s
		}
		if first == nil {
			first = s
		}
	}
	return first
}

// view returns what a namespace's clients see, as far as their labels do not
// matter.
func (ix *Index) view(namespace string) *serviceView {
	v := ix.services.views[namespace]
	if v == nil {
		v = ix.services.common
	}
	ix.makeView(v)
	return v
}

// makeView fills a view, unless it is filled.
func (ix *Index) makeView(v *serviceView) {
	if v.made.Load() {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.made.Load() {
		ix.fillView(v)
		v.before = nil
		v.made.Store(true)
	}
}

func (ix *Index) fillView(v *serviceView) {
	rules := ix.virtualServices.inMesh(v.namespace)
	if was := v.before; was != nil {
		v.services, v.gateway, v.egress = was.services, was.gateway, was.egress
		if !slices.Equal(rules, was.egress.VirtualServices) {
			v.egress = newEgress(nil, v.services, rules)
		}
		return
	}
	common := ix.services.common
	if v != common {
		ix.makeView(common)
	}
	v.services = make([]*VisibleService, 0, len(ix.services.hosts))
	for _, host := range ix.services.hosts {
		s := ix.services.visible(host, v.namespace)
		if s == nil {
			continue
		}
		var known *VisibleService
		if v != common {
			known = common.egress.service(host)
		}
		v.services = append(v.services, ix.shareVisible(known, s, ix.ruleFor(s, v.namespace, nil)))
	}
	v.egress = newEgress(nil, v.services, rules)
	v.gateway = sync.OnceValue(func() *Egress { return newEgress(nil, v.services, nil) })
}

// visibleServices are the VisibleServices that an Index has made, and those that
// the Index before had.
type visibleServices struct{ made, before *sync.Map } // of visibleKey and *VisibleService

type visibleKey struct {
	service *config.Service
	rule    config.Hash
}

func (x visibleServices) next() visibleServices {
	return visibleServices{made: &sync.Map{}, before: x.made}
}

// shareVisible returns known, which may be nil, if it says just this about a
// service, or else the VisibleService that does.
func (ix *Index) shareVisible(known *VisibleService, s *config.Service, rule *Rule) *VisibleService {
	if known != nil && known.Service == s && ruleHash(known.Rule) == ruleHash(rule) {
		return known
	}
	key := visibleKey{s, ruleHash(rule)}
	if v, ok := ix.visible.made.Load(key); ok {
		return v.(*VisibleService)
	}
	eps, _ := ix.mesh.Endpoints.Get(s.Namespace, s.Hostname)
	if ix.visible.before != nil {
		if old, ok := ix.visible.before.Load(key); ok {
			if v := old.(*VisibleService); v.from == eps && v.Peers.rules == ix.peers.in(s.Namespace) {
				ix.visible.made.Store(key, v)
				return v
			}
		}
	}
	v := newVisibleService(s, rule, s.Ports, ix.inlineEndpoints(s), ix.peersOf(s, rule))
	v.from = eps
	ix.visible.made.Store(key, v)
	return v
}

func newVisibleService(s *config.Service, rule *Rule, inReach []config.ServicePort, inline *config.Endpoints, peers *Peers) *VisibleService {
	h := config.NewHasher().Hash(s.Hash).Str(s.Namespace, s.Hostname)
	// Addresses may be allocated, not read from the object.
	h.Uint(uint64(len(s.Addresses))).Str(s.Addresses...)
	h.Uint(uint64(len(s.AutoAddresses))).Str(s.AutoAddresses...)
	h.Hash(ruleHash(rule))
	for i := range inReach {
		h.Uint(uint64(inReach[i].Number)).Str(inReach[i].Name, string(inReach[i].Protocol))
	}
	v := &VisibleService{Service: s, Rule: rule, InReach: inReach, Inline: inline, Peers: peers, routing: h.Sum()}
	h.Hash(peers.hash)
	if inline != nil {
		h.Hash(inline.Hash)
	}
	v.Hash = h.Sum()
	return v
}

func ruleHash(r *Rule) config.Hash {
	if r == nil {
		return 0
	}
	return r.Hash
}

// onPort is the service with only one of its ports in reach, as a Sidecar's
// egress listener with a port sees it; nil if it has no such port.
func (v *VisibleService) onPort(number uint32) *VisibleService {
	for i := range v.InReach {
		if v.InReach[i].Number != number {
			continue
		}
		if len(v.InReach) == 1 {
			return v
		}
		return newVisibleService(v.Service, v.Rule, v.InReach[i:i+1:i+1], v.Inline, v.Peers)
	}
	return nil
}

// servicesFor are the services that a scope's proxies see, one per host,
// ordered by host. The slice is shared and must not be modified.
func (ix *Index) servicesFor(s *Scope) []*VisibleService {
	v := ix.view(s.Class.Namespace)
	if !v.selective {
		return v.services
	}
	out := make([]*VisibleService, len(v.services))
	for i, known := range v.services {
		out[i] = ix.shareVisible(known, known.Service, ix.ruleFor(known.Service, s.Class.Namespace, s.Labels))
	}
	return out
}

// gatherEgress fills the Scope's outbound views: one that catches everything,
// unless the workload's Sidecar has said which there are.
func (ix *Index) gatherEgress(s *Scope) {
	if len(s.Egress) > 0 {
		return
	}
	v := ix.view(s.Class.Namespace)
	// A gateway's routes are those bound to it; the mesh's are not its.
	switch gateway := s.Class.Side == GatewaySide; {
	case v.selective && gateway:
		s.Egress = []*Egress{newEgress(nil, ix.servicesFor(s), nil)}
	case v.selective:
		s.Egress = []*Egress{newEgress(nil, ix.servicesFor(s), v.egress.VirtualServices)}
	case gateway:
		s.Egress = []*Egress{v.gateway()}
	default:
		s.Egress = []*Egress{v.egress}
	}
}
