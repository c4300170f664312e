package translate

import (
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
	domain     string // the cluster's DNS domain, for short names
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
}

// boundVirtualServices are those of one gateway. Precedence follows Istio:
// what a namespace keeps to itself, then what was exported to it by name,
// then what everyone sees; the older one first in each.
type boundVirtualServices struct {
	public   []*SettledVirtualService
	private  map[string][]*SettledVirtualService
	exported map[string][]*SettledVirtualService
}

func newVirtualServiceIndex(m *config.Mesh, _ *serviceIndex) virtualServiceIndex {
	x := virtualServiceIndex{byGateway: map[string]*boundVirtualServices{}}
	all := make([]*config.VirtualService, 0, m.VirtualServices.Len())
	for vs := range m.VirtualServices.All() {
		if len(vs.Spec.GetHosts()) > 0 {
			all = append(all, vs)
		}
	}
	slices.SortFunc(all, func(a, b *config.VirtualService) int { return precedence(&a.Meta, &b.Meta) })
	x.settled = make([]*SettledVirtualService, len(all))
	for i, vs := range all {
		s := settle(m, vs)
		x.settled[i] = s
		for _, gw := range s.Gateways {
			x.bind(gw, s)
		}
	}
	return x
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

func (x *virtualServiceIndex) bind(gateway string, s *SettledVirtualService) {
	b := x.byGateway[gateway]
	if b == nil {
		b = &boundVirtualServices{
			private: map[string][]*SettledVirtualService{}, exported: map[string][]*SettledVirtualService{},
		}
		x.byGateway[gateway] = b
	}
	if s.visibility.Public {
		b.public = append(b.public, s)
		return
	}
	for i, ns := range s.visibility.Namespaces {
		if i > 0 && s.visibility.Namespaces[i-1] == ns {
			continue
		}
		if ns == s.Namespace {
			b.private[ns] = append(b.private[ns], s)
		} else {
			b.exported[ns] = append(b.exported[ns], s)
		}
	}
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

// boundTo are the VirtualServices of a Gateway that proxies of a namespace
// see, in order of precedence.
func (x *virtualServiceIndex) boundTo(gatewayNamespace, gatewayName, clientNamespace string) []*SettledVirtualService {
	return x.byGateway[gatewayNamespace+"/"+gatewayName].visibleTo(clientNamespace)
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
	s.Gateways = fullGateways(vs.Spec.GetGateways(), vs.Namespace)
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
