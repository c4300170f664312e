package translate

// Cases live in testdata/virtualservice (what is gathered and checked) and in
// testdata/route (what becomes of it).

func virtualServiceTables() []Table {
	return append(append(virtualServiceRuleTables(), virtualServiceMatchTables()...), virtualServiceActionTables()...)
}

func virtualServiceRuleTables() []Table {
	return []Table{
		{Message: "istio.networking.v1alpha3.VirtualService", Check: checkVirtualService, Fields: []Field{
			{Name: "hosts", Feature: "virtual hosts", Case: "virtualservice/hosts"},
			{Name: "gateways", Feature: "which proxies a VirtualService is for", Case: "virtualservice/gateways", Check: checkGatewayName},
			{Name: "http", Feature: "HTTP routes", Case: "virtualservice/http"},
			{Name: "tls", Feature: "routes by SNI", Case: "virtualservice/tls"},
			{Name: "tcp", Feature: "routes of connections", Case: "virtualservice/tcp"},
			{Name: "export_to", Feature: "visibility", Case: "virtualservice/exportTo"},
		}},
		{Message: "istio.networking.v1alpha3.HTTPRoute", Check: checkHTTPRoute, Fields: []Field{
			{Name: "name", Feature: "route names", Case: "route/name"},
			{Name: "match", Feature: "route matches", Case: "route/match"},
			{Name: "route", Feature: "weighted destinations", Case: "route/weight"},
			{Name: "redirect", Feature: "redirects", Case: "route/redirect"},
			{Name: "direct_response", Feature: "direct responses", Case: "route/directResponse"},
			{Name: "delegate", Feature: "delegates", Case: "virtualservice/delegate"},
			{Name: "rewrite", Feature: "rewrites", Case: "route/rewrite"},
			{Name: "timeout", Feature: "timeouts", Case: "route/timeout", Check: checkDurationOrZero},
			{Name: "retries", Feature: "retries", Case: "route/retries"},
			{Name: "fault", Feature: "fault injection", Case: "route/fault"},
			{Name: "mirror", Feature: "mirroring", Case: "route/mirror"},
			{Name: "mirrors", Feature: "mirroring", Case: "route/mirrors"},
			{Name: "mirror_percent", Feature: "mirroring", Case: "route/mirrorPercent", Check: checkMirrorPercent},
			{Name: "mirror_percentage", Feature: "mirroring", Case: "route/mirrorPercentage"},
			{Name: "cors_policy", Feature: "CORS", Case: "route/corsPolicy"},
			{Name: "headers", Feature: "header changes", Case: "route/headers"},
		}},
		{Message: "istio.networking.v1alpha3.Delegate", Fields: []Field{
			{Name: "name", Feature: "delegates", Case: "virtualservice/delegate", Check: checkObjectName},
			{Name: "namespace", Feature: "delegates", Case: "virtualservice/delegateNamespace", Check: checkNamespace},
		}},
		{Message: "istio.networking.v1alpha3.TLSRoute", Check: checkTLSRoute, Fields: []Field{
			{Name: "match", Feature: "routes by SNI", Case: "virtualservice/tls"},
			{Name: "route", Feature: "routes by SNI", Case: "virtualservice/tls"},
		}},
		{Message: "istio.networking.v1alpha3.TCPRoute", Check: checkTCPRoute, Fields: []Field{
			{Name: "match", Feature: "routes of connections", Case: "virtualservice/tcp"},
			{Name: "route", Feature: "routes of connections", Case: "virtualservice/tcp"},
		}},
		{Message: "istio.networking.v1alpha3.RouteDestination", Check: checkRouteDestination, Fields: []Field{
			{Name: "destination", Feature: "destinations", Case: "virtualservice/tcp"},
			{Name: "weight", Feature: "weighted destinations", Case: "virtualservice/tcpWeight", Check: checkWeight},
		}},
	}
}

func virtualServiceMatchTables() []Table {
	return []Table{
		{Message: "istio.networking.v1alpha3.HTTPMatchRequest", Check: checkHTTPMatch, Fields: []Field{
			{Name: "name", Feature: "route names", Case: "route/name"},
			{Name: "uri", Feature: "route matches", Case: "route/matchUri"},
			{Name: "scheme", Feature: "route matches", Case: "route/matchScheme"},
			{Name: "method", Feature: "route matches", Case: "route/matchMethod"},
			{Name: "authority", Feature: "route matches", Case: "route/matchAuthority"},
			{Name: "headers", Feature: "route matches", Case: "route/matchHeaders"},
			{Name: "without_headers", Feature: "route matches", Case: "route/matchWithoutHeaders"},
			{Name: "query_params", Feature: "route matches", Case: "route/matchQueryParams"},
			{Name: "ignore_uri_case", Feature: "route matches", Case: "route/matchIgnoreUriCase"},
			{Name: "port", Feature: "which clients a route is for", Case: "route/matchPort", Check: checkPort},
			{Name: "source_labels", Feature: "which clients a route is for", Case: "route/matchSourceLabels", Check: checkLabelValue},
			{Name: "source_namespace", Feature: "which clients a route is for", Case: "route/matchSourceNamespace", Check: checkNamespace},
			{Name: "gateways", Feature: "which clients a route is for", Case: "route/matchGateways", Check: checkGatewayName},
			{Name: "stat_prefix", Feature: "statistics by route", Case: "route/matchStatPrefix"},
		}},
		{Message: "istio.networking.v1alpha3.StringMatch", Fields: []Field{
			{Name: "exact", Feature: "route matches", Case: "route/matchHeaders"},
			{Name: "prefix", Feature: "route matches", Case: "route/matchHeaders"},
			{Name: "regex", Feature: "route matches", Case: "virtualservice/regex", Check: checkMatchRegex},
		}},
		{Message: "istio.networking.v1alpha3.TLSMatchAttributes", Check: checkTLSMatch, Fields: []Field{
			{Name: "sni_hosts", Feature: "routes by SNI", Case: "virtualservice/tls"},
			{Name: "destination_subnets", Feature: "routes by address", Case: "virtualservice/tls", Check: checkSubnet},
			{Name: "port", Feature: "which clients a route is for", Case: "virtualservice/tls", Check: checkPort},
			{Name: "source_labels", Feature: "which clients a route is for", Case: "virtualservice/tls", Check: checkLabelValue},
			{Name: "source_namespace", Feature: "which clients a route is for", Case: "virtualservice/tls", Check: checkNamespace},
			{Name: "gateways", Feature: "which clients a route is for", Case: "virtualservice/tls", Check: checkGatewayName},
		}},
		{Message: "istio.networking.v1alpha3.L4MatchAttributes", Check: checkL4Match, Fields: []Field{
			{Name: "destination_subnets", Feature: "routes by address", Case: "virtualservice/tcp", Check: checkSubnet},
			{Name: "port", Feature: "which clients a route is for", Case: "virtualservice/tcp", Check: checkPort},
			{Name: "source_subnet", Unsupported: "Istio ignores it too; use sourceLabels or sourceNamespace"},
			{Name: "source_labels", Feature: "which clients a route is for", Case: "virtualservice/tcp", Check: checkLabelValue},
			{Name: "source_namespace", Feature: "which clients a route is for", Case: "virtualservice/tcp", Check: checkNamespace},
			{Name: "gateways", Feature: "which clients a route is for", Case: "virtualservice/tcp", Check: checkGatewayName},
		}},
	}
}

func virtualServiceActionTables() []Table {
	return append(forwardingTables(), []Table{
		{Message: "istio.networking.v1alpha3.HTTPRedirect", Check: checkRedirect, Fields: []Field{
			{Name: "uri", Feature: "redirects", Case: "route/redirect"},
			{Name: "authority", Feature: "redirects", Case: "route/redirect", Check: checkHeaderText},
			{Name: "port", Feature: "redirects", Case: "route/redirectPort", Check: checkPort},
			{Name: "derive_port", Feature: "redirects", Case: "route/redirectDerivePort"},
			{Name: "scheme", Feature: "redirects", Case: "route/redirectScheme", Check: checkScheme},
			{Name: "redirect_code", Feature: "redirects", Case: "route/redirectCode", Check: checkRedirectCode},
			{Name: "prefix_rewrite", Feature: "redirects", Case: "route/redirectPrefix"},
		}},
		{Message: "istio.networking.v1alpha3.HTTPDirectResponse", Check: checkDirectResponse, Fields: []Field{
			{Name: "status", Feature: "direct responses", Case: "route/directResponse"},
			{Name: "body", Feature: "direct responses", Case: "route/directResponse"},
		}},
		{Message: "istio.networking.v1alpha3.HTTPBody", Check: checkBody, Fields: []Field{
			{Name: "string", Feature: "direct responses", Case: "route/directResponse"},
			{Name: "bytes", Feature: "direct responses", Case: "route/directResponse"},
		}},
		{Message: "istio.networking.v1alpha3.HTTPFaultInjection", Check: checkFault, Fields: []Field{
			{Name: "delay", Feature: "fault injection", Case: "route/faultDelay"},
			{Name: "abort", Feature: "fault injection", Case: "route/faultAbort"},
		}},
		{Message: "istio.networking.v1alpha3.HTTPFaultInjection.Delay", Check: checkDelay, Fields: []Field{
			{Name: "percent", Feature: "fault injection", Case: "route/faultDelayPercent", Check: checkPercent},
			{Name: "percentage", Feature: "fault injection", Case: "route/faultDelay"},
			{Name: "fixed_delay", Feature: "fault injection", Case: "route/faultDelay", Check: checkDuration},
			{Name: "exponential_delay", Feature: "refused, as by Istio", Case: "virtualservice/fault", Check: refuse("Envoy cannot draw delays from a distribution; write fixedDelay")},
		}},
		{Message: "istio.networking.v1alpha3.HTTPFaultInjection.Abort", Check: checkAbort, Fields: []Field{
			{Name: "http_status", Feature: "fault injection", Case: "route/faultAbort", Check: checkHTTPStatus},
			{Name: "grpc_status", Feature: "fault injection", Case: "route/faultAbortGrpc", Check: checkGRPCStatus},
			{Name: "http2_error", Feature: "refused, as by Istio", Case: "virtualservice/fault", Check: refuse("Envoy cannot send it; write httpStatus or grpcStatus")},
			{Name: "percentage", Feature: "fault injection", Case: "route/faultAbort"},
		}},
		{Message: "istio.networking.v1alpha3.CorsPolicy", Check: checkCORS, Fields: []Field{
			{Name: "allow_origin", Feature: "CORS", Case: "route/corsAllowOrigin"},
			{Name: "allow_origins", Feature: "CORS", Case: "route/corsPolicy"},
			{Name: "allow_methods", Feature: "CORS", Case: "route/corsPolicy", Check: checkMethod},
			{Name: "allow_headers", Feature: "CORS", Case: "route/corsPolicy", Check: checkCORSHeader},
			{Name: "expose_headers", Feature: "CORS", Case: "route/corsPolicy", Check: checkCORSHeader},
			{Name: "max_age", Feature: "CORS", Case: "route/corsPolicy", Check: checkMaxAge},
			{Name: "allow_credentials", Feature: "CORS", Case: "route/corsPolicy"},
			{Name: "unmatched_preflights", Feature: "CORS", Case: "route/corsUnmatchedPreflights"},
		}},
	}...)
}

func forwardingTables() []Table {
	return []Table{
		{Message: "istio.networking.v1alpha3.HTTPRouteDestination", Check: checkHTTPDestination, Fields: []Field{
			{Name: "destination", Feature: "destinations", Case: "route/weight"},
			{Name: "weight", Feature: "weighted destinations", Case: "route/weight", Check: checkWeight},
			{Name: "headers", Feature: "header changes", Case: "route/destinationHeaders"},
		}},
		{Message: "istio.networking.v1alpha3.Destination", Check: checkDestination, Fields: []Field{
			{Name: "host", Feature: "destinations", Case: "route/destinationHost"},
			{Name: "subset", Feature: "destinations", Case: "route/weight", Check: checkSubsetName},
			{Name: "port", Feature: "destinations", Case: "route/destinationPort"},
		}},
		{Message: "istio.networking.v1alpha3.PortSelector", Fields: []Field{
			{Name: "number", Feature: "destinations", Case: "route/destinationPort", Check: checkPort},
		}},
		{Message: "istio.networking.v1alpha3.HTTPMirrorPolicy", Check: checkMirror, Fields: []Field{
			{Name: "destination", Feature: "mirroring", Case: "route/mirrors"},
			{Name: "percentage", Feature: "mirroring", Case: "route/mirrors"},
		}},
		{Message: "istio.networking.v1alpha3.Percent", Fields: []Field{
			{Name: "value", Feature: "percentages", Case: "route/mirrorPercentage", Check: checkFraction},
		}},
		{Message: "istio.networking.v1alpha3.HTTPRewrite", Check: checkRewrite, Fields: []Field{
			{Name: "uri", Feature: "rewrites", Case: "route/rewrite", Check: checkHeaderText},
			{Name: "authority", Feature: "rewrites", Case: "route/rewriteAuthority", Check: checkHeaderText},
			{Name: "uri_regex_rewrite", Feature: "rewrites", Case: "route/rewriteRegex"},
		}},
		{Message: "istio.networking.v1alpha3.RegexRewrite", Check: checkRegexRewrite, Fields: []Field{
			{Name: "match", Feature: "rewrites", Case: "route/rewriteRegex"},
			{Name: "rewrite", Feature: "rewrites", Case: "route/rewriteRegex", Check: checkHeaderText},
		}},
		{Message: "istio.networking.v1alpha3.HTTPRetry", Check: checkRetry, Fields: []Field{
			{Name: "attempts", Feature: "retries", Case: "route/retries"},
			{Name: "per_try_timeout", Feature: "retries", Case: "route/retries", Check: checkDuration},
			{Name: "retry_on", Feature: "retries", Case: "route/retryOn", Check: checkRetryOn},
			{Name: "retry_remote_localities", Feature: "retries", Case: "route/retryRemoteLocalities"},
			{Name: "retry_ignore_previous_hosts", Feature: "retries", Case: "route/retryIgnorePreviousHosts"},
			{Name: "backoff", Feature: "retries", Case: "route/retryBackoff", Check: checkDuration},
		}},
		{Message: "istio.networking.v1alpha3.Headers", Check: checkHeaders, Fields: []Field{
			{Name: "request", Feature: "header changes", Case: "route/headers"},
			{Name: "response", Feature: "header changes", Case: "route/headers"},
		}},
		{Message: "istio.networking.v1alpha3.Headers.HeaderOperations", Fields: []Field{
			{Name: "set", Feature: "header changes", Case: "route/headers", Check: checkHeaderValue},
			{Name: "add", Feature: "header changes", Case: "route/headers", Check: checkHeaderValue},
			{Name: "remove", Feature: "header changes", Case: "route/headers"},
		}},
	}
}
