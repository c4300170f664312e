package simulate

import (
	"fmt"
	"net/netip"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// request is one request on its way through a connection manager.
type request struct {
	*exchange
	manager *hcm.HttpConnectionManager
	table   *routeTable
	http    *HTTP
	md      metadata
	vhost   *route.VirtualHost
	route   *route.Route
	// accepted is the provider that accepted the token, tried are all that
	// were asked.
	accepted string
	tried    []Passed
	// client is whose request it is.
	client netip.Addr
}

func (e *exchange) connectionManager(m *hcm.HttpConnectionManager) {
	if e.conn.HTTP == nil || !e.readable() {
		e.hop.Reply = &Reply{Status: 400, Reason: "the chain expects HTTP and the bytes are none: the connection is closed", Flag: "DPE"}
		if !e.readable() {
			e.hop.Reply.Reason = "the chain expects HTTP in plaintext and the client speaks TLS: the connection is closed"
			e.hop.Reply.Status = 0
		}
		return
	}
	r := &request{exchange: e, manager: m, http: e.conn.HTTP.clone(), md: metadata{}}
	r.http.placeToken()
	r.http.Scheme = "http"
	if e.hop.Downstream.Mode != Plaintext && !e.hop.Downstream.Passthrough {
		r.http.Scheme = "https"
	}
	if reply := r.sanitize(); reply != nil {
		e.hop.Reply = reply
		return
	}
	switch s := m.GetRouteSpecifier().(type) {
	case *hcm.HttpConnectionManager_RouteConfig:
		r.table = newRouteTable(s.RouteConfig)
	case *hcm.HttpConnectionManager_Rds:
		e.hop.RouteTable = s.Rds.GetRouteConfigName()
		if r.table = e.config.table(s.Rds.GetRouteConfigName()); r.table == nil {
			e.hop.Reply = &Reply{Status: 404, Reason: "the route table " + e.hop.RouteTable + " does not exist", Flag: "NR"}
			return
		}
	default:
		e.hop.unknown(fmt.Sprintf("connection manager with %T", s))
		return
	}
	r.findRoute()
	r.filters()
}

// sanitize is what the connection manager does to a request before anything
// else reads it.
func (r *request) sanitize() *Reply {
	options := r.manager.GetCommonHttpProtocolOptions()
	for _, f := range r.http.Header {
		if !strings.Contains(f.Name, "_") {
			continue
		}
		switch options.GetHeadersWithUnderscoresAction() {
		case core.HttpProtocolOptions_REJECT_REQUEST:
			return &Reply{Status: 400, Reason: fmt.Sprintf("header %q has an underscore in its name", f.Name)}
		case core.HttpProtocolOptions_DROP_HEADER:
			r.http.Header = r.http.Header.without(f.Name)
		}
	}
	if r.manager.GetStripMatchingHostPort() || r.manager.GetStripAnyHostPort() {
		r.hop.unknown("the connection manager strips the port off the host")
	}
	if r.manager.GetStripTrailingHostDot() {
		r.http.Authority = strings.TrimSuffix(r.http.Authority, ".")
	}
	r.clientCert()
	r.clientAddress()
	return normalizePath(r.manager, r.http)
}

// findRoute chooses virtual host and route by what is known of the request so
// far. Filters that learn more let it be done again.
func (r *request) findRoute() {
	r.hop.VirtualHost, r.hop.Route, r.route = nil, nil, nil
	vh, why := r.table.virtualHost(r.http.Authority)
	r.vhost = vh
	if vh == nil {
		return
	}
	r.hop.VirtualHost = &Decision{Name: vh.GetName(), Source: r.config.sourceOfHost(vh), Why: why}
	if r.wantsTLS() {
		return // no route is looked for
	}
	r.route, r.hop.Route = r.chooseRoute(vh, r.http, r.md)
}

// wantsTLS reports whether the virtual host leads plain requests to HTTPS.
func (r *request) wantsTLS() bool {
	switch r.vhost.GetRequireTls() {
	case route.VirtualHost_ALL:
		return r.http.Scheme != "https"
	case route.VirtualHost_EXTERNAL_ONLY:
		r.hop.unknown("virtual host " + r.vhost.GetName() + " wants TLS of clients outside, who are not known")
	}
	return false
}

// perRoute is a filter's own configuration on the most specific level that
// has one; nil without.
func (r *request) perRoute(filter string) *anypb.Any {
	if a := r.route.GetTypedPerFilterConfig()[filter]; a != nil {
		return a
	}
	if a := r.vhost.GetTypedPerFilterConfig()[filter]; a != nil {
		return a
	}
	return r.table.GetTypedPerFilterConfig()[filter]
}

// filters runs the HTTP filters in order; the router ends the list.
func (r *request) filters() {
	for _, f := range r.manager.GetHttpFilters() {
		if f.GetDisabled() {
			continue
		}
		if !r.filter(f) {
			return
		}
	}
	if r.hop.Reply == nil && len(r.hop.To) == 0 {
		r.hop.unknown("the connection manager has no router")
	}
}

// noRoute answers a request that no route takes.
func (r *request) noRoute() *Reply {
	if r.vhost == nil {
		return &Reply{Status: 404, Reason: fmt.Sprintf("no virtual host has the host %q", r.http.Authority), Flag: "NR"}
	}
	return &Reply{
		Status: 404, Reason: fmt.Sprintf("no route of virtual host %s takes the request", r.vhost.GetName()), Flag: "NR",
		Source: r.config.sourceOfHost(r.vhost),
	}
}
