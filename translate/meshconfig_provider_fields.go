package translate

const extensionProvider = "istio.mesh.v1alpha1.MeshConfig.ExtensionProvider"

func providerTables() []Table {
	const of = extensionProvider
	return []Table{
		{Message: "istio.mesh.v1alpha1.MeshConfig.DefaultProviders", Fields: []Field{
			{Name: "access_logging", Feature: "access logs by provider", Case: "meshconfig/extension_providers"},
			{Name: "tracing", Unsupported: comesWithTelemetry},
			{Name: "metrics", Unsupported: comesWithTelemetry},
		}},
		{Message: of, Fields: []Field{
			{Name: "name", Feature: "name in defaultProviders", Case: "meshconfig/extension_providers"},
			{Name: "envoy_file_access_log", Feature: "access logs in a file", Case: "meshconfig/extension_providers"},
			{Name: "envoy_http_als", Unsupported: comesWithTelemetry},
			{Name: "envoy_tcp_als", Unsupported: comesWithTelemetry},
			{Name: "envoy_otel_als", Unsupported: comesWithTelemetry},
			{Name: "prometheus", Unsupported: comesWithTelemetry},
			{Name: "stackdriver", Unsupported: comesWithTelemetry},
			{Name: "zipkin", Unsupported: comesWithTelemetry},
			{Name: "lightstep", Unsupported: comesWithTelemetry},
			{Name: "datadog", Unsupported: comesWithTelemetry},
			{Name: "opencensus", Unsupported: comesWithTelemetry},
			{Name: "skywalking", Unsupported: comesWithTelemetry},
			{Name: "opentelemetry", Unsupported: comesWithTelemetry},
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
		later(of+".EnvoyHttpGrpcV3LogProvider", comesWithTelemetry, "service", "port", "log_name", "filter_state_objects_to_log",
			"additional_request_headers_to_log", "additional_response_headers_to_log", "additional_response_trailers_to_log"),
		later(of+".EnvoyTcpGrpcV3LogProvider", comesWithTelemetry, "service", "port", "log_name", "filter_state_objects_to_log"),
		later(of+".EnvoyOpenTelemetryLogProvider", comesWithTelemetry, "service", "port", "log_name", "log_format"),
		later(of+".EnvoyOpenTelemetryLogProvider.LogFormat", comesWithTelemetry, "text", "labels"),
		later(of+".PrometheusMetricsProvider", comesWithTelemetry),
		later(of+".StackdriverProvider", comesWithTelemetry, "debug", "max_number_of_attributes", "max_number_of_annotations",
			"max_number_of_message_events", "max_tag_length", "logging"),
		later(of+".StackdriverProvider.Logging", comesWithTelemetry, "labels"),
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

func tracingTables() []Table {
	const of, tracing = extensionProvider, "istio.mesh.v1alpha1.Tracing"
	return []Table{
		later(of+".ZipkinTracingProvider", comesWithTelemetry, "service", "port", "max_tag_length", "enable_64bit_trace_id",
			"path", "trace_context_option", "timeout", "headers"),
		later(of+".LightstepTracingProvider", comesWithTelemetry, "service", "port", "access_token", "max_tag_length"),
		later(of+".DatadogTracingProvider", comesWithTelemetry, "service", "port", "max_tag_length"),
		later(of+".OpenCensusAgentTracingProvider", comesWithTelemetry, "service", "port", "context", "max_tag_length"),
		later(of+".SkyWalkingTracingProvider", comesWithTelemetry, "service", "port", "access_token"),
		later(of+".OpenTelemetryTracingProvider", comesWithTelemetry, "service", "port", "max_tag_length", "http", "grpc",
			"resource_detectors", "service_attribute_enrichment", "dynatrace_sampler"),
		later(of+".OpenTelemetryTracingProvider.DynatraceSampler", comesWithTelemetry, "tenant", "cluster_id", "root_spans_per_minute", "http_service"),
		later(of+".OpenTelemetryTracingProvider.DynatraceSampler.DynatraceApi", comesWithTelemetry, "service", "port", "http"),
		later(of+".HttpService", comesWithTelemetry, "path", "timeout", "headers"),
		later(of+".GrpcService", comesWithTelemetry, "timeout", "initial_metadata"),
		later(of+".HttpHeader", comesWithTelemetry, "name", "value", "env_name"),
		later(of+".ResourceDetectors", comesWithTelemetry, "environment", "dynatrace"),
		later(of+".ResourceDetectors.EnvironmentResourceDetector", comesWithTelemetry),
		later(of+".ResourceDetectors.DynatraceResourceDetector", comesWithTelemetry),
		later(tracing, comesWithTelemetry, "zipkin", "lightstep", "datadog", "stackdriver", "open_census_agent", "custom_tags",
			"max_path_tag_length", "sampling", "tls_settings", "enable_istio_tags"),
		later(tracing+".Zipkin", comesWithTelemetry, "address"),
		later(tracing+".Lightstep", comesWithTelemetry, "address", "access_token"),
		later(tracing+".Datadog", comesWithTelemetry, "address"),
		later(tracing+".Stackdriver", comesWithTelemetry, "debug", "max_number_of_attributes", "max_number_of_annotations", "max_number_of_message_events"),
		later(tracing+".OpenCensusAgent", comesWithTelemetry, "address", "context"),
		later(tracing+".CustomTag", comesWithTelemetry, "literal", "environment", "header"),
		later(tracing+".Literal", comesWithTelemetry, "value"),
		later(tracing+".Environment", comesWithTelemetry, "name", "default_value"),
		later(tracing+".RequestHeader", comesWithTelemetry, "name", "default_value"),
	}
}
