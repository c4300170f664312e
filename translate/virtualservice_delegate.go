package translate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// httpRule is one HTTP rule as it applies: delegates merged in, hosts and
// gateways spelled out.
type httpRule struct {
	*networking.HTTPRoute
	// meta and field say where it was written: spec.http[2] of the
	// VirtualService or of its delegate.
	meta  *config.Meta
	field string
	// combined: its matches are those of the root and the delegate together,
	// so that their numbers are neither's.
	combined bool
}

// httpRules are a VirtualService's HTTP rules in order.
func (s *SettledVirtualService) httpRules() []httpRule {
	rules, _ := s.mergeRules()
	return rules
}

// mergeRules is httpRules with the problems of merging delegates.
func (s *SettledVirtualService) mergeRules() ([]httpRule, []config.Problem) {
	var out []httpRule
	var problems []config.Problem
	for i, rule := range s.Spec.GetHttp() {
		if rule == nil {
			continue
		}
		root := httpRule{HTTPRoute: s.spellOut(rule, s.Namespace), meta: &s.Meta, field: httpField(i)}
		if rule.GetDelegate() == nil {
			out = append(out, root)
			continue
		}
		if s.delegates[i] == nil {
			continue // virtualServiceProblems says why
		}
		merged, p := s.delegate(root, s.delegates[i])
		out = append(out, merged...)
		problems = append(problems, p...)
	}
	return out, problems
}

func httpField(i int) string { return fmt.Sprintf("spec.http[%d]", i) }

// delegate merges each rule of a delegate with the root's rule that leads to
// it. A rule that demands what the root's excludes has no effect.
func (s *SettledVirtualService) delegate(root httpRule, to *config.VirtualService) ([]httpRule, []config.Problem) {
	var out []httpRule
	var problems []config.Problem
	for i, rule := range to.Spec.GetHttp() {
		if rule == nil || rule.GetDelegate() != nil {
			continue // delegates do not nest; the checks say so
		}
		sub := s.spellOut(rule, to.Namespace)
		matches, why := mergeMatches(root.Match, sub.Match)
		if why != "" {
			problems = append(problems, config.At(&to.Meta, httpField(i)+".match", config.Warning, "DelegateConflict",
				"has no effect under %s of %s: %s; a delegate's match must lie within its root's", root.field, s.Key, why))
			continue
		}
		sub.Match = matches
		inherit(sub, root.HTTPRoute)
		out = append(out, httpRule{HTTPRoute: sub, meta: &to.Meta, field: httpField(i), combined: len(root.Match) > 0})
	}
	return out, problems
}

// spellOut copies a rule with its hosts and gateways in full, as namespace ns
// means them.
func (s *SettledVirtualService) spellOut(rule *networking.HTTPRoute, ns string) *networking.HTTPRoute {
	r := proto.Clone(rule).(*networking.HTTPRoute)
	for _, m := range r.Match {
		if m != nil {
			m.Gateways = fullGateways(m.Gateways, ns)
		}
	}
	for _, d := range r.Route {
		s.spellOutHost(d.GetDestination(), ns)
	}
	s.spellOutHost(r.Mirror, ns)
	for _, d := range r.Mirrors {
		s.spellOutHost(d.GetDestination(), ns)
	}
	return r
}

func (s *SettledVirtualService) spellOutHost(d *networking.Destination, ns string) {
	if d != nil {
		d.Host = fullHost(d.Host, ns, s.domain)
	}
}

// inherit gives a delegate's rule what it leaves open and its root says.
func inherit(sub, root *networking.HTTPRoute) {
	sub.Name = joinNames(root.Name, sub.Name)
	if sub.Rewrite == nil {
		sub.Rewrite = root.Rewrite
	}
	if sub.DirectResponse == nil {
		sub.DirectResponse = root.DirectResponse
	}
	if sub.Timeout == nil {
		sub.Timeout = root.Timeout
	}
	if sub.Retries == nil {
		sub.Retries = root.Retries
	}
	if sub.Fault == nil {
		sub.Fault = root.Fault
	}
	if sub.Mirror == nil {
		sub.Mirror = root.Mirror
	}
	if sub.GetMirrorPercent() == nil { //nolint:staticcheck // the old field still counts
		sub.MirrorPercent = root.GetMirrorPercent() //nolint:staticcheck // the old field still counts
	}
	if sub.MirrorPercentage == nil {
		sub.MirrorPercentage = root.MirrorPercentage
	}
	if sub.Mirrors == nil {
		sub.Mirrors = root.Mirrors
	}
	if sub.CorsPolicy == nil {
		sub.CorsPolicy = root.CorsPolicy
	}
	if sub.Headers == nil {
		sub.Headers = root.Headers
	}
}

func joinNames(root, sub string) string {
	if root == "" || sub == "" {
		return root + sub
	}
	return root + "-" + sub
}

// mergeMatches combines each of a delegate's matches with each of the root's
// that it agrees with. why says what excludes what if one agrees with none.
func mergeMatches(root, sub []*networking.HTTPMatchRequest) (out []*networking.HTTPMatchRequest, why string) {
	if len(root) == 0 {
		return sub, ""
	}
	if len(sub) == 0 {
		return root, ""
	}
	for i, m := range sub {
		found := false
		for _, r := range root {
			if clash := matchClash(r, m); clash != "" {
				why = clash
				continue
			}
			found = true
			out = append(out, mergeMatch(r, m))
		}
		if !found {
			return nil, fmt.Sprintf("match[%d]: %s", i, why)
		}
	}
	return out, ""
}

func mergeMatch(root, sub *networking.HTTPMatchRequest) *networking.HTTPMatchRequest {
	m := proto.Clone(sub).(*networking.HTTPMatchRequest)
	m.Name = joinNames(root.GetName(), sub.GetName())
	m.Uri = orElse(sub.GetUri(), root.GetUri())
	m.Scheme = orElse(sub.GetScheme(), root.GetScheme())
	m.Method = orElse(sub.GetMethod(), root.GetMethod())
	m.Authority = orElse(sub.GetAuthority(), root.GetAuthority())
	m.Headers = union(root.GetHeaders(), sub.GetHeaders())
	m.WithoutHeaders = union(root.GetWithoutHeaders(), sub.GetWithoutHeaders())
	m.QueryParams = union(root.GetQueryParams(), sub.GetQueryParams())
	m.SourceLabels = union(root.GetSourceLabels(), sub.GetSourceLabels())
	if m.Port == 0 {
		m.Port = root.GetPort()
	}
	if m.SourceNamespace == "" {
		m.SourceNamespace = root.GetSourceNamespace()
	}
	if len(m.Gateways) == 0 {
		m.Gateways = root.GetGateways()
	}
	if m.StatPrefix == "" {
		m.StatPrefix = root.GetStatPrefix()
	}
	return m
}

func orElse(a, b *networking.StringMatch) *networking.StringMatch {
	if a != nil {
		return a
	}
	return b
}

func union[V any](a, b map[string]V) map[string]V {
	if len(a) == 0 {
		return b
	}
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// matchClash says what of a delegate's match cannot be within the root's, or
// nothing.
func matchClash(root, sub *networking.HTTPMatchRequest) string {
	pairs := []struct {
		field     string
		root, sub *networking.StringMatch
	}{
		{"uri", root.GetUri(), sub.GetUri()},
		{"scheme", root.GetScheme(), sub.GetScheme()},
		{"method", root.GetMethod(), sub.GetMethod()},
		{"authority", root.GetAuthority(), sub.GetAuthority()},
	}
	for _, p := range pairs {
		if !within(p.root, p.sub) {
			return fmt.Sprintf("%s %s is not within the root's %s", p.field, matchText(p.sub), matchText(p.root))
		}
	}
	for _, m := range []struct {
		field     string
		root, sub map[string]*networking.StringMatch
	}{
		{"headers", root.GetHeaders(), sub.GetHeaders()},
		{"withoutHeaders", root.GetWithoutHeaders(), sub.GetWithoutHeaders()},
		{"queryParams", root.GetQueryParams(), sub.GetQueryParams()},
	} {
		for _, k := range slices.Sorted(maps.Keys(m.sub)) {
			if r, ok := m.root[k]; ok && !within(r, m.sub[k]) {
				return fmt.Sprintf("%s[%s] %s is not within the root's %s", m.field, k, matchText(m.sub[k]), matchText(r))
			}
		}
	}
	return sourceClash(root, sub)
}

func sourceClash(root, sub *networking.HTTPMatchRequest) string {
	switch {
	case root.GetIgnoreUriCase() != sub.GetIgnoreUriCase():
		return "ignoreUriCase differs from the root's"
	case root.GetPort() != 0 && sub.GetPort() != 0 && root.GetPort() != sub.GetPort():
		return fmt.Sprintf("port %d is not the root's %d", sub.GetPort(), root.GetPort())
	case root.GetSourceNamespace() != "" && sub.GetSourceNamespace() != "" && sub.GetSourceNamespace() != root.GetSourceNamespace():
		return fmt.Sprintf("sourceNamespace %q is not the root's %q", sub.GetSourceNamespace(), root.GetSourceNamespace())
	}
	for _, k := range slices.Sorted(maps.Keys(sub.GetSourceLabels())) {
		if v, ok := root.GetSourceLabels()[k]; ok && v != sub.GetSourceLabels()[k] {
			return fmt.Sprintf("sourceLabels[%s] %q is not the root's %q", k, sub.GetSourceLabels()[k], v)
		}
	}
	if len(root.GetGateways()) > 0 {
		for _, g := range sub.GetGateways() {
			if !slices.Contains(root.GetGateways(), g) {
				return fmt.Sprintf("gateway %s is not one of the root's", g)
			}
		}
	}
	return ""
}

// within reports whether everything that sub accepts root accepts too.
// Nothing is known to be within a regex, nor a regex within anything.
func within(root, sub *networking.StringMatch) bool {
	if root == nil || sub == nil {
		return true
	}
	if root.GetRegex() != "" || sub.GetRegex() != "" {
		return false
	}
	if exact := root.GetExact(); exact != "" {
		return sub.GetExact() == exact
	}
	if prefix := root.GetPrefix(); prefix != "" {
		return strings.HasPrefix(sub.GetPrefix(), prefix) || strings.HasPrefix(sub.GetExact(), prefix)
	}
	return false
}

func matchText(m *networking.StringMatch) string {
	switch t := m.GetMatchType().(type) {
	case *networking.StringMatch_Exact:
		return fmt.Sprintf("exact %q", t.Exact)
	case *networking.StringMatch_Prefix:
		return fmt.Sprintf("prefix %q", t.Prefix)
	case *networking.StringMatch_Regex:
		return fmt.Sprintf("regex %q", t.Regex)
	}
	return "presence"
}
