package translate

// telemetryTables are those of Telemetry.
func telemetryTables() []Table {
	const of = "istio.telemetry.v1alpha1."
	const trace, tags, filter = "telemetry/tracing", "telemetry/tracing_tags", "telemetry/logging_filter"
	const overrides, labels = "telemetry/metrics_overrides", "telemetry/metrics_tags"
	return []Table{
		{Message: of + "Telemetry", Check: checkTelemetry, Fields: []Field{
			{Name: "selector", Feature: "workloads by their labels", Case: "telemetry/precedence"},
			{Name: "targetRef", Feature: "the Gateway of the Gateway API that a workload serves", Case: "telemetry/targetRefs"},
			{Name: "targetRefs", Feature: "the Gateways of the Gateway API that a workload serves", Case: "telemetry/targetRefs"},
			{Name: "tracing", Feature: "traces", Case: trace},
			{Name: "metrics", Feature: "standard metrics", Case: overrides},
			{Name: "access_logging", Feature: "access logs", Case: "telemetry/logging"},
		}},
		{Message: of + "Tracing", Check: checkTracing, Fields: []Field{
			{Name: "match", Feature: "requests that the workload makes or serves", Case: "telemetry/tracing_match"},
			{Name: "providers", Feature: "where spans go", Case: trace},
			{Name: "random_sampling_percentage", Feature: "share of traced requests", Case: trace, Check: checkSampling},
			{Name: "disable_span_reporting", Feature: "no spans", Case: "telemetry/tracing_disabled"},
			{Name: "custom_tags", Feature: "tags of spans", Case: tags, Check: checkSpanTag},
			{Name: "use_request_id_for_trace_sampling", Feature: "sampling by the request's id", Case: tags},
			{Name: "enable_istio_tags", Feature: "tags that say who the proxy is", Case: tags},
			{Name: "disable_context_propagation", Feature: "no trace headers to the next hop", Case: tags},
		}},
		{Message: of + "Tracing.TracingSelector", Fields: []Field{{Name: "mode", Feature: "CLIENT, SERVER or both", Case: "telemetry/tracing_match"}}},
		{Message: of + "Tracing.CustomTag", Fields: []Field{
			{Name: "literal", Feature: "a fixed value", Case: tags},
			{Name: "environment", Feature: "a variable of Envoy's environment", Case: tags},
			{Name: "header", Feature: "a header of the request", Case: tags},
			{Name: "formatter", Feature: "a value as access logs have it", Case: tags},
		}},
		{Message: of + "Tracing.Literal", Fields: []Field{{Name: "value", Feature: "the value", Case: tags}}},
		{Message: of + "Tracing.Environment", Fields: []Field{
			{Name: "name", Feature: "the variable", Case: tags},
			{Name: "default_value", Feature: "the value without it", Case: tags},
		}},
		{Message: of + "Tracing.RequestHeader", Fields: []Field{
			{Name: "name", Feature: "the header", Case: tags},
			{Name: "default_value", Feature: "the value without it", Case: tags},
		}},
		{Message: of + "Tracing.Formatter", Fields: []Field{{Name: "value", Feature: "the format", Case: tags}}},
		{Message: of + "ProviderRef", Fields: []Field{
			{Name: "name", Feature: "an extensionProvider", Case: "telemetry/providers_unknown", Check: checkProviderName},
		}},
		{Message: of + "Metrics", Fields: []Field{
			{Name: "providers", Feature: "whose metrics", Case: "telemetry/metrics_providers"},
			{Name: "overrides", Feature: "what is not as usual", Case: overrides},
			{Name: "reporting_interval", Feature: "how often connections that last are reported", Case: overrides, Check: checkReportingInterval},
		}},
		{Message: of + "MetricSelector", Check: checkMetricSelector, Fields: []Field{
			{Name: "metric", Feature: "a standard metric, or all", Case: overrides},
			{Name: "custom_metric", Feature: "a metric by its name in Prometheus", Case: overrides},
			{Name: "mode", Feature: "CLIENT, SERVER or both", Case: overrides},
		}},
		{Message: of + "MetricsOverrides", Check: checkOverrides, Fields: []Field{
			{Name: "match", Feature: "which metrics", Case: overrides},
			{Name: "disabled", Feature: "no metric", Case: overrides},
			{Name: "tag_overrides", Feature: "labels", Case: labels},
		}},
		{Message: of + "MetricsOverrides.TagOverride", Fields: []Field{
			{Name: "operation", Feature: "UPSERT or REMOVE", Case: labels},
			{Name: "value", Feature: "a CEL expression", Case: labels},
		}},
		{Message: of + "AccessLogging", Fields: []Field{
			{Name: "match", Feature: "requests that the workload makes or serves", Case: "telemetry/logging"},
			{Name: "providers", Feature: "whose logs", Case: "telemetry/logging"},
			{Name: "disabled", Feature: "no log", Case: "telemetry/logging"},
			{Name: "filter", Feature: "which entries", Case: filter},
		}},
		{Message: of + "AccessLogging.LogSelector", Fields: []Field{{Name: "mode", Feature: "CLIENT, SERVER or both", Case: "telemetry/logging"}}},
		{Message: of + "AccessLogging.Filter", Fields: []Field{{Name: "expression", Feature: "a CEL expression", Case: filter, Check: checkLogFilter}}},
	}
}
