package translate

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
)

// rulePlace is one match of one rule; match is -1 for a rule without matches.
type rulePlace struct{ rule, match int }

func (p rulePlace) field(list string) string {
	if p.match < 0 {
		return fmt.Sprintf("%s[%d]", list, p.rule)
	}
	return fmt.Sprintf("%s[%d].match[%d]", list, p.rule, p.match)
}

// shadow is a match that no request reaches, since an earlier one takes them
// all.
type shadow struct{ dead, by rulePlace }

// findShadows compares each match with the earlier ones. covered says whether
// the earlier takes everything that the later would. Comparisons are bounded:
// matches beyond the first thousand are not tested.
func findShadows[M any](rules [][]M, none M, covered func(later, earlier M) bool) []shadow {
	var out []shadow
	var earlier []rulePlace
	at := func(p rulePlace) M {
		if p.match < 0 {
			return none
		}
		return rules[p.rule][p.match]
	}
	test := func(p rulePlace) bool {
		for _, e := range earlier {
			if covered(at(p), at(e)) {
				out = append(out, shadow{p, e})
				return true
			}
		}
		if len(earlier) < maxPairs {
			earlier = append(earlier, p)
		}
		return false
	}
	for i, matches := range rules {
		if len(matches) == 0 {
			test(rulePlace{i, -1})
			continue
		}
		first, dead := len(out), 0
		for j := range matches {
			if test(rulePlace{i, j}) {
				dead++
			}
		}
		if dead == len(matches) { // the rule as a whole, once
			by := out[first].by
			out = append(out[:first], shadow{rulePlace{i, -1}, by})
		}
	}
	return out
}

// checkShadowing reports rules and matches that no request reaches. Rules
// with delegates are tested once these are found.
func checkShadowing(r *Report, vs *networking.VirtualService) {
	if !slices.ContainsFunc(vs.GetHttp(), func(h *networking.HTTPRoute) bool { return h.GetDelegate() != nil }) {
		for _, s := range httpShadows(vs.GetHttp()) {
			warnShadow(r, "http", s, len(vs.GetHosts()) > 0)
		}
	}
	tls := make([][]string, len(vs.GetTls()))
	for i, t := range vs.GetTls() {
		tls[i] = encodedMatches(t.GetMatch())
	}
	tcp := make([][]string, len(vs.GetTcp()))
	for i, t := range vs.GetTcp() {
		tcp[i] = encodedMatches(t.GetMatch())
	}
	// Of these only equal matches are known to cover one another.
	equalOrAny := func(later, earlier string) bool { return earlier == "" || later == earlier }
	for _, s := range findShadows(tls, "", equalOrAny) {
		warnShadow(r, "tls", s, true)
	}
	for _, s := range findShadows(tcp, "", equalOrAny) {
		warnShadow(r, "tcp", s, true)
	}
}

func encodedMatches[M proto.Message](matches []M) []string {
	out := make([]string, len(matches))
	for i, m := range matches {
		if b, err := (proto.MarshalOptions{Deterministic: true}).Marshal(m); err == nil {
			out[i] = string(b)
		}
	}
	return out
}

func warnShadow(r *Report, list string, s shadow, whole bool) {
	if !whole {
		return // a delegate's rules are tested where they are used
	}
	r.WarnAt(s.dead.field(list), "RouteShadowed",
		"is never reached: spec.%s takes all of its requests before; move it up or make the other narrower", s.by.field(list))
}

func httpShadows(rules []*networking.HTTPRoute) []shadow {
	matches := make([][]*networking.HTTPMatchRequest, len(rules))
	for i, h := range rules {
		matches[i] = h.GetMatch()
	}
	return findShadows(matches, nil, matchCovered)
}

// matchCovered reports whether every request of every client that later takes
// is one that earlier takes.
func matchCovered(later, earlier *networking.HTTPMatchRequest) bool {
	if earlier == nil {
		return true
	}
	return uriCovered(later, earlier) &&
		valueCovered(later.GetScheme(), earlier.GetScheme()) &&
		valueCovered(later.GetMethod(), earlier.GetMethod()) &&
		valueCovered(later.GetAuthority(), earlier.GetAuthority()) &&
		valuesCovered(later.GetHeaders(), earlier.GetHeaders(), valueCovered) &&
		valuesCovered(later.GetQueryParams(), earlier.GetQueryParams(), valueCovered) &&
		// What is excluded must be excluded at least as widely.
		valuesCovered(later.GetWithoutHeaders(), earlier.GetWithoutHeaders(), func(l, e *networking.StringMatch) bool { return valueCovered(e, l) }) &&
		clientsCovered(later, earlier)
}

func valuesCovered(later, earlier map[string]*networking.StringMatch, covered func(l, e *networking.StringMatch) bool) bool {
	for name, e := range earlier {
		l, ok := later[name]
		if !ok || !covered(l, e) {
			return false
		}
	}
	return true
}

func uriCovered(later, earlier *networking.HTTPMatchRequest) bool {
	e := earlier.GetUri()
	if e.GetRegex() == "*" {
		return false // no regex: it takes nothing
	}
	if e.GetMatchType() == nil || e.GetPrefix() == "/" || e.GetRegex() == ".*" {
		return true
	}
	if _, isPrefix := e.GetMatchType().(*networking.StringMatch_Prefix); isPrefix && e.GetPrefix() == "" {
		return true
	}
	l := later.GetUri()
	if earlier.GetIgnoreUriCase() {
		return valueCovered(lowered(l), lowered(e))
	}
	return !later.GetIgnoreUriCase() && valueCovered(l, e)
}

func lowered(m *networking.StringMatch) *networking.StringMatch {
	switch t := m.GetMatchType().(type) {
	case *networking.StringMatch_Exact:
		return &networking.StringMatch{MatchType: &networking.StringMatch_Exact{Exact: strings.ToLower(t.Exact)}}
	case *networking.StringMatch_Prefix:
		return &networking.StringMatch{MatchType: &networking.StringMatch_Prefix{Prefix: strings.ToLower(t.Prefix)}}
	}
	return m
}

// valueCovered reports whether every value that later accepts is one that
// earlier accepts; nil accepts the absence of a value, too. A regex is only
// known to cover itself.
func valueCovered(later, earlier *networking.StringMatch) bool {
	if earlier == nil {
		return true
	}
	if later == nil {
		return false
	}
	if isPresence(earlier) {
		return true
	}
	switch l := later.GetMatchType().(type) {
	case *networking.StringMatch_Exact:
		switch e := earlier.GetMatchType().(type) {
		case *networking.StringMatch_Exact:
			return l.Exact == e.Exact
		case *networking.StringMatch_Prefix:
			return strings.HasPrefix(l.Exact, e.Prefix)
		}
	case *networking.StringMatch_Prefix:
		e, ok := earlier.GetMatchType().(*networking.StringMatch_Prefix)
		return ok && strings.HasPrefix(l.Prefix, e.Prefix)
	case *networking.StringMatch_Regex:
		e, ok := earlier.GetMatchType().(*networking.StringMatch_Regex)
		return ok && l.Regex == e.Regex
	}
	return false
}

// clientsCovered reports whether every client that later is for is one that
// earlier is for.
func clientsCovered(later, earlier *networking.HTTPMatchRequest) bool {
	if earlier.GetPort() != 0 && earlier.GetPort() != later.GetPort() {
		return false
	}
	if len(earlier.GetGateways()) > 0 {
		return len(later.GetGateways()) > 0 && !slices.ContainsFunc(later.GetGateways(), func(g string) bool {
			return !slices.Contains(earlier.GetGateways(), g)
		})
	}
	tests := len(earlier.GetSourceLabels()) > 0 || earlier.GetSourceNamespace() != ""
	if len(later.GetGateways()) > 0 && tests {
		return false // a match that names gateways is for any labels
	}
	for k, v := range earlier.GetSourceLabels() {
		if got, ok := later.GetSourceLabels()[k]; !ok || got != v {
			return false
		}
	}
	return earlier.GetSourceNamespace() == "" || earlier.GetSourceNamespace() == later.GetSourceNamespace()
}
