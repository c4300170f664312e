package simulate

import (
	"fmt"
	"strings"

	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// metadata is what filters left about a request: by filter, then key.
type metadata map[string]map[string]any

// matchMetadata evaluates a MetadataMatcher.
func matchMetadata(md metadata, m *matcher.MetadataMatcher) mismatch {
	var at any = md[m.GetFilter()]
	var names []string
	for _, segment := range m.GetPath() {
		names = append(names, segment.GetKey())
		next, _ := at.(map[string]any)
		at = next[segment.GetKey()]
	}
	match, ok := matchValue(m.GetValue(), at)
	name := strings.Join(names, ".")
	switch {
	case !ok:
		return mismatch{why: "cannot be decided", unknown: "condition on metadata " + m.GetFilter() + " " + name}
	case match == m.GetInvert() && at == nil:
		return mismatch{why: fmt.Sprintf("%s is absent", name)}
	case match == m.GetInvert():
		return mismatch{why: fmt.Sprintf("%s %v %s", name, at, describeValue(m.GetValue(), m.GetInvert()))}
	}
	return mismatch{}
}

func matchValue(m *matcher.ValueMatcher, v any) (match, ok bool) {
	switch p := m.GetMatchPattern().(type) {
	case *matcher.ValueMatcher_NullMatch_:
		return v == nil, true
	case *matcher.ValueMatcher_PresentMatch:
		return (v != nil) == p.PresentMatch, true
	case *matcher.ValueMatcher_BoolMatch:
		b, is := v.(bool)
		return is && b == p.BoolMatch, true
	case *matcher.ValueMatcher_StringMatch:
		s, is := v.(string)
		if !is {
			return false, true
		}
		return matchString(p.StringMatch, s)
	case *matcher.ValueMatcher_DoubleMatch:
		n, is := number(v)
		switch d := p.DoubleMatch.GetMatchPattern().(type) {
		case *matcher.DoubleMatcher_Exact:
			return is && n == d.Exact, true
		case *matcher.DoubleMatcher_Range:
			return is && n >= d.Range.GetStart() && n < d.Range.GetEnd(), true
		}
	case *matcher.ValueMatcher_ListMatch:
		list, _ := v.([]any)
		for _, item := range list {
			if match, ok := matchValue(p.ListMatch.GetOneOf(), item); match || !ok {
				return match, ok
			}
		}
		return false, true
	case *matcher.ValueMatcher_OrMatch:
		for _, one := range p.OrMatch.GetValueMatchers() {
			if match, ok := matchValue(one, v); match || !ok {
				return match, ok
			}
		}
		return false, true
	}
	return false, false
}

func number(v any) (float64, bool) {
	switch n := v.(type) {
	case float64:
		return n, true
	case int:
		return float64(n), true
	case int64:
		return float64(n), true
	}
	return 0, false
}

func describeValue(m *matcher.ValueMatcher, inverted bool) string {
	words := valueWords(m)
	switch {
	case words == "":
		return "does not match"
	case inverted:
		return "must not be one that " + words
	}
	return "is not one that " + words
}

// valueWords are a condition on a text in words, of several the last one's; ""
// for other kinds.
func valueWords(m *matcher.ValueMatcher) string {
	switch p := m.GetMatchPattern().(type) {
	case *matcher.ValueMatcher_StringMatch:
		return describeString(p.StringMatch)
	case *matcher.ValueMatcher_ListMatch:
		return valueWords(p.ListMatch.GetOneOf())
	case *matcher.ValueMatcher_OrMatch:
		if list := p.OrMatch.GetValueMatchers(); len(list) > 0 {
			return valueWords(list[len(list)-1])
		}
	}
	return ""
}
