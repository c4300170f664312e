package translate

import (
	"regexp"
	"strconv"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbac "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	uritemplate "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	security "istio.io/api/security/v1beta1"
)

// operation is what is called: all of what it names.
func (w *ruleWriter) operation(o *security.Operation) []*rbac.Permission {
	var out []*rbac.Permission
	for _, c := range []struct {
		values, notValues []string
		of                func(string) *rbac.Permission
	}{
		{o.GetHosts(), o.GetNotHosts(), requestsOnly(w, hostNamed)},
		{o.GetMethods(), o.GetNotMethods(), requestsOnly(w, methodNamed)},
		{o.GetPaths(), o.GetNotPaths(), requestsOnly(w, pathNamed)},
		{o.GetPorts(), o.GetNotPorts(), portNumbered},
	} {
		out = append(out, w.permissions(c.values, c.notValues, c.of)...)
	}
	return out
}

func (w *ruleWriter) permissions(values, notValues []string, of func(string) *rbac.Permission) []*rbac.Permission {
	return matches(w, values, notValues, of, orPermissions, notPermission)
}

// hostNamed is the host of a request, in any case. One without a port means
// the host on any port, and with the dot that ends a full name: otherwise
// whoever adds either would be another host.
func hostNamed(v string) *rbac.Permission {
	h := &route.HeaderMatcher{Name: ":authority"}
	ignoringCase := func(m *matcher.StringMatcher) {
		m.IgnoreCase = true
		h.HeaderMatchSpecifier = &route.HeaderMatcher_StringMatch{StringMatch: m}
	}
	switch kind, rest := wildcardOf(v); {
	case kind == wildcardAny:
		h.HeaderMatchSpecifier = &route.HeaderMatcher_PresentMatch{PresentMatch: true}
	case kind == wildcardPrefix:
		ignoringCase(beginning(rest))
	case namesPort(rest) && kind == wildcardSuffix:
		ignoringCase(ending(rest))
	case namesPort(rest):
		ignoringCase(exactly(rest))
	default:
		before := ""
		if kind == wildcardSuffix {
			before = ".*"
		}
		h.HeaderMatchSpecifier = &route.HeaderMatcher_StringMatch{
			StringMatch: matching(`(?i)` + before + regexp.QuoteMeta(rest) + `\.?(:[0-9]+)?`),
		}
	}
	return &rbac.Permission{Rule: &rbac.Permission_Header{Header: h}}
}

// namesPort reports whether a host names a port; an IPv6 address has colons in
// brackets.
func namesPort(host string) bool {
	return strings.LastIndexByte(host, ':') > strings.LastIndexByte(host, ']')
}

func methodNamed(v string) *rbac.Permission {
	return &rbac.Permission{Rule: &rbac.Permission_Header{Header: headerIs(":method", v)}}
}

// pathNamed is a path without its query and fragment.
func pathNamed(v string) *rbac.Permission {
	if isPathTemplate(v) {
		if pathTemplateFault(v) != "" {
			return nil
		}
		return &rbac.Permission{Rule: &rbac.Permission_UriTemplate{UriTemplate: &core.TypedExtensionConfig{
			Name: "envoy.path.match.uri_template.uri_template_matcher",
			TypedConfig: packed(&uritemplate.UriTemplateMatchConfig{
				PathTemplate: strings.NewReplacer(anySegment, "*", anyPathRest, "**").Replace(v),
			}),
		}}}
	}
	return &rbac.Permission{Rule: &rbac.Permission_UrlPath{UrlPath: &matcher.PathMatcher{
		Rule: &matcher.PathMatcher_Path{Path: stringIs(v)},
	}}}
}

// What stands for parts of a path in a template.
const (
	anySegment  = "{*}"
	anyPathRest = "{**}"
)

func isPathTemplate(v string) bool {
	return strings.Contains(v, anySegment) || strings.Contains(v, anyPathRest)
}

var templateLiteral = regexp.MustCompile(`^[a-zA-Z0-9\-._~%!$&'()+,;:@=]+$`)

// pathTemplateFault says what is wrong with a path template, or nothing: the
// parts stand for whole segments, and {**} comes last of them, once. An Envoy
// that is given another template ends.
func pathTemplateFault(v string) string {
	if !strings.HasPrefix(v, "/") {
		return "does not begin with a slash"
	}
	rest := 0
	for _, segment := range strings.Split(v[1:], "/") {
		switch {
		case segment == anySegment && rest > 0:
			return "has {*} after {**}"
		case segment == anySegment:
		case segment == anyPathRest:
			rest++
		case segment == "":
			return "has an empty part (two slashes, or one at the end)"
		case !templateLiteral.MatchString(segment):
			return "has a part that is neither {*}, {**} nor plain text: " + shown(segment)
		}
	}
	if rest > 1 {
		return "has {**} twice"
	}
	return ""
}

func portNumbered(v string) *rbac.Permission {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil {
		return nil
	}
	return &rbac.Permission{Rule: &rbac.Permission_DestinationPort{DestinationPort: uint32(n)}}
}

func addressNumbered(v string) *rbac.Permission {
	r := cidrRange(v)
	if r == nil {
		return nil
	}
	return &rbac.Permission{Rule: &rbac.Permission_DestinationIp{DestinationIp: r}}
}

func sniNamed(v string) *rbac.Permission {
	return &rbac.Permission{Rule: &rbac.Permission_RequestedServerName{RequestedServerName: stringIs(v)}}
}

// stateNamed makes the forms of what another filter noted; a value in brackets
// is an element of a list.
func stateNamed(filter, key string) func(string) *rbac.Permission {
	return func(v string) *rbac.Permission {
		if filter == "" || key == "" {
			return nil
		}
		is := textValue(stringIs(v))
		if inner, ok := strings.CutPrefix(v, "["); ok && strings.HasSuffix(inner, "]") {
			is = inList(textValue(stringIs(strings.TrimSuffix(inner, "]"))))
		}
		return &rbac.Permission{Rule: &rbac.Permission_Metadata{Metadata: metadataAt(filter, []string{key}, is)}} //nolint:staticcheck // as in claimIs
	}
}
