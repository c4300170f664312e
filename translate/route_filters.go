package translate

import (
	"strconv"
	"strings"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	fault "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	cors "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	httpfault "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	xdstype "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
)

// Names of the HTTP filters that routes configure.
const (
	faultFilter = "envoy.filters.http.fault"
	corsFilter  = "envoy.filters.http.cors"
)

// addFilters configures, for one route, filters that every connection manager
// has.
func addFilters(made *route.Route, rule *httpRule, env *routeEnv) {
	set := func(name string, config *anypb.Any) {
		if made.TypedPerFilterConfig == nil {
			made.TypedPerFilterConfig = map[string]*anypb.Any{}
		}
		made.TypedPerFilterConfig[name] = config
	}
	if f := faultInjection(rule.GetFault()); f != nil {
		set(faultFilter, packed(f))
	}
	if rule.GetCorsPolicy() != nil && !env.grpc { // which would refuse the whole table
		set(corsFilter, packed(corsPolicy(rule.GetCorsPolicy())))
	}
}

// faultInjection delays or fails a share of the requests; nil for neither.
func faultInjection(in *networking.HTTPFaultInjection) *httpfault.HTTPFault {
	out := &httpfault.HTTPFault{}
	if d := in.GetDelay(); d.GetFixedDelay() != nil {
		share := &xdstype.FractionalPercent{Numerator: uint32(max(d.GetPercent(), 0))} //nolint:staticcheck // the old field still counts
		if d.GetPercentage() != nil {
			share = perMillion(d.GetPercentage())
		}
		out.Delay = &fault.FaultDelay{
			Percentage:         share,
			FaultDelaySecifier: &fault.FaultDelay_FixedDelay{FixedDelay: d.GetFixedDelay()},
		}
	}
	out.Abort = faultAbort(in.GetAbort())
	if out.Delay == nil && out.Abort == nil {
		return nil
	}
	return out
}

func faultAbort(in *networking.HTTPFaultInjection_Abort) *httpfault.FaultAbort {
	out := &httpfault.FaultAbort{}
	switch e := in.GetErrorType().(type) {
	case *networking.HTTPFaultInjection_Abort_HttpStatus:
		out.ErrorType = &httpfault.FaultAbort_HttpStatus{HttpStatus: uint32(max(e.HttpStatus, 0))}
	case *networking.HTTPFaultInjection_Abort_GrpcStatus:
		code, ok := grpcStatus[e.GrpcStatus]
		if !ok {
			return nil
		}
		out.ErrorType = &httpfault.FaultAbort_GrpcStatus{GrpcStatus: code}
	default:
		return nil
	}
	if in.GetPercentage() != nil {
		out.Percentage = perMillion(in.GetPercentage())
	}
	return out
}

// grpcStatus are the names of gRPC's status codes.
var grpcStatus = map[string]uint32{
	"OK": 0, "CANCELLED": 1, "UNKNOWN": 2, "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "NOT_FOUND": 5,
	"ALREADY_EXISTS": 6, "PERMISSION_DENIED": 7, "RESOURCE_EXHAUSTED": 8, "FAILED_PRECONDITION": 9,
	"ABORTED": 10, "OUT_OF_RANGE": 11, "UNIMPLEMENTED": 12, "INTERNAL": 13, "UNAVAILABLE": 14,
	"DATA_LOSS": 15, "UNAUTHENTICATED": 16,
}

// corsPolicy answers preflight requests and marks responses for browsers.
func corsPolicy(in *networking.CorsPolicy) *cors.CorsPolicy {
	out := &cors.CorsPolicy{
		FilterEnabled:    wholePercent(100),
		AllowMethods:     strings.Join(in.GetAllowMethods(), ","),
		AllowHeaders:     strings.Join(in.GetAllowHeaders(), ","),
		ExposeHeaders:    strings.Join(in.GetExposeHeaders(), ","),
		AllowCredentials: in.GetAllowCredentials(),
		// A preflight request from elsewhere is the service's to answer,
		// unless the policy says otherwise.
		ForwardNotMatchingPreflights: wrapperspb.Bool(in.GetUnmatchedPreflights() != networking.CorsPolicy_IGNORE),
	}
	for _, o := range in.GetAllowOrigins() {
		out.AllowOriginStringMatch = append(out.AllowOriginStringMatch, stringMatcher(o))
	}
	if len(in.GetAllowOrigins()) == 0 {
		for _, o := range in.GetAllowOrigin() { //nolint:staticcheck // the old field still counts
			out.AllowOriginStringMatch = append(out.AllowOriginStringMatch,
				&matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Exact{Exact: o}})
		}
	}
	if in.GetMaxAge() != nil {
		out.MaxAge = strconv.FormatInt(in.GetMaxAge().GetSeconds(), 10)
	}
	return out
}
