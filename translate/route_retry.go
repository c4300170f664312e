package translate

import (
	"strconv"
	"strings"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushosts "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	previouspriorities "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
)

// Defaults of retry policies that leave these open.
const (
	defaultRetryOn       = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
	defaultRetryAttempts = 2
	hostReselections     = 5
	prioritiesUpdate     = 2
)

// retryPolicy is when and where a request is tried again; nil for no
// attempts. Requests that stick to an endpoint may go to it again.
func retryPolicy(in *networking.HTTPRetry, sticky bool) *route.RetryPolicy {
	if in != nil && in.GetAttempts() <= 0 {
		return nil
	}
	out := &route.RetryPolicy{
		NumRetries: wrapperspb.UInt32(defaultRetryAttempts), RetryOn: defaultRetryOn,
		HostSelectionRetryMaxAttempts: hostReselections,
	}
	if in != nil {
		out.NumRetries = wrapperspb.UInt32(uint32(in.GetAttempts()))
		out.PerTryTimeout = in.GetPerTryTimeout()
	}
	if in.GetRetryOn() != "" {
		out.RetryOn, out.RetriableStatusCodes = retryConditions(in.GetRetryOn())
	}
	elsewhere := !sticky
	if in.GetRetryIgnorePreviousHosts() != nil {
		elsewhere = in.GetRetryIgnorePreviousHosts().GetValue()
	}
	if elsewhere {
		out.RetryHostPredicate = []*route.RetryPolicy_RetryHostPredicate{{
			Name: "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &route.RetryPolicy_RetryHostPredicate_TypedConfig{
				TypedConfig: packed(&previoushosts.PreviousHostsPredicate{}),
			},
		}}
	}
	if in.GetRetryRemoteLocalities().GetValue() {
		out.RetryPriority = &route.RetryPolicy_RetryPriority{
			Name: "envoy.retry_priorities.previous_priorities",
			ConfigType: &route.RetryPolicy_RetryPriority_TypedConfig{
				TypedConfig: packed(&previouspriorities.PreviousPrioritiesConfig{UpdateFrequency: prioritiesUpdate}),
			},
		}
	}
	if in.GetBackoff() != nil {
		out.RetryBackOff = &route.RetryPolicy_RetryBackOff{BaseInterval: in.GetBackoff()}
	}
	return out
}

// retryConditions splits a list such as "5xx,connect-failure,503" into
// Envoy's conditions and status codes.
func retryConditions(list string) (on string, codes []uint32) {
	var conditions []string
	for _, c := range strings.Split(list, ",") {
		c = strings.TrimSpace(c)
		if c == "" {
			continue
		}
		if code, ok := statusCode(c); ok {
			codes = append(codes, code)
		} else {
			conditions = append(conditions, c)
		}
	}
	on = strings.Join(conditions, ",")
	const byCode = "retriable-status-codes"
	if len(codes) > 0 && !strings.Contains(on, byCode) {
		if on != "" {
			on += ","
		}
		on += byCode
	}
	return on, codes
}

// statusCode reads an HTTP status code.
func statusCode(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint32(n), err == nil && n >= 100 && n < 600
}
