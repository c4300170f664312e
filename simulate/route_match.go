package simulate

import (
	"fmt"
	"net/http"
	"strings"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// chooseRoute tries a virtual host's routes in order. It returns nil if none
// takes the request.
func (e *exchange) chooseRoute(vh *route.VirtualHost, h *HTTP, md metadata) (*route.Route, *Decision) {
	if vh.GetMatcher() != nil {
		e.hop.unknown("virtual host " + vh.GetName() + " chooses routes by a matcher tree")
	}
	d := &Decision{}
	for i, r := range vh.GetRoutes() {
		m := e.matchRoute(r.GetMatch(), h, md)
		if m.unknown != "" {
			e.hop.unknown(fmt.Sprintf("route %s: %s", routeName(r, i), m.unknown))
		}
		if m.why == "" {
			d.Name, d.Source, d.Why = routeName(r, i), sourceOf(r.GetMetadata()), describeRoute(r.GetMatch())
			return r, d
		}
		d.Passed = append(d.Passed, Passed{Name: routeName(r, i), Source: sourceOf(r.GetMetadata()), Why: m.why})
	}
	return nil, d
}

func routeName(r *route.Route, i int) string {
	if r.GetName() != "" {
		return r.GetName()
	}
	return fmt.Sprintf("#%d", i+1)
}

// matchRoute evaluates all conditions of a route; the first one that does not
// hold is the reason.
func (e *exchange) matchRoute(m *route.RouteMatch, h *HTTP, md metadata) mismatch {
	if miss := matchPath(m, h); miss.why != "" {
		return miss
	}
	for _, c := range m.GetHeaders() {
		if miss := matchHeader(h, c); miss.why != "" {
			return miss
		}
	}
	for _, c := range m.GetQueryParameters() {
		if miss := matchQuery(h.query(), c); miss.why != "" {
			return miss
		}
	}
	for _, c := range m.GetDynamicMetadata() {
		if miss := matchMetadata(md, c); miss.why != "" {
			return miss
		}
	}
	if m.GetGrpc() != nil {
		if ct, _ := h.get("content-type"); !strings.HasPrefix(ct, "application/grpc") {
			return mismatch{why: "it is for gRPC"}
		}
	}
	return e.matchRest(m)
}

// matchRest tests what translation does not make, so that other resources are
// understood or refused, never misread.
func (e *exchange) matchRest(m *route.RouteMatch) mismatch {
	switch {
	case m.GetRuntimeFraction() != nil:
		return mismatch{unknown: "it takes a share of the requests only (runtime_fraction)"}
	case m.GetTlsContext() != nil:
		return mismatch{unknown: "it tests the client's certificate (tls_context)"}
	case len(m.GetFilterState()) > 0:
		return mismatch{unknown: "it tests filter state"}
	case len(m.GetCookies()) > 0:
		return mismatch{unknown: "it tests cookies"}
	}
	return mismatch{}
}

func matchPath(m *route.RouteMatch, h *HTTP) mismatch {
	path := h.path()
	fold := m.GetCaseSensitive() != nil && !m.GetCaseSensitive().GetValue()
	same := func(s string) string {
		if fold {
			return strings.ToLower(s)
		}
		return s
	}
	connect := h.Method == http.MethodConnect
	switch p := m.GetPathSpecifier().(type) {
	case *route.RouteMatch_Prefix:
		if !strings.HasPrefix(same(path), same(p.Prefix)) || connect {
			return mismatch{why: fmt.Sprintf("path %q does not start with %q", path, p.Prefix)}
		}
	case *route.RouteMatch_Path:
		if same(path) != same(p.Path) {
			return mismatch{why: fmt.Sprintf("path %q is not %q", path, p.Path)}
		}
	case *route.RouteMatch_SafeRegex:
		if !matchesWhole(p.SafeRegex.GetRegex(), path) {
			return mismatch{why: fmt.Sprintf("path %q does not match %q", path, p.SafeRegex.GetRegex())}
		}
	case *route.RouteMatch_PathSeparatedPrefix:
		rest, ok := strings.CutPrefix(same(path), same(p.PathSeparatedPrefix))
		if !ok || rest != "" && rest[0] != '/' {
			return mismatch{why: fmt.Sprintf("path %q is not below %q", path, p.PathSeparatedPrefix)}
		}
	case *route.RouteMatch_ConnectMatcher_:
		if !connect {
			return mismatch{why: "it is for CONNECT"}
		}
	default:
		return mismatch{why: "cannot be decided", unknown: fmt.Sprintf("path condition %T", m.GetPathSpecifier())}
	}
	return mismatch{}
}

// describeRoute is what a route asks for, in words.
func describeRoute(m *route.RouteMatch) string {
	var parts []string
	switch p := m.GetPathSpecifier().(type) {
	case *route.RouteMatch_Prefix:
		if p.Prefix != "/" {
			parts = append(parts, fmt.Sprintf("path starts with %q", p.Prefix))
		}
	case *route.RouteMatch_Path:
		parts = append(parts, fmt.Sprintf("path is %q", p.Path))
	case *route.RouteMatch_SafeRegex:
		parts = append(parts, fmt.Sprintf("path matches %q", p.SafeRegex.GetRegex()))
	case *route.RouteMatch_PathSeparatedPrefix:
		parts = append(parts, fmt.Sprintf("path is below %q", p.PathSeparatedPrefix))
	}
	for _, h := range m.GetHeaders() {
		parts = append(parts, describeHeader(h))
	}
	for _, q := range m.GetQueryParameters() {
		what := "is there"
		if q.GetStringMatch() != nil {
			what = describeString(q.GetStringMatch())
		}
		parts = append(parts, "query parameter "+q.GetName()+" "+what)
	}
	for _, d := range m.GetDynamicMetadata() {
		var names []string
		for _, s := range d.GetPath() {
			names = append(names, s.GetKey())
		}
		parts = append(parts, strings.Join(names, ".")+" is as asked")
	}
	if len(parts) == 0 {
		return "it takes every request"
	}
	return strings.Join(parts, ", ")
}

func describeHeader(h *route.HeaderMatcher) string {
	name, not := "header "+h.GetName(), ""
	if strings.HasPrefix(h.GetName(), ":") {
		name = h.GetName()[1:]
	}
	if h.GetInvertMatch() {
		not = "not: "
	}
	if p, is := presence(h); is {
		if p != h.GetInvertMatch() {
			return name + " is there"
		}
		return name + " is absent"
	}
	_, what, _ := matchHeaderValue(h, "")
	return not + name + " " + what
}
