package translate

// logProviderTables are those of providers of access logs.
func logProviderTables() []Table {
	const of = extensionProvider
	const http, tcp, otel = "meshconfig/provider_http_als", "meshconfig/provider_tcp_als", "meshconfig/provider_otel_als"
	return []Table{
		{Message: of + ".EnvoyHttpGrpcV3LogProvider", Fields: []Field{
			{Name: "service", Feature: "host, or namespace/host", Case: http},
			{Name: "port", Feature: "port", Case: http},
			{Name: "log_name", Feature: "name of the log", Case: http},
			{Name: "filter_state_objects_to_log", Feature: "filter state in entries", Case: http},
			{Name: "additional_request_headers_to_log", Feature: "request headers in entries", Case: http, Check: checkTokenHeader},
			{Name: "additional_response_headers_to_log", Feature: "response headers in entries", Case: http, Check: checkTokenHeader},
			{Name: "additional_response_trailers_to_log", Feature: "response trailers in entries", Case: http, Check: checkTokenHeader},
		}},
		{Message: of + ".EnvoyTcpGrpcV3LogProvider", Fields: []Field{
			{Name: "service", Feature: "host, or namespace/host", Case: tcp},
			{Name: "port", Feature: "port", Case: tcp},
			{Name: "log_name", Feature: "name of the log", Case: tcp},
			{Name: "filter_state_objects_to_log", Feature: "filter state in entries", Case: tcp},
		}},
		{Message: of + ".EnvoyOpenTelemetryLogProvider", Fields: []Field{
			{Name: "service", Feature: "host, or namespace/host", Case: otel},
			{Name: "port", Feature: "port", Case: otel},
			{Name: "log_name", Feature: "name of the log", Case: otel},
			{Name: "log_format", Feature: "body and attributes", Case: otel},
		}},
		{Message: of + ".EnvoyOpenTelemetryLogProvider.LogFormat", Fields: []Field{
			{Name: "text", Feature: "the body", Case: otel},
			{Name: "labels", Feature: "the attributes", Case: otel},
		}},
		{Message: of + ".PrometheusMetricsProvider"},
		later(of+".StackdriverProvider", noStackdriver, "debug", "max_number_of_attributes", "max_number_of_annotations",
			"max_number_of_message_events", "max_tag_length", "logging"),
		later(of+".StackdriverProvider.Logging", noStackdriver, "labels"),
	}
}
