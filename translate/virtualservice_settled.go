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
	viewers    []string // namespaces that may see something else than others because of it
	domain     string   // the cluster's DNS domain, for short names
	// delegates are those of Spec.Http by position; nil where a rule has
	// none, or where it cannot be found.
	delegates []*config.VirtualService
	// readsLabels and readsNamespace report that some match tests them.
	readsLabels, readsNamespace bool
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
