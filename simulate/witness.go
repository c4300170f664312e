package simulate

import (
	"net/http"
	"regexp/syntax"
	"strings"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	networking "istio.io/api/networking/v1alpha3"
)

// witness is a request that a route's match takes; ok is false where none
// could be made up.
func (e *exchange) witness(m *route.RouteMatch, authority string) (h *HTTP, ok bool) {
	h = &HTTP{Method: http.MethodGet, Scheme: "http", Authority: authority, Path: "/"}
	switch p := m.GetPathSpecifier().(type) {
	case *route.RouteMatch_Prefix:
		h.Path = p.Prefix
	case *route.RouteMatch_Path:
		h.Path = p.Path
	case *route.RouteMatch_SafeRegex:
		h.Path = example(p.SafeRegex.GetRegex())
	case *route.RouteMatch_PathSeparatedPrefix:
		h.Path = p.PathSeparatedPrefix
	}
	if !strings.HasPrefix(h.Path, "/") {
		return nil, false
	}
	for _, c := range m.GetHeaders() {
		setHeader(h, c)
	}
	var query []string
	for _, q := range m.GetQueryParameters() {
		query = append(query, q.GetName()+"="+exampleOf(q.GetStringMatch()))
	}
	if len(query) > 0 {
		h.Path += "?" + strings.Join(query, "&")
	}
	return h, e.matchRoute(m, h, metadata{}).why == ""
}

// setHeader makes a header meet a condition.
func setHeader(h *HTTP, c *route.HeaderMatcher) {
	if c.GetInvertMatch() {
		return // absent is what it mostly asks for; the caller tests it
	}
	if p, is := presence(c); is && !p {
		return
	}
	value := exampleOf(c.GetStringMatch())
	if c.GetRangeMatch() != nil {
		value = "0"
	}
	switch c.GetName() {
	case ":method":
		h.Method = value
	case ":authority":
		h.Authority = value
	case ":scheme", ":path":
	default:
		if value == "" {
			value = "x"
		}
		h.Header = append(h.Header.without(c.GetName()), Field{c.GetName(), value})
	}
}

// exampleOf is a text that meets a condition.
func exampleOf(m *matcher.StringMatcher) string {
	switch p := m.GetMatchPattern().(type) {
	case *matcher.StringMatcher_Exact:
		return p.Exact
	case *matcher.StringMatcher_Prefix:
		return p.Prefix
	case *matcher.StringMatcher_Suffix:
		return p.Suffix
	case *matcher.StringMatcher_Contains:
		return p.Contains
	case *matcher.StringMatcher_SafeRegex:
		return example(p.SafeRegex.GetRegex())
	}
	return "x"
}

// example is a short text that a regular expression matches, as far as one is
// easily found.
func example(expression string) string {
	re, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return ""
	}
	var b strings.Builder
	writeExample(&b, re.Simplify())
	return b.String()
}

func writeExample(b *strings.Builder, re *syntax.Regexp) {
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		b.WriteRune(classExample(re.Rune))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte('x')
	case syntax.OpCapture, syntax.OpPlus, syntax.OpConcat:
		for _, sub := range re.Sub {
			writeExample(b, sub)
		}
	case syntax.OpAlternate:
		writeExample(b, re.Sub[0])
	case syntax.OpRepeat:
		for range re.Min {
			writeExample(b, re.Sub[0])
		}
	}
}

// classExample prefers a letter or digit.
func classExample(ranges []rune) rune {
	for _, want := range "a0Ax-_/" {
		for i := 0; i+1 < len(ranges); i += 2 {
			if want >= ranges[i] && want <= ranges[i+1] {
				return want
			}
		}
	}
	if len(ranges) > 0 {
		return ranges[0]
	}
	return 'x'
}

// ExampleOf is a text that meets a condition of Istio's API, as far as one is
// easily found; "" for no condition.
func ExampleOf(m *networking.StringMatch) string {
	switch p := m.GetMatchType().(type) {
	case *networking.StringMatch_Exact:
		return p.Exact
	case *networking.StringMatch_Prefix:
		return p.Prefix
	case *networking.StringMatch_Regex:
		return example(p.Regex)
	}
	return ""
}
