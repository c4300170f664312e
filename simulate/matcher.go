package simulate

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// regexes remembers compiled expressions: both Envoy and Go use RE2's syntax.
var regexes sync.Map // string -> *regexp.Regexp, nil for one that does not compile

// matchesWhole reports whether an expression matches the whole text.
func matchesWhole(expression, text string) bool {
	re, ok := regexes.Load(expression)
	if !ok {
		compiled, err := regexp.Compile(`\A(?:` + expression + `)\z`)
		if err != nil {
			compiled = nil
		}
		re, _ = regexes.LoadOrStore(expression, compiled)
	}
	r, ok := re.(*regexp.Regexp)
	return ok && r != nil && r.MatchString(text)
}

// matchString evaluates a StringMatcher; ok is false for a kind that is not
// known here.
func matchString(m *matcher.StringMatcher, s string) (match, ok bool) {
	pattern, fold := "", m.GetIgnoreCase()
	lower := func(t string) string {
		if fold {
			return strings.ToLower(t)
		}
		return t
	}
	s = lower(s)
	switch p := m.GetMatchPattern().(type) {
	case *matcher.StringMatcher_Exact:
		return s == lower(p.Exact), true
	case *matcher.StringMatcher_Prefix:
		return strings.HasPrefix(s, lower(p.Prefix)), true
	case *matcher.StringMatcher_Suffix:
		return strings.HasSuffix(s, lower(p.Suffix)), true
	case *matcher.StringMatcher_Contains:
		return strings.Contains(s, lower(p.Contains)), true
	case *matcher.StringMatcher_SafeRegex:
		pattern = p.SafeRegex.GetRegex()
		return matchesWhole(pattern, s), true
	}
	return false, false
}

// describeString is a condition in words: starts with "/api".
func describeString(m *matcher.StringMatcher) string {
	fold := ""
	if m.GetIgnoreCase() {
		fold = ", in any case"
	}
	switch p := m.GetMatchPattern().(type) {
	case *matcher.StringMatcher_Exact:
		return fmt.Sprintf("is %q%s", p.Exact, fold)
	case *matcher.StringMatcher_Prefix:
		return fmt.Sprintf("starts with %q%s", p.Prefix, fold)
	case *matcher.StringMatcher_Suffix:
		return fmt.Sprintf("ends with %q%s", p.Suffix, fold)
	case *matcher.StringMatcher_Contains:
		return fmt.Sprintf("contains %q%s", p.Contains, fold)
	case *matcher.StringMatcher_SafeRegex:
		return fmt.Sprintf("matches %q", p.SafeRegex.GetRegex())
	}
	return fmt.Sprintf("%T", m.GetMatchPattern())
}

// mismatch is why something does not match; "" if it does. Unknown marks a
// condition that cannot be evaluated.
type mismatch struct {
	why     string
	unknown string
}

// matchHeader evaluates a HeaderMatcher (envoy config.route.v3): a header that is
// not there matches only a condition that asks for that, and of a header that
// is there several times one value is enough.
func matchHeader(h *HTTP, m *route.HeaderMatcher) mismatch {
	values := h.values(m.GetName())
	present := len(values) > 0
	value := strings.Join(values, ",")
	if !present && m.GetTreatMissingHeaderAsEmpty() {
		present = true
	}
	name := headerName(m)
	if p, isPresence := presence(m); isPresence {
		if (present == p) != m.GetInvertMatch() {
			return mismatch{}
		}
		if present {
			return mismatch{why: name + " is there"}
		}
		return mismatch{why: name + " is absent"}
	}
	if !present {
		return mismatch{why: name + " is absent"}
	}
	if len(values) == 0 {
		values = []string{""}
	}
	match, what, ok := false, "", true
	for _, v := range values {
		one, w, known := matchHeaderValue(m, v)
		match, what, ok = match || one, w, ok && known
	}
	switch {
	case !ok:
		return mismatch{why: "cannot be decided", unknown: fmt.Sprintf("condition %T on %s", m.GetHeaderMatchSpecifier(), name)}
	case match == m.GetInvertMatch() && m.GetInvertMatch():
		return mismatch{why: fmt.Sprintf("%s %q must not be one that %s", name, value, what)}
	case match == m.GetInvertMatch():
		return mismatch{why: fmt.Sprintf("%s %q is not one that %s", name, value, what)}
	}
	return mismatch{}
}

// headerName is what a condition is about: a header, or a part of the request.
func headerName(m *route.HeaderMatcher) string {
	if m.GetName() == ":method" || m.GetName() == ":authority" || m.GetName() == ":scheme" {
		return m.GetName()[1:]
	}
	return "header " + m.GetName()
}

func presence(m *route.HeaderMatcher) (present, is bool) {
	switch p := m.GetHeaderMatchSpecifier().(type) {
	case nil:
		return true, true
	case *route.HeaderMatcher_PresentMatch:
		return p.PresentMatch, true
	}
	return false, false
}

func matchHeaderValue(m *route.HeaderMatcher, value string) (match bool, what string, ok bool) {
	switch s := m.GetHeaderMatchSpecifier().(type) {
	case *route.HeaderMatcher_StringMatch:
		match, ok = matchString(s.StringMatch, value)
		return match, describeString(s.StringMatch), ok
	case *route.HeaderMatcher_RangeMatch:
		n, err := strconv.ParseInt(value, 10, 64)
		in := err == nil && n >= s.RangeMatch.GetStart() && n < s.RangeMatch.GetEnd()
		return in, fmt.Sprintf("is from %d to below %d", s.RangeMatch.GetStart(), s.RangeMatch.GetEnd()), true
	}
	return false, "", false
}

// matchQuery evaluates a QueryParameterMatcher. The first value of a
// parameter counts; nothing is decoded.
func matchQuery(query string, m *route.QueryParameterMatcher) mismatch {
	value, present := "", false
	for pair := range strings.SplitSeq(query, "&") {
		k, v, _ := strings.Cut(pair, "=")
		if k == m.GetName() && query != "" {
			value, present = v, true
			break
		}
	}
	name := "query parameter " + m.GetName()
	switch s := m.GetQueryParameterMatchSpecifier().(type) {
	case *route.QueryParameterMatcher_StringMatch:
		if !present {
			return mismatch{why: name + " is absent"}
		}
		match, ok := matchString(s.StringMatch, value)
		if !ok {
			return mismatch{why: "cannot be decided", unknown: fmt.Sprintf("condition %T on %s", s.StringMatch.GetMatchPattern(), name)}
		}
		if !match {
			return mismatch{why: fmt.Sprintf("%s %q is not one that %s", name, value, describeString(s.StringMatch))}
		}
	case *route.QueryParameterMatcher_PresentMatch, nil:
		want := s == nil || m.GetPresentMatch()
		if present != want {
			return mismatch{why: fmt.Sprintf("%s is %s", name, map[bool]string{true: "there", false: "absent"}[present])}
		}
	default:
		return mismatch{why: "cannot be decided", unknown: fmt.Sprintf("condition %T on %s", s, name)}
	}
	return mismatch{}
}
