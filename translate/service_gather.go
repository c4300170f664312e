package translate

import (
	"sort"
	"sync"

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
	// common is the view of every namespace that is not in views.
	common *serviceView
	// views are those of the namespaces that may see something else.
	views map[string]*serviceView
}

// serviceView is what one client namespace sees: the services, one per host,
// and the routes for gateway "mesh". It is made when a scope first asks for
// it, depends on nothing but the Mesh, and is shared by all scopes of the
// namespace.
type serviceView struct {
	namespace string
	once      sync.Once
	services  []*VisibleService // by hostname
	// selective: DestinationRules of the namespace select workloads, so what
	// a workload sees depends on its labels.
	selective bool
	egress    *Egress
	// gateway is egress without the mesh's routes, made when one asks.
	gateway func() *Egress
}

func newServiceIndex(m *config.Mesh) serviceIndex {
	x := serviceIndex{
		all:    make(map[string][]*config.Service, m.Services.Len()),
		common: &serviceView{},
		views:  map[string]*serviceView{},
	}
	alone := make([]*config.Service, 0, m.Services.Len()) // most hosts have one
	for s := range m.Services.All() {
		if others := x.all[s.Hostname]; len(others) > 0 {
			x.all[s.Hostname] = append(others, s)
		} else {
			alone = append(alone, s)
			x.all[s.Hostname] = alone[len(alone)-1 : len(alone) : len(alone)]
		}
		if !s.ExportTo.Public {
			x.own(s.ExportTo.Namespaces...)
		}
	}
	x.hosts = make([]string, 0, len(x.all))
	for host, services := range x.all {
		x.hosts = append(x.hosts, host)
		if len(services) == 1 {
			continue
		}
		sort.SliceStable(services, func(i, j int) bool { return preferred(services[i], services[j]) })
		for _, s := range services {
			x.own(s.Namespace)
		}
	}
	sort.Strings(x.hosts)
	x.addPolicyNamespaces(m)
	return x
}

// addPolicyNamespaces gives a view of their own to the namespaces whose
// clients may be under other DestinationRules or VirtualServices than
// everyone else.
func (x *serviceIndex) addPolicyNamespaces(m *config.Mesh) {
	x.own(m.RootNamespace())
	for dr := range m.DestinationRules.All() {
		x.own(dr.Namespace)
		x.own(namedNamespaces(dr.Spec.GetExportTo())...)
		if dr.Spec.GetWorkloadSelector() != nil {
			x.views[dr.Namespace].selective = true
		}
	}
	privateByDefault := !virtualServiceDefault(m, "").Public
	for vs := range m.VirtualServices.All() {
		if len(vs.Spec.GetExportTo()) > 0 || privateByDefault {
			x.own(vs.Namespace)
			x.own(virtualServiceVisibility(m, vs).Namespaces...)
		}
	}
}

// own gives namespaces a view of their own.
func (x *serviceIndex) own(namespaces ...string) {
	for _, ns := range namespaces {
		if _, ok := x.views[ns]; !ok {
			x.views[ns] = &serviceView{namespace: ns}
		}
	}
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
	if a.Kubernetes != b.Kubernetes {
		return a.Kubernetes
	}
	return a.Before(&b.Meta)
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
	v.once.Do(func() { ix.fillView(v) })
	return v
}

func (ix *Index) fillView(v *serviceView) {
	var common *serviceView
	if v != ix.services.common {
		common = ix.services.common
		common.once.Do(func() { ix.fillView(common) })
	}
	v.services = make([]*VisibleService, 0, len(ix.services.hosts))
	for _, host := range ix.services.hosts {
		s := ix.services.visible(host, v.namespace)
		if s == nil {
			continue
		}
		var known *VisibleService
		if common != nil {
			known = common.egress.service(host)
		}
		vs := ix.shareVisible(known, s, ix.ruleFor(s, v.namespace, nil))
		v.services = append(v.services, vs)
	}
	v.egress = newEgress(nil, v.services, ix.virtualServices.inMesh(v.namespace))
	v.gateway = sync.OnceValue(func() *Egress { return newEgress(nil, v.services, nil) })
}

// shareVisible returns known if it says just this about a service, or a new
// VisibleService.
func (ix *Index) shareVisible(known *VisibleService, s *config.Service, rule *Rule) *VisibleService {
	if known != nil && known.Service == s && ruleHash(known.Rule) == ruleHash(rule) {
		return known
	}
	return newVisibleService(s, rule, s.Ports, ix.inlineEndpoints(s), ix.peersOf(s, rule))
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
