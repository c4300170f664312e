package translate

const extensionProvider = "istio.mesh.v1alpha1.MeshConfig.ExtensionProvider"

func providerTables() []Table {
	const of = extensionProvider
	return []Table{
		{Message: "istio.mesh.v1alpha1.MeshConfig.DefaultProviders", Fields: []Field{
			{Name: "access_logging", Feature: "access logs by provider", Case: "meshconfig/extension_providers"},
			{Name: "tracing", Feature: "traces by provider", Case: "telemetry/tracing_default"},
			{Name: "metrics", Feature: "metrics by provider", Case: "telemetry/metrics_default"},
		}},
		{Message: of, Fields: []Field{
			{Name: "name", Feature: "name in defaultProviders", Case: "meshconfig/extension_providers"},
			{Name: "envoy_file_access_log", Feature: "access logs in a file", Case: "meshconfig/extension_providers"},
			{Name: "envoy_http_als", Feature: "access logs of requests by gRPC", Case: "meshconfig/provider_http_als", Check: checkTarget},
			{Name: "envoy_tcp_als", Feature: "access logs of connections by gRPC", Case: "meshconfig/provider_tcp_als", Check: checkTarget},
			{Name: "envoy_otel_als", Feature: "access logs in OpenTelemetry's protocol", Case: "meshconfig/provider_otel_als", Check: checkTarget},
			{Name: "prometheus", Feature: "standard metrics", Case: "telemetry/metrics_providers"},
			{Name: "stackdriver", Unsupported: noStackdriver},
			{Name: "zipkin", Feature: "traces to Zipkin", Case: "meshconfig/provider_zipkin", Check: checkTarget},
			{Name: "lightstep", Feature: "traces to Lightstep, in OpenTelemetry's protocol", Case: "meshconfig/provider_lightstep", Check: checkTarget},
			{Name: "datadog", Feature: "traces to Datadog", Case: "meshconfig/provider_datadog", Check: checkTarget},
			{Name: "opencensus", Unsupported: noOpenCensus},
			{Name: "skywalking", Feature: "traces to SkyWalking", Case: "meshconfig/provider_skywalking", Check: checkTarget},
			{Name: "opentelemetry", Feature: "traces in OpenTelemetry's protocol", Case: "meshconfig/provider_opentelemetry", Check: checkOpenTelemetry},
			{Name: "envoy_ext_authz_http", Feature: "whom CUSTOM policies ask, by HTTP", Case: "authorizationpolicy/custom", Check: checkAuthorizer},
			{Name: "envoy_ext_authz_grpc", Feature: "whom CUSTOM policies ask, by gRPC", Case: "authorizationpolicy/custom_grpc", Check: checkAuthorizer},
			{Name: "sds", Unsupported: comesWithAuthority},
		}},
		{Message: of + ".EnvoyFileAccessLogProvider", Fields: []Field{
			{Name: "path", Feature: "file of access logs", Case: "meshconfig/extension_providers"},
			{Name: "log_format", Feature: "format of access logs", Case: "meshconfig/extension_provider_labels"},
			{Name: "omit_empty_values", Feature: "empty values in access logs", Case: "meshconfig/extension_provider_labels"},
		}},
		{Message: of + ".EnvoyFileAccessLogProvider.LogFormat", Fields: []Field{
			{Name: "text", Feature: "text format", Case: "meshconfig/extension_providers"},
			{Name: "labels", Feature: "JSON format", Case: "meshconfig/extension_provider_labels"},
		}},
		later(of+".SDSProvider", comesWithAuthority, "name", "service", "port"),
	}
}

// authorizerTables are those of whom CUSTOM AuthorizationPolicies ask.
func authorizerTables() []Table {
	const of, http, grpc = extensionProvider, "authorizationpolicy/custom", "authorizationpolicy/custom_grpc"
	return []Table{
		{Message: of + ".EnvoyExternalAuthorizationHttpProvider", Fields: []Field{
			{Name: "service", Feature: "host, or namespace/host", Case: http},
			{Name: "port", Feature: "port", Case: http},
			{Name: "timeout", Feature: "time to answer", Case: http, Check: checkDuration},
			{Name: "path_prefix", Feature: "before the request's path", Case: http},
			{Name: "fail_open", Feature: "what happens without an answer", Case: http},
			{Name: "clear_route_cache", Feature: "routes chosen anew after the answer", Case: http},
			{Name: "status_on_error", Feature: "status without an answer", Case: http},
			{Name: "include_headers_in_check", Feature: "headers that it sees, where includeRequestHeadersInCheck has none", Case: "authorizationpolicy/custom_headers"},
			{Name: "include_request_headers_in_check", Feature: "headers that it sees", Case: http},
			{Name: "include_additional_headers_in_check", Feature: "headers that are added for it", Case: http},
			{Name: "include_request_body_in_check", Feature: "the body that it sees", Case: http},
			{Name: "headers_to_upstream_on_allow", Feature: "headers of its answer to the application", Case: http},
			{Name: "headers_to_downstream_on_deny", Feature: "headers of its refusal to the client", Case: http},
			{Name: "headers_to_downstream_on_allow", Feature: "headers of its answer to the client", Case: http},
		}},
		{Message: of + ".EnvoyExternalAuthorizationGrpcProvider", Fields: []Field{
			{Name: "service", Feature: "host, or namespace/host", Case: grpc},
			{Name: "port", Feature: "port", Case: grpc},
			{Name: "timeout", Feature: "time to answer", Case: grpc, Check: checkDuration},
			{Name: "fail_open", Feature: "what happens without an answer", Case: grpc},
			{Name: "clear_route_cache", Feature: "routes chosen anew after the answer", Case: grpc},
			{Name: "status_on_error", Feature: "status without an answer", Case: grpc},
			{Name: "include_request_body_in_check", Feature: "the body that it sees", Case: grpc},
		}},
		{Message: of + ".EnvoyExternalAuthorizationRequestBody", Fields: []Field{
			{Name: "max_request_bytes", Feature: "how much of it", Case: http},
			{Name: "allow_partial_message", Feature: "less than all of a longer one", Case: http},
			{Name: "pack_as_bytes", Feature: "bytes rather than text", Case: grpc},
		}},
	}
}
