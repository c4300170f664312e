package translate

import (
	"maps"
	"slices"
	"sort"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Rule is what all DestinationRules of one host that one client sees come to,
// as a single specification. Immutable and shared by scopes.
type Rule struct {
	Spec    *networking.DestinationRule
	Sources []*config.Meta // by precedence
	Hash    config.Hash
}

// destinationRuleIndex holds the DestinationRules, merged, by the namespace
// that holds them and by host. All merging happens when the Index is made, so
// a look-up only walks maps and returns a shared Rule.
type destinationRuleIndex struct {
	root     string
	private  map[string]*hostRules // for clients of the rules' own namespace
	exported map[string]*hostRules // for clients of other namespaces
	// rootPrivate are the rules of the root namespace that it keeps to
	// itself: proxies there must not prefer mesh-wide defaults over what a
	// service's own namespace exports.
	rootPrivate *hostRules
	// viewers are the namespaces whose clients may be under other rules than
	// everyone else; selective those with rules that select workloads.
	viewers, selective tally
}

// hostRules finds rules by the most specific host.
type hostRules struct {
	byHost map[string][]*mergedRule
	// suffixes are the lengths of the wildcard hosts, longest first, so that
	// a look-up costs the number of distinct lengths.
	suffixes []int
}

// mergedRule is one Rule with who may use it.
type mergedRule struct {
	rule       Rule
	namespace  string
	exportTo   []string // sorted, as written; empty means the mesh's default
	selects    bool     // has a workloadSelector
	selector   map[string]string
	visibility config.Visibility
}

// next is the index of m, made of that of was. The receiver may be zero, for an
// empty Mesh.
func (x destinationRuleIndex) next(m, was *config.Mesh) destinationRuleIndex {
	if x.private != nil && m.DestinationRules.Same(was.DestinationRules) {
		return x
	}
	out := destinationRuleIndex{
		root:    m.RootNamespace(),
		private: maps.Clone(x.private), exported: maps.Clone(x.exported), rootPrivate: x.rootPrivate,
	}
	if out.private == nil {
		out.private, out.exported, out.rootPrivate = map[string]*hostRules{}, map[string]*hostRules{}, newHostRules()
	}
	namespaces := map[string]bool{}
	for old, dr := range m.DestinationRules.Changed(was.DestinationRules) {
		if dr == nil {
			dr = old
		}
		namespaces[dr.Namespace] = true
	}
	for ns := range namespaces {
		out.arrange(m, ns)
	}
	out.viewers = tallied(x.viewers, m.DestinationRules, was.DestinationRules, func(dr *config.DestinationRule) []string {
		return append(namedNamespaces(dr.Spec.GetExportTo()), dr.Namespace)
	})
	out.selective = tallied(x.selective, m.DestinationRules, was.DestinationRules, func(dr *config.DestinationRule) []string {
		if dr.Spec.GetWorkloadSelector() == nil {
			return nil
		}
		return []string{dr.Namespace}
	})
	return out
}

// arrange merges the rules of one namespace.
func (x *destinationRuleIndex) arrange(m *config.Mesh, ns string) {
	private, exported, rootPrivate := newHostRules(), newHostRules(), newHostRules()
	privateDefault := exportsPrivately(m)
	for _, dr := range rulesInOrder(m.DestinationRules.In(ns)) {
		host := ruleHost(dr, m.Settings.DomainSuffix)
		r := newMergedRule(dr, privateDefault)
		if r.visibility.To(ns) {
			merge(private, host, r)
		}
		if !r.keptPrivate(privateDefault) {
			merge(exported, host, r)
		} else {
			merge(rootPrivate, host, r)
		}
	}
	put := func(set map[string]*hostRules, rules *hostRules) {
		if len(rules.byHost) == 0 {
			delete(set, ns)
			return
		}
		rules.settle()
		set[ns] = rules
	}
	put(x.private, private)
	put(x.exported, exported)
	if ns == x.root {
		rootPrivate.settle()
		x.rootPrivate = rootPrivate
	}
}

// rulesInOrder lists rules by precedence: those that select workloads first,
// then the older ones.
func rulesInOrder(rules []*config.DestinationRule) []*config.DestinationRule {
	all := slices.Clone(rules)
	sort.SliceStable(all, func(i, j int) bool {
		a, b := all[i].Spec.GetWorkloadSelector() != nil, all[j].Spec.GetWorkloadSelector() != nil
		if a != b {
			return a
		}
		return all[i].Before(&all[j].Meta)
	})
	return all
}

// exportsPrivately reports whether rules without exportTo stay in their
// namespace (MeshConfig.defaultDestinationRuleExportTo, of which "." and "*"
// count).
func exportsPrivately(m *config.Mesh) bool {
	for _, e := range m.Settings.Mesh.GetDefaultDestinationRuleExportTo() {
		if e == "." {
			return true
		}
	}
	return false
}

// ruleHost is a rule's host in full: a name without dots is a Service of the
// rule's own namespace.
func ruleHost(dr *config.DestinationRule, domain string) string {
	host := plainHost(dr.Spec.GetHost())
	if host == "" || strings.Contains(host, ".") || strings.HasPrefix(host, "*") {
		return host
	}
	return host + "." + dr.Namespace + ".svc." + domain
}

// plainHost is the form in which hosts are compared: lower case, no trailing
// dot.
func plainHost(h string) string { return strings.TrimSuffix(strings.ToLower(h), ".") }

func newMergedRule(dr *config.DestinationRule, privateDefault bool) *mergedRule {
	r := &mergedRule{
		namespace: dr.Namespace,
		selects:   dr.Spec.GetWorkloadSelector() != nil,
		selector:  dr.Spec.GetWorkloadSelector().GetMatchLabels(),
		rule: Rule{
			Spec: dr.Spec, Sources: []*config.Meta{&dr.Meta},
			Hash: config.NewHasher().Hash(dr.Hash).Sum(),
		},
	}
	r.exportTo = append(r.exportTo, dr.Spec.GetExportTo()...)
	if r.selects {
		r.exportTo = []string{"."} // a selector never reaches other namespaces
	}
	sort.Strings(r.exportTo)
	own := config.Visibility{Namespaces: []string{dr.Namespace}}
	byDefault := config.Visibility{Public: true}
	if privateDefault {
		byDefault = own
	}
	r.visibility = config.ParseVisibility(r.exportTo, dr.Namespace, byDefault)
	return r
}

// keptPrivate reports whether no other namespace can see the rule.
func (r *mergedRule) keptPrivate(privateDefault bool) bool {
	if len(r.exportTo) == 0 {
		return privateDefault
	}
	return len(r.exportTo) == 1 && (r.exportTo[0] == "." || r.exportTo[0] == r.namespace)
}

func newHostRules() *hostRules { return &hostRules{byHost: map[string][]*mergedRule{}} }

func (h *hostRules) settle() {
	lengths := map[int]bool{}
	for host := range h.byHost {
		if strings.HasPrefix(host, "*") {
			lengths[len(host)-1] = true
		}
	}
	for n := range lengths {
		h.suffixes = append(h.suffixes, n)
	}
	sort.Sort(sort.Reverse(sort.IntSlice(h.suffixes)))
}

// find returns the rules of the most specific host that covers a host.
func (h *hostRules) find(host string) []*mergedRule {
	if h == nil {
		return nil
	}
	if r, ok := h.byHost[host]; ok {
		return r
	}
	host = strings.TrimPrefix(host, "*")
	for _, n := range h.suffixes {
		if n > len(host) {
			continue
		}
		if r, ok := h.byHost["*"+host[len(host)-n:]]; ok {
			return r
		}
	}
	return nil
}

// ruleFor returns what the DestinationRules say about a service to one
// client: the first of the client's own namespace, the service's and the root
// namespace that has a rule for a host that covers the service's. Nil if none
// has. The Rule is shared.
func (ix *Index) ruleFor(s *config.Service, clientNamespace string, clientLabels map[string]string) *Rule {
	rules := ix.destinationRules.find(s, clientNamespace)
	return selectRule(rules, clientNamespace, clientLabels)
}

// inboundRuleFor is ruleFor for the workload's own ports, where rules with a
// workloadSelector do not count.
func (ix *Index) inboundRuleFor(s *config.Service, namespace string) *Rule {
	return selectRule(ix.destinationRules.find(s, namespace), "", nil)
}

func (x *destinationRuleIndex) find(s *config.Service, client string) []*mergedRule {
	own := x.private[client]
	if client == x.root {
		own = x.rootPrivate
	}
	if rules := own.find(s.Hostname); len(rules) > 0 {
		return rules
	}
	if rules := visibleTo(x.exported[s.Namespace].find(s.Hostname), client); len(rules) > 0 {
		return rules
	}
	return visibleTo(x.exported[x.root].find(s.Hostname), client)
}

func visibleTo(rules []*mergedRule, client string) []*mergedRule {
	var out []*mergedRule
	for _, r := range rules {
		if r.visibility.To(client) {
			out = append(out, r)
		}
	}
	return out
}

// selectRule prefers a rule that selects the client; of those without a
// selector the last one counts.
func selectRule(rules []*mergedRule, clientNamespace string, clientLabels map[string]string) *Rule {
	var fallback *Rule
	for _, r := range rules {
		if !r.selects {
			fallback = &r.rule
			continue
		}
		if r.namespace == clientNamespace && config.Selects(r.selector, clientLabels) {
			return &r.rule
		}
	}
	return fallback
}
