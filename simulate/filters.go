package simulate

import (
	"fmt"
	"net/http"
	"strconv"

	faultcommon "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	cors "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	authz "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	fault "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	jwt "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	rbac "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	setstate "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_filter_state/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	xdstype "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// Filters that change nothing about where a request goes and what it is
// answered.
var passiveFilters = map[string]bool{
	"envoy.filters.http.grpc_web": true, "envoy.filters.http.grpc_stats": true, "istio.alpn": true, "istio.stats": true,
	"istio.metadata_exchange": true, "envoy.filters.http.dynamic_forward_proxy": true, "istio_authn": true,
	"envoy.filters.http.peer_metadata": true,
}

// filter runs one HTTP filter; false ends the request.
func (r *request) filter(f *hcm.HttpFilter) bool {
	if passiveFilters[f.GetName()] {
		return true
	}
	m, err := r.config.unpack(f.GetTypedConfig())
	if err != nil {
		r.hop.unknownFilter("HTTP", f.GetName())
		return true
	}
	switch t := m.(type) {
	case *fault.HTTPFault:
		return r.fault(f.GetName(), t)
	case *cors.Cors:
		return r.cors(f.GetName())
	case *setstate.Config:
		for _, v := range t.GetOnRequestHeaders() {
			r.announces = r.announces || v.GetObjectKey() == "envoy.network.application_protocols"
		}
		return true
	case *jwt.JwtAuthentication:
		return r.jwt(f.GetName(), t)
	case *rbac.RBAC:
		return r.rbac(f.GetName(), t)
	case *authz.ExtAuthz:
		r.hop.authorizer(f.GetName(), r.md, t.GetFilterEnabledMetadata())
		return true
	case *router.Router:
		r.router()
		return false
	}
	r.hop.unknownFilter("HTTP", f.GetName())
	return true
}

// unknownFilter notes a filter of which nothing is known but its name.
func (h *Hop) unknownFilter(of, name string) {
	h.unknown(of + " filter " + name)
	h.Filters = append(h.Filters, Verdict{Filter: name, Allowed: true, Why: "not known here, and taken to let it on"})
}

// authorizer notes that an authorization service is asked, and by which rule,
// if the condition under which it is holds.
func (h *Hop) authorizer(filter string, md metadata, asked *matcher.MetadataMatcher) {
	if asked != nil && matchMetadata(md, asked).why != "" {
		return
	}
	v := Verdict{Filter: filter, Allowed: true, Why: "an authorization service is asked, and taken to allow it"}
	var at any = md[asked.GetFilter()]
	for _, segment := range asked.GetPath() {
		in, _ := at.(map[string]any)
		at = in[segment.GetKey()]
	}
	v.Rule, _ = at.(string)
	v.Source = policySource(v.Rule)
	h.Filters = append(h.Filters, v)
	h.unknown(fmt.Sprintf("filter %s asks an authorization service, which is taken to allow the request", filter))
}

func fraction(p *xdstype.FractionalPercent) float64 {
	n := float64(p.GetNumerator())
	switch p.GetDenominator() {
	case xdstype.FractionalPercent_TEN_THOUSAND:
		n /= 100
	case xdstype.FractionalPercent_MILLION:
		n /= 10_000
	}
	return min(n, 100)
}

// fault delays or aborts a share of the requests; the share of the aborted
// ones that is below all is left to the reader of the answer.
func (r *request) fault(name string, t *fault.HTTPFault) bool {
	if a := r.perRoute(name); a != nil {
		m, err := r.config.unpack(a)
		own, ok := m.(*fault.HTTPFault)
		if err != nil || !ok {
			r.hop.unknown("a route's configuration of filter " + name)
			return true
		}
		t = own
	}
	for _, h := range t.GetHeaders() {
		if matchHeader(r.http, h).why != "" {
			return true
		}
	}
	out := &Fault{}
	if d := t.GetDelay(); d != nil {
		if _, fixed := d.GetFaultDelaySecifier().(*faultcommon.FaultDelay_FixedDelay); !fixed {
			r.hop.unknown("a fault whose delay the request chooses")
		} else if out.DelayPercent = fraction(d.GetPercentage()); out.DelayPercent > 0 {
			out.Delay = d.GetFixedDelay().AsDuration()
		}
	}
	if a := t.GetAbort(); a != nil {
		out.AbortPercent = fraction(a.GetPercentage())
		switch kind := a.GetErrorType().(type) {
		case *fault.FaultAbort_HttpStatus:
			out.Abort = int(kind.HttpStatus)
		case *fault.FaultAbort_GrpcStatus:
			out.Abort, out.AbortGRPC = 200, &kind.GrpcStatus // to all, whether they speak gRPC or not
		default:
			r.hop.unknown("a fault whose abort the request chooses")
		}
	}
	if out.DelayPercent == 0 && out.AbortPercent == 0 {
		return true
	}
	r.hop.Fault = out
	if out.AbortPercent < 100 {
		return true
	}
	r.hop.Reply = &Reply{Status: out.Abort, Reason: "a fault is injected on purpose", Flag: "FI", Source: sourceOf(r.route.GetMetadata())}
	return false
}

// cors answers preflight requests from origins that the policy names.
func (r *request) cors(name string) bool {
	a := r.perRoute(name)
	if a == nil || r.route.GetRoute() == nil {
		return true // routes that answer themselves do so to preflights, too
	}
	m, err := r.config.unpack(a)
	p, ok := m.(*cors.CorsPolicy)
	if err != nil || !ok {
		r.hop.unknown("a route's configuration of filter " + name)
		return true
	}
	origin, has := r.http.get("origin")
	if !has || fraction(p.GetFilterEnabled().GetDefaultValue()) == 0 {
		return true
	}
	allowed := false
	for _, o := range p.GetAllowOriginStringMatch() {
		match, known := matchString(o, origin)
		if exact := o.GetExact(); exact == "*" {
			match = true
		}
		allowed = allowed || match
		if !known {
			r.hop.unknown("a CORS origin")
		}
	}
	_, asks := r.http.get("access-control-request-method")
	if r.http.Method != http.MethodOptions || !asks {
		return true
	}
	forward := p.GetForwardNotMatchingPreflights() == nil || p.GetForwardNotMatchingPreflights().GetValue()
	if !allowed && forward {
		return true
	}
	v := Verdict{Filter: name, Why: "the preflight request from " + strconv.Quote(origin) + " is answered here", Source: sourceOf(r.route.GetMetadata())}
	r.hop.Filters = append(r.hop.Filters, v)
	r.hop.Reply = &Reply{Status: 200, Reason: v.Why, Source: v.Source}
	return false
}
