package translate

// tracingProviderTables are those of providers of traces.
func tracingProviderTables() []Table {
	const of = extensionProvider
	const zipkin, otel, dynatrace = "meshconfig/provider_zipkin", "meshconfig/provider_opentelemetry", "meshconfig/provider_dynatrace"
	const otelHTTP, datadog, sky, light = "meshconfig/provider_opentelemetry_http", "meshconfig/provider_datadog", "meshconfig/provider_skywalking", "meshconfig/provider_lightstep"
	return []Table{
		{Message: of + ".ZipkinTracingProvider", Fields: []Field{
			{Name: "service", Feature: "host, or namespace/host", Case: zipkin},
			{Name: "port", Feature: "port", Case: zipkin},
			{Name: "max_tag_length", Feature: "length of paths in spans", Case: zipkin},
			{Name: "enable_64bit_trace_id", Feature: "short trace ids", Case: zipkin},
			{Name: "path", Feature: "path of the API", Case: zipkin},
			{Name: "trace_context_option", Feature: "B3 alone, or with W3C's header", Case: zipkin},
			{Name: "timeout", Feature: "time to send spans", Case: zipkin, Check: checkDuration},
			{Name: "headers", Feature: "headers to the API", Case: zipkin},
		}},
		{Message: of + ".LightstepTracingProvider", Fields: []Field{
			{Name: "service", Feature: "host, or namespace/host", Case: light},
			{Name: "port", Feature: "port", Case: light},
			{Name: "access_token", Feature: "who sends", Case: light},
			{Name: "max_tag_length", Feature: "length of paths in spans", Case: light},
		}},
		{Message: of + ".DatadogTracingProvider", Fields: []Field{
			{Name: "service", Feature: "host, or namespace/host", Case: datadog},
			{Name: "port", Feature: "port", Case: datadog},
			{Name: "max_tag_length", Feature: "length of paths in spans", Case: datadog},
		}},
		later(of+".OpenCensusAgentTracingProvider", noOpenCensus, "service", "port", "context", "max_tag_length"),
		{Message: of + ".SkyWalkingTracingProvider", Fields: []Field{
			{Name: "service", Feature: "host, or namespace/host", Case: sky},
			{Name: "port", Feature: "port", Case: sky},
			{Name: "access_token", Feature: "who sends", Case: sky},
		}},
		{Message: of + ".OpenTelemetryTracingProvider", Fields: []Field{
			{Name: "service", Feature: "host, or namespace/host", Case: otel},
			{Name: "port", Feature: "port", Case: otel},
			{Name: "max_tag_length", Feature: "length of paths in spans", Case: otel},
			{Name: "http", Feature: "OTLP over HTTP", Case: otelHTTP},
			{Name: "grpc", Feature: "OTLP over gRPC", Case: otel},
			{Name: "resource_detectors", Feature: "attributes of the environment", Case: otel},
			{Name: "service_attribute_enrichment", Feature: "attributes by OpenTelemetry's conventions", Case: otelHTTP},
			{Name: "dynatrace_sampler", Feature: "sampling as Dynatrace says", Case: dynatrace},
		}},
		{Message: of + ".OpenTelemetryTracingProvider.DynatraceSampler", Fields: []Field{
			{Name: "tenant", Feature: "the tenant", Case: dynatrace},
			{Name: "cluster_id", Feature: "the cluster's number", Case: dynatrace},
			{Name: "root_spans_per_minute", Feature: "how much until Dynatrace has said it", Case: dynatrace},
			{Name: "http_service", Feature: "where Dynatrace says it", Case: dynatrace},
		}},
		{Message: of + ".OpenTelemetryTracingProvider.DynatraceSampler.DynatraceApi", Fields: []Field{
			{Name: "service", Feature: "host, or namespace/host", Case: dynatrace},
			{Name: "port", Feature: "port", Case: dynatrace},
			{Name: "http", Feature: "path, time and headers", Case: dynatrace},
		}},
		{Message: of + ".HttpService", Fields: []Field{
			{Name: "path", Feature: "path", Case: otelHTTP},
			{Name: "timeout", Feature: "time to send spans", Case: otelHTTP, Check: checkDuration},
			{Name: "headers", Feature: "headers of each request", Case: otelHTTP},
		}},
		{Message: of + ".GrpcService", Fields: []Field{
			{Name: "timeout", Feature: "time to send spans", Case: otel, Check: checkDuration},
			{Name: "initial_metadata", Feature: "metadata of each stream", Case: otel},
		}},
		{Message: of + ".HttpHeader", Fields: []Field{
			{Name: "name", Feature: "name", Case: zipkin, Check: checkTokenHeader},
			{Name: "value", Feature: "value", Case: zipkin},
			{Name: "env_name", Feature: "value of a variable of the control plane", Case: "meshconfig/header_of_environment"},
		}},
		{Message: of + ".ResourceDetectors", Fields: []Field{
			{Name: "environment", Feature: "OTEL_RESOURCE_ATTRIBUTES", Case: otel},
			{Name: "dynatrace", Feature: "Dynatrace's enrichment files", Case: dynatrace},
		}},
		{Message: of + ".ResourceDetectors.EnvironmentResourceDetector"},
		{Message: of + ".ResourceDetectors.DynatraceResourceDetector"},
	}
}

// olderTracingTables are those of ProxyConfig.tracing.
func olderTracingTables() []Table {
	const of = "istio.mesh.v1alpha1.Tracing"
	const zipkin, datadog, light = "meshconfig/tracing_zipkin", "meshconfig/tracing_datadog", "meshconfig/tracing_lightstep"
	return []Table{
		{Message: of, Fields: []Field{
			{Name: "zipkin", Feature: "traces to Zipkin", Case: zipkin},
			{Name: "lightstep", Feature: "traces to Lightstep", Case: light},
			{Name: "datadog", Feature: "traces to Datadog", Case: datadog},
			{Name: "stackdriver", Unsupported: noStackdriver},
			{Name: "open_census_agent", Unsupported: noOpenCensus},
			{Name: "custom_tags", Feature: "tags of spans", Case: zipkin},
			{Name: "max_path_tag_length", Feature: "length of paths in spans", Case: zipkin},
			{Name: "sampling", Feature: "share of traced requests", Case: zipkin, Check: checkPercentage},
			{Name: "tls_settings", Feature: "TLS to the collector", Case: light},
			{Name: "enable_istio_tags", Feature: "tags that say who the proxy is", Case: datadog},
		}},
		{Message: of + ".Zipkin", Fields: []Field{{Name: "address", Feature: "host and port", Case: zipkin, Check: checkHostPort}}},
		{Message: of + ".Lightstep", Fields: []Field{
			{Name: "address", Feature: "host and port", Case: light, Check: checkHostPort},
			{Name: "access_token", Feature: "who sends", Case: light},
		}},
		{Message: of + ".Datadog", Fields: []Field{{Name: "address", Feature: "host and port", Case: datadog, Check: checkHostPort}}},
		later(of+".Stackdriver", noStackdriver, "debug", "max_number_of_attributes", "max_number_of_annotations", "max_number_of_message_events"),
		later(of+".OpenCensusAgent", noOpenCensus, "address", "context"),
		{Message: of + ".CustomTag", Fields: []Field{
			{Name: "literal", Feature: "a fixed value", Case: zipkin},
			{Name: "environment", Feature: "a variable of Envoy's environment", Case: zipkin},
			{Name: "header", Feature: "a header of the request", Case: zipkin},
		}},
		{Message: of + ".Literal", Fields: []Field{{Name: "value", Feature: "the value", Case: zipkin}}},
		{Message: of + ".Environment", Fields: []Field{
			{Name: "name", Feature: "the variable", Case: zipkin},
			{Name: "default_value", Feature: "the value without it", Case: zipkin},
		}},
		{Message: of + ".RequestHeader", Fields: []Field{
			{Name: "name", Feature: "the header", Case: zipkin},
			{Name: "default_value", Feature: "the value without it", Case: zipkin},
		}},
	}
}
