package simulate

import (
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// router does what the chosen route says.
func (r *request) router() {
	if r.wantsTLS() {
		r.hop.Reply = &Reply{
			Status: http.StatusMovedPermanently, Reason: "the server leads plain requests to HTTPS",
			Location: r.location(&route.RedirectAction{SchemeRewriteSpecifier: &route.RedirectAction_HttpsRedirect{HttpsRedirect: true}}),
			Source:   r.config.sourceOfHost(r.vhost),
		}
		return
	}
	if r.route == nil {
		r.hop.Reply = r.noRoute()
		return
	}
	switch a := r.route.GetAction().(type) {
	case *route.Route_Route:
		r.forward(a.Route)
	case *route.Route_Redirect:
		r.hop.Reply = &Reply{
			Status: redirectStatus[a.Redirect.GetResponseCode()], Reason: "the route redirects",
			Location: r.location(a.Redirect), Source: sourceOf(r.route.GetMetadata()),
		}
	case *route.Route_DirectResponse:
		r.hop.Reply = &Reply{
			Status: int(a.DirectResponse.GetStatus()), Reason: "the route answers directly", //nolint:gosec // an HTTP status
			Body: body(a.DirectResponse.GetBody()), Source: sourceOf(r.route.GetMetadata()),
		}
		// Envoy names the request's own address in answers that may have a location.
		if s := r.hop.Reply.Status; s == 201 || s >= 300 && s < 400 {
			r.hop.Reply.Location = r.location(&route.RedirectAction{})
		}
	default:
		r.hop.unknown(fmt.Sprintf("route action %T", r.route.GetAction()))
	}
}

func body(d *core.DataSource) string {
	switch s := d.GetSpecifier().(type) {
	case *core.DataSource_InlineString:
		return s.InlineString
	case *core.DataSource_InlineBytes:
		return string(s.InlineBytes)
	}
	return ""
}

var redirectStatus = map[route.RedirectAction_RedirectResponseCode]int{
	route.RedirectAction_MOVED_PERMANENTLY: 301, route.RedirectAction_FOUND: 302, route.RedirectAction_SEE_OTHER: 303,
	route.RedirectAction_TEMPORARY_REDIRECT: 307, route.RedirectAction_PERMANENT_REDIRECT: 308,
}

// location is where a redirect leads.
func (r *request) location(a *route.RedirectAction) string {
	scheme := r.http.Scheme
	switch {
	case a.GetHttpsRedirect():
		scheme = "https"
	case a.GetSchemeRedirect() != "":
		scheme = a.GetSchemeRedirect()
	}
	host, port := a.GetHostRedirect(), ""
	if a.GetPortRedirect() != 0 {
		port = ":" + strconv.FormatUint(uint64(a.GetPortRedirect()), 10)
	}
	if host == "" {
		host = r.http.Authority
		bare := withoutPort(host)
		own := strings.TrimPrefix(host[len(bare):], ":")
		if port != "" || scheme != r.http.Scheme && (r.http.Scheme == "http" && own == "80" || r.http.Scheme == "https" && own == "443") {
			host = bare
		}
	}
	path := r.http.Path
	query := path[len(r.http.path()):]
	switch p := a.GetPathRewriteSpecifier().(type) {
	case *route.RedirectAction_PathRedirect:
		path = p.PathRedirect
		if !strings.Contains(path, "?") {
			path += query
		}
	case *route.RedirectAction_PrefixRewrite:
		path = r.replacePrefix(p.PrefixRewrite) + query
	case *route.RedirectAction_RegexRewrite:
		path = substitute(p.RegexRewrite, r.http.path()) + query
	}
	if a.GetStripQuery() {
		path, _, _ = strings.Cut(path, "?")
	}
	return scheme + "://" + host + port + path
}

// replacePrefix puts a text in place of what the route's match found: its
// prefix, or the whole path.
func (r *request) replacePrefix(with string) string {
	path := r.http.path()
	switch m := r.route.GetMatch().GetPathSpecifier().(type) {
	case *route.RouteMatch_Prefix:
		if len(path) >= len(m.Prefix) {
			return with + path[len(m.Prefix):]
		}
	case *route.RouteMatch_PathSeparatedPrefix:
		if len(path) >= len(m.PathSeparatedPrefix) {
			return with + path[len(m.PathSeparatedPrefix):]
		}
	}
	return with
}

var backReference = regexp.MustCompile(`\\(\d|\\)`)

// substitute replaces every match, with RE2's form of references: \1.
func substitute(s *matcher.RegexMatchAndSubstitute, path string) string {
	re, err := regexp.Compile(s.GetPattern().GetRegex())
	if err != nil {
		return path
	}
	template := strings.ReplaceAll(s.GetSubstitution(), "$", "$$")
	template = backReference.ReplaceAllStringFunc(template, func(ref string) string {
		if ref == `\\` {
			return `\`
		}
		return "${" + ref[1:] + "}"
	})
	return re.ReplaceAllString(path, template)
}

// forward sends the request on to one or more clusters.
func (r *request) forward(a *route.RouteAction) {
	r.deadlines(a)
	sent := r.http.clone()
	r.rewrite(a, sent)
	r.hop.Sent = r.mutated(sent, nil)
	for _, m := range a.GetRequestMirrorPolicies() {
		share := 100.0
		if m.GetRuntimeFraction() != nil {
			share = fraction(m.GetRuntimeFraction().GetDefaultValue())
		}
		r.hop.Mirrors = append(r.hop.Mirrors, Mirror{Cluster: m.GetCluster(), Percent: share})
	}
	switch s := a.GetClusterSpecifier().(type) {
	case *route.RouteAction_Cluster:
		r.hop.To = []Destination{r.destination(s.Cluster, 100, serviceUnavailable)}
	case *route.RouteAction_WeightedClusters:
		r.weighted(a, s.WeightedClusters, sent)
	case *route.RouteAction_ClusterHeader:
		name, _ := r.http.get(s.ClusterHeader)
		r.hop.To = []Destination{r.destination(name, 100, serviceUnavailable)}
	default:
		r.hop.unknown(fmt.Sprintf("route with %T", a.GetClusterSpecifier()))
	}
}

type headerLevel struct {
	add            []*core.HeaderValueOption
	remove         []string
	responseAdd    []*core.HeaderValueOption
	responseRemove []string
}

// mutated applies the header changes of every level to a copy of a request.
// The most specific level goes first, so that a less specific one has the last
// word (envoy config.route.v3 RouteConfiguration.request_headers_to_add).
func (r *request) mutated(h *HTTP, destination *headerLevel) *Sent {
	levels := []headerLevel{
		{r.route.GetRequestHeadersToAdd(), r.route.GetRequestHeadersToRemove(), r.route.GetResponseHeadersToAdd(), r.route.GetResponseHeadersToRemove()},
		{r.vhost.GetRequestHeadersToAdd(), r.vhost.GetRequestHeadersToRemove(), r.vhost.GetResponseHeadersToAdd(), r.vhost.GetResponseHeadersToRemove()},
		{r.table.GetRequestHeadersToAdd(), r.table.GetRequestHeadersToRemove(), r.table.GetResponseHeadersToAdd(), r.table.GetResponseHeadersToRemove()},
	}
	if destination != nil {
		levels = append([]headerLevel{*destination}, levels...)
	}
	if r.table.GetMostSpecificHeaderMutationsWins() {
		slices.Reverse(levels)
	}
	h = h.clone()
	var changes, response []HeaderChange
	for _, l := range levels {
		changes = append(changes, r.change(h, l.add, l.remove)...)
		response = append(response, headerChanges(l.responseAdd, l.responseRemove)...)
	}
	return sentOf(h, changes, response)
}

func sentOf(h *HTTP, changes, response []HeaderChange) *Sent {
	return &Sent{Method: h.Method, Authority: h.Authority, Path: h.Path, Changes: changes, Response: response, http: h}
}

// weighted splits requests; base is the request before its headers change.
func (r *request) weighted(a *route.RouteAction, w *route.WeightedCluster, base *HTTP) {
	total := uint32(0)
	for _, c := range w.GetClusters() {
		total += c.GetWeight().GetValue()
	}
	for _, c := range w.GetClusters() {
		if c.GetWeight().GetValue() == 0 {
			continue
		}
		name := c.GetName()
		if name == "" {
			name, _ = r.http.get(c.GetClusterHeader())
		}
		d := r.destination(name, percentOf(c.GetWeight().GetValue(), total), serviceUnavailable)
		own := headerLevel{c.GetRequestHeadersToAdd(), c.GetRequestHeadersToRemove(), c.GetResponseHeadersToAdd(), c.GetResponseHeadersToRemove()}
		sent := base.clone()
		if lit := c.GetHostRewriteLiteral(); lit != "" && a.GetHostRewriteSpecifier() == nil {
			sent.Authority = lit
		}
		if len(own.add)+len(own.remove)+len(own.responseAdd)+len(own.responseRemove) > 0 || sent.Authority != base.Authority {
			d.Sent = r.mutated(sent, &own)
		}
		r.hop.To = append(r.hop.To, d)
	}
}

func (r *request) deadlines(a *route.RouteAction) {
	r.hop.Timeout = Span{Set: true, Duration: defaultTimeout, Default: true}
	if a.GetTimeout() != nil {
		r.hop.Timeout = Span{Set: true, Duration: a.GetTimeout().AsDuration()}
	}
	p := a.GetRetryPolicy()
	if p == nil {
		p = r.vhost.GetRetryPolicy()
	}
	if p == nil {
		return
	}
	attempts := 1
	if p.GetNumRetries() != nil {
		attempts = int(p.GetNumRetries().GetValue())
	}
	r.hop.Retries = &Retries{Attempts: attempts, On: p.GetRetryOn(), Codes: p.GetRetriableStatusCodes(), PerTry: p.GetPerTryTimeout().AsDuration()}
}

// rewrite changes path and host.
func (r *request) rewrite(a *route.RouteAction, sent *HTTP) {
	query := r.http.Path[len(r.http.path()):]
	switch {
	case a.GetPrefixRewrite() != "":
		sent.Path = r.replacePrefix(a.GetPrefixRewrite()) + query
	case a.GetRegexRewrite() != nil:
		sent.Path = substitute(a.GetRegexRewrite(), r.http.path()) + query
	case a.GetPathRewritePolicy() != nil || a.GetPathRewrite() != "":
		r.hop.unknown("the route rewrites the path by a policy")
	}
	switch s := a.GetHostRewriteSpecifier().(type) {
	case nil:
	case *route.RouteAction_HostRewriteLiteral:
		sent.Authority = s.HostRewriteLiteral
	case *route.RouteAction_HostRewriteHeader:
		if v, ok := r.http.get(s.HostRewriteHeader); ok {
			sent.Authority = v
		}
	case *route.RouteAction_AutoHostRewrite:
		if s.AutoHostRewrite.GetValue() {
			r.hop.unknown("the host becomes that of the endpoint (auto_host_rewrite)")
		}
	default:
		r.hop.unknown(fmt.Sprintf("host rewrite %T", s))
	}
}

// change applies header changes to a request and says what they are.
func (r *request) change(h *HTTP, add []*core.HeaderValueOption, remove []string) []HeaderChange {
	list := headerChanges(add, remove)
	for i := range list {
		c := &list[i]
		if strings.Contains(strings.ReplaceAll(c.Value, "%%", ""), "%") {
			r.hop.unknown(fmt.Sprintf("header %s gets a value that Envoy fills in: %s", c.Name, c.Value))
		}
		value := strings.ReplaceAll(c.Value, "%%", "%")
		present := len(h.Header.values(c.Name)) > 0
		switch c.Op {
		case "remove":
			h.Header = h.Header.without(c.Name)
		case "set":
			h.Header = append(h.Header.without(c.Name), Field{c.Name, value})
		case "addIfAbsent":
			if !present {
				h.Header = append(h.Header, Field{c.Name, value})
			}
		case "setIfPresent":
			if present {
				h.Header = append(h.Header.without(c.Name), Field{c.Name, value})
			}
		default:
			h.Header = append(h.Header, Field{c.Name, value})
		}
	}
	return list
}

// headerChanges lists removals first, as Envoy does them.
func headerChanges(add []*core.HeaderValueOption, remove []string) []HeaderChange {
	var out []HeaderChange
	for _, name := range remove {
		out = append(out, HeaderChange{Op: "remove", Name: strings.ToLower(name)})
	}
	for _, a := range add {
		c := HeaderChange{Op: "add", Name: strings.ToLower(a.GetHeader().GetKey()), Value: a.GetHeader().GetValue()}
		switch a.GetAppendAction() {
		case core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
			c.Op = "set"
		case core.HeaderValueOption_ADD_IF_ABSENT:
			c.Op = "addIfAbsent"
		case core.HeaderValueOption_OVERWRITE_IF_EXISTS:
			c.Op = "setIfPresent"
		}
		out = append(out, c)
	}
	return out
}

func addrPort(a *core.SocketAddress) (netip.AddrPort, bool) {
	ip, err := netip.ParseAddr(a.GetAddress())
	if err != nil {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(ip, uint16(a.GetPortValue())), true //nolint:gosec // a port
}
