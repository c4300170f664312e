package translate

import (
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	networking "istio.io/api/networking/v1alpha3"
)

func checkWeight(r *Report, v protoreflect.Value) {
	if n := v.Int(); n < 0 {
		r.Errorf("WeightInvalid", "is %d; want 0 or more", n)
	}
}

func checkFraction(r *Report, v protoreflect.Value) {
	const least = 0.0001 // one in a million, the finest that Envoy knows
	switch p := v.Float(); {
	case math.IsNaN(p) || p < 0 || p > 100:
		r.Errorf("OutOfRange", "is %v; want a percentage from 0 to 100", p)
	case p > 0 && p < least:
		r.Errorf("OutOfRange", "is %v; want 0 or at least %v", p, least)
	}
}

func checkMirrorPercent(r *Report, v protoreflect.Value) {
	value := v.Message().Get(v.Message().Descriptor().Fields().ByName("value")).Uint()
	if value > 100 {
		r.Errorf("OutOfRange", "is %d; want a percentage from 0 to 100", value)
	}
	r.Warnf("Deprecated", "is the old field; write mirrorPercentage: {value: %d}", value)
}

func checkMirror(r *Report, m proto.Message) {
	if m.(*networking.HTTPMirrorPolicy).GetDestination() == nil {
		r.ErrorAt("destination", "Required", "is missing: name a host")
	}
}

// refuse reports any value of a field.
func refuse(why string) func(*Report, protoreflect.Value) {
	return func(r *Report, _ protoreflect.Value) { r.Errorf("NotPossible", "%s", why) }
}

func checkRedirect(r *Report, m proto.Message) {
	in := m.(*networking.HTTPRedirect)
	if in.GetUri() != "" && in.GetPrefixRewrite() != "" {
		r.ErrorAt("prefixRewrite", "Conflict", "is set, and so is uri; leave only one")
	}
	if in.GetUri() == "" && in.GetPrefixRewrite() == "" && in.GetAuthority() == "" && in.GetRedirectPort() == nil && in.GetScheme() == "" {
		r.Errorf("Required", "says nowhere to go: want at least one of uri, prefixRewrite, authority, port, derivePort and scheme")
	}
	for _, f := range []struct{ field, value string }{{"uri", in.GetUri()}, {"prefixRewrite", in.GetPrefixRewrite()}} {
		if strings.ContainsAny(f.value, "\x00\r\n") {
			r.ErrorAt(f.field, "ValueInvalid", "is %s; a header cannot carry line breaks", shown(f.value))
		}
	}
}

func checkScheme(r *Report, v protoreflect.Value) {
	if s := v.String(); s != "http" && s != "https" {
		r.Errorf("ValueInvalid", "is %s; want http or https", shown(s))
	}
}

func checkRedirectCode(r *Report, v protoreflect.Value) {
	if _, ok := redirectCodes[uint32(v.Uint())]; !ok {
		r.Errorf("OutOfRange", "is %d; want 301, 302, 303, 307 or 308", v.Uint())
	}
}

func checkDirectResponse(r *Report, m proto.Message) {
	if s := m.(*networking.HTTPDirectResponse).GetStatus(); s < 200 || s > 599 {
		r.ErrorAt("status", "OutOfRange", "is %d; want an HTTP status from 200 to 599", s)
	}
}

func checkBody(r *Report, m proto.Message) {
	const large = 100 << 10
	body := m.(*networking.HTTPBody)
	switch n := max(len(body.GetString_()), len(body.GetBytes())); {
	case n > maxDirectBody:
		r.Errorf("TooLarge", "has %d bytes; want at most %d, or a service that serves it", n, maxDirectBody)
	case n > large:
		r.Warnf("TooLarge", "has %d bytes, which every proxy must hold; let a service serve it", n)
	}
}

func checkRewrite(r *Report, m proto.Message) {
	in := m.(*networking.HTTPRewrite)
	if in.GetUri() != "" && in.GetUriRegexRewrite() != nil {
		r.ErrorAt("uriRegexRewrite", "Conflict", "is set, and so is uri; leave only one")
	}
	if in.GetUri() == "" && in.GetUriRegexRewrite() == nil && in.GetAuthority() == "" {
		r.Errorf("Required", "says nothing to rewrite: want at least one of uri, uriRegexRewrite and authority")
	}
}

func checkRegexRewrite(r *Report, m proto.Message) {
	in := m.(*networking.RegexRewrite)
	if in.GetRewrite() == "" {
		r.ErrorAt("rewrite", "Required", "is missing: say what to put in the match's place")
	}
	if fault := regexFault(in.GetMatch()); fault != "" {
		r.ErrorAt("match", "RegexInvalid", "%s", fault)
		return
	}
	if fault := substitutionFault(in.GetMatch(), in.GetRewrite()); fault != "" {
		r.ErrorAt("rewrite", "ValueInvalid", "%s", fault)
	}
}

func checkFault(r *Report, m proto.Message) {
	if f := m.(*networking.HTTPFaultInjection); f.GetDelay() == nil && f.GetAbort() == nil {
		r.Errorf("Required", "injects nothing: want delay, abort or both")
	}
}

func checkDelay(r *Report, m proto.Message) {
	d := m.(*networking.HTTPFaultInjection_Delay)
	switch {
	case d.GetHttpDelayType() == nil:
		r.Errorf("Required", "does not say how long: want fixedDelay")
	case d.GetPercentage() == nil && d.GetPercent() == 0: //nolint:staticcheck // the old field still counts
		r.WarnAt("percentage", "NoEffect", "is missing, so no request is delayed; for all of them write percentage: {value: 100}")
	case d.GetPercentage() == nil:
		r.WarnAt("percent", "Deprecated", "is the old field; write percentage: {value: %d}", d.GetPercent()) //nolint:staticcheck // the old field still counts
	}
}

func checkAbort(r *Report, m proto.Message) {
	a := m.(*networking.HTTPFaultInjection_Abort)
	switch {
	case a.GetErrorType() == nil:
		r.Errorf("Required", "does not say how to fail: want httpStatus or grpcStatus")
	case a.GetPercentage() == nil:
		r.WarnAt("percentage", "NoEffect", "is missing, so no request is aborted; for all of them write percentage: {value: 100}")
	}
}

func checkHTTPStatus(r *Report, v protoreflect.Value) {
	if n := v.Int(); n < 200 || n > 599 {
		r.Errorf("OutOfRange", "is %d; want an HTTP status from 200 to 599", n)
	}
}

func checkGRPCStatus(r *Report, v protoreflect.Value) {
	if _, ok := grpcStatus[v.String()]; !ok {
		r.Errorf("ValueUnknown", "is %s; want a gRPC status by name, such as %s", shown(v.String()), nearest(v.String(), sortedKeys(grpcStatus), "UNAVAILABLE"))
	}
}

// retryConditionNames are those of Envoy's x-envoy-retry-on and
// x-envoy-retry-grpc-on.
var retryConditionNames = []string{
	"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx", "refused-stream",
	"retriable-status-codes", "retriable-headers", "envoy-ratelimited", "http3-post-connect-failure",
	"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
}

func checkRetry(r *Report, m proto.Message) {
	in := m.(*networking.HTTPRetry)
	switch {
	case in.GetAttempts() < 0:
		r.ErrorAt("attempts", "OutOfRange", "is %d; want 0, which switches retries off, or more", in.GetAttempts())
	case in.GetAttempts() == 0 && (in.GetPerTryTimeout() != nil || in.GetRetryOn() != "" || in.GetRetryRemoteLocalities() != nil):
		r.ErrorAt("attempts", "Conflict", "is 0, which switches retries off, but other fields say how to retry; set attempts")
	}
}

func checkRetryOn(r *Report, v protoreflect.Value) {
	for _, c := range strings.Split(v.String(), ",") {
		c = strings.TrimSpace(c)
		if _, code := statusCode(c); code || c == "" || slices.Contains(retryConditionNames, c) {
			continue
		}
		r.Errorf("ValueUnknown", "has %s, which is no status code and no condition of Envoy's; did you mean %s?", shown(c), nearest(c, retryConditionNames, "5xx"))
	}
}

func checkCORS(r *Report, m proto.Message) {
	in := m.(*networking.CorsPolicy)
	for i, o := range in.GetAllowOrigins() {
		if o.GetExact()+o.GetPrefix()+o.GetRegex() == "" {
			r.ErrorAt("allowOrigins["+itoa(i)+"]", "Required", "is empty; want exact, prefix or regex")
		} else if o.GetRegex() == "*" {
			r.ErrorAt("allowOrigins["+itoa(i)+"].regex", "RegexInvalid", `is "*", which is no regex; any origin is ".*"`)
		}
	}
	if len(in.GetAllowOrigin()) > 0 { //nolint:staticcheck // the old field still counts
		r.WarnAt("allowOrigin", "Deprecated", "is the old field; write allowOrigins: [{exact: …}]")
	}
}

func checkMethod(r *Report, v protoreflect.Value) {
	methods := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"}
	if !slices.Contains(methods, v.String()) {
		r.Errorf("ValueUnknown", "is %s; want a method in upper case, such as GET, or *", shown(v.String()))
	}
}

func checkCORSHeader(r *Report, v protoreflect.Value) {
	if !headerName.MatchString(v.String()) { // "*" is a name, too
		r.Errorf("NameInvalid", "is %s; want a header's name or *", shown(v.String()))
	}
}

func checkMaxAge(r *Report, v protoreflect.Value) {
	if d := durationOf(v); d < 0 || d%time.Second != 0 {
		r.Errorf("DurationInvalid", "is %s; want whole seconds", d)
	}
}
