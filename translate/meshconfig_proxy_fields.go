package translate

const noAcceleration = "Envoys of the usual builds have no accelerated keys"

// Who applies settings of a pod that are no part of Envoy's resources.
const (
	byAgent     = "agent/pod"
	byInjection = "webhook/inject"
)

func proxyConfigFields() []Field {
	return []Field{
		{Name: "gateway_topology", Feature: "proxies in front of a gateway", Case: "meshconfig/gateway_topology"},
		{Name: "proxy_headers", Feature: "headers that proxies add, keep and remove", Case: "meshconfig/proxy_headers_server"},
		{Name: "connection_settings", Feature: "limits of client connections", Case: "meshconfig/connection_settings"},
		{Name: "config_path", Feature: "the agent's folder", Elsewhere: byAgent},
		{Name: "binary_path", Feature: "the Envoy that is started", Elsewhere: byAgent},
		{Name: "service_cluster", Feature: "the workload's name in traces", Elsewhere: byAgent},
		{Name: "tracing_service_name", Feature: "how traces name the workload", Elsewhere: byAgent},
		{Name: "drain_duration", Feature: "how long Envoy drains listeners", Elsewhere: byAgent},
		{Name: "discovery_address", Feature: "where the control plane is", Elsewhere: byAgent},
		{Name: "discovery_refresh_delay", Unsupported: removedInIstio},
		{Name: "zipkin_address", Feature: "where Zipkin is, without tracing", Case: "meshconfig/tracing_zipkin", Check: checkHostPort},
		{Name: "statsd_udp_address", Feature: "statistics to a statsd", Elsewhere: byAgent},
		{Name: "envoy_metrics_service_address", Feature: "statistics to a metrics service", Elsewhere: byAgent},
		{Name: "proxy_admin_port", Feature: "port of Envoy's admin interface", Elsewhere: byAgent},
		{Name: "availability_zone", Unsupported: removedInIstio},
		{Name: "control_plane_auth_policy", Feature: "TLS to the control plane", Elsewhere: byAgent},
		{Name: "custom_config_file", Feature: "a bootstrap of the user's own", Elsewhere: byAgent},
		{Name: "stat_name_length", Unsupported: "Envoy no longer bounds the names of statistics; Istio ignores it too"},
		{Name: "concurrency", Feature: "Envoy's threads", Elsewhere: byAgent},
		{Name: "proxy_bootstrap_template_path", Unsupported: "a template of Istio's bootstrap fits no other; customConfigFile or the annotation sidecar.istio.io/bootstrapOverride change it"},
		{Name: "interception_mode", Feature: "REDIRECT, TPROXY or NONE", Elsewhere: byInjection},
		{Name: "tracing", Feature: "traces, where no provider is named", Case: "meshconfig/tracing_zipkin"},
		{Name: "sds", Unsupported: removedInIstio},
		{Name: "envoy_access_log_service", Feature: "where access logs are sent", Case: "meshconfig/enable_envoy_access_log_service"},
		{Name: "envoy_metrics_service", Feature: "statistics to a metrics service", Elsewhere: byAgent},
		{Name: "proxy_metadata", Feature: "environment of the container, metadata of the node", Elsewhere: byInjection},
		{Name: "runtime_values", Feature: "values of Envoy's runtime", Elsewhere: byAgent},
		{Name: "status_port", Feature: "port of readiness and metrics", Elsewhere: byAgent},
		{Name: "extra_stat_tags", Unsupported: removedInIstio},
		{Name: "termination_drain_duration", Feature: "how long a pod that ends drains", Elsewhere: byAgent},
		{Name: "mesh_id", Feature: "the mesh's name in the node's metadata", Elsewhere: byAgent},
		{Name: "readiness_probe", Unsupported: "Istio probes only workloads that register themselves, which needs its own agent; in a pod Kubernetes probes"},
		{Name: "proxy_stats_matcher", Feature: "statistics that are kept", Elsewhere: byAgent},
		{Name: "hold_application_until_proxy_starts", Feature: "the application waits for the proxy", Elsewhere: byInjection},
		{Name: "ca_certificates_pem", Unsupported: comesWithAuthority},
		{Name: "image", Feature: "image of the container", Elsewhere: byInjection},
		{Name: "private_key_provider", Unsupported: noAcceleration},
		{Name: "file_flush_interval", Feature: "how often logs are written", Elsewhere: byAgent},
		{Name: "file_flush_min_size_kb", Feature: "how much is written at once", Elsewhere: byAgent},
		{Name: "stats_compression", Feature: "gzip for statistics", Elsewhere: byAgent},
	}
}

func proxyConfigTables() []Table {
	return []Table{
		{Message: "istio.mesh.v1alpha1.ProxyConfig", Fields: proxyConfigFields()},
		{Message: "istio.mesh.v1alpha1.Topology", Fields: []Field{
			{Name: "num_trusted_proxies", Feature: "entries of X-Forwarded-For that are believed", Case: "meshconfig/gateway_topology"},
			{Name: "forward_client_cert_details", Feature: "what becomes of X-Forwarded-Client-Cert", Case: "meshconfig/gateway_topology_client_cert"},
			{Name: "proxy_protocol", Feature: "PROXY protocol from a load balancer", Case: "meshconfig/gateway_topology_proxy_protocol"},
		}},
		{Message: "istio.mesh.v1alpha1.Topology.ProxyProtocolConfiguration"},
		{Message: "istio.mesh.v1alpha1.ProxyConfig.ConnectionSettings", Fields: []Field{
			{Name: "profile", Feature: "defaults for gateways at the edge", Case: "meshconfig/connection_settings_edge"},
			{Name: "listener_per_connection_buffer_limit_bytes", Feature: "buffer of a client connection", Case: "meshconfig/connection_settings_edge", Check: checkWrappedNatural},
			{Name: "cluster_per_connection_buffer_limit_bytes", Feature: "buffer of a connection to an endpoint", Case: "meshconfig/connection_settings_cluster", Check: checkWrappedNatural},
			{Name: "http_idle_timeout", Feature: "idle time of a connection", Case: "meshconfig/connection_settings", Check: checkDurationOrZero},
			{Name: "http_max_connection_duration", Feature: "lifetime of a connection", Case: "meshconfig/connection_settings", Check: checkDurationOrZero},
			{Name: "http_drain_timeout", Feature: "time to end a connection", Case: "meshconfig/connection_settings", Check: checkDurationOrZero},
			{Name: "http_request_timeout", Feature: "time to receive a request", Case: "meshconfig/connection_settings", Check: checkDurationOrZero},
			{Name: "http_request_headers_timeout", Feature: "time to receive the headers", Case: "meshconfig/connection_settings", Check: checkDurationOrZero},
			{Name: "http_stream_idle_timeout", Feature: "idle time of a request", Case: "meshconfig/connection_settings", Check: checkDurationOrZero},
			{Name: "http_max_stream_duration", Feature: "lifetime of a request", Case: "meshconfig/connection_settings", Check: checkDurationOrZero},
			{Name: "http_max_concurrent_streams", Feature: "requests at once on a connection", Case: "meshconfig/connection_settings_edge", Check: checkWrappedNatural},
			{Name: "http2_initial_stream_window_size", Feature: "window of a request", Case: "meshconfig/connection_settings_edge", Check: checkWindow},
			{Name: "http2_initial_connection_window_size", Feature: "window of a connection", Case: "meshconfig/connection_settings_edge", Check: checkWindow},
			{Name: "http_headers_with_underscores_action", Feature: "headers with underscores", Case: "meshconfig/connection_settings"},
			{Name: "http_merge_slashes", Feature: "repeated slashes in paths", Case: "meshconfig/connection_settings"},
			{Name: "http_path_with_escaped_slashes_action", Feature: "escaped slashes in paths", Case: "meshconfig/connection_settings"},
			{Name: "listener_connection_limit", Feature: "connections of each of the two redirected listeners of a sidecar; istiod only checks it", Elsewhere: byAgent},
			{Name: "global_downstream_connection_limit", Feature: "connections of all listeners", Elsewhere: byAgent},
		}},
		{Message: "istio.mesh.v1alpha1.ProxyConfig.ProxyStatsMatcher", Fields: []Field{
			{Name: "inclusion_prefixes", Feature: "by the beginning of their names", Elsewhere: byAgent},
			{Name: "inclusion_suffixes", Feature: "by the end of their names", Elsewhere: byAgent},
			{Name: "inclusion_regexps", Feature: "by a regex", Elsewhere: byAgent},
		}},
		{Message: "istio.mesh.v1alpha1.RemoteService", Fields: []Field{
			{Name: "address", Feature: "host and port", Case: "meshconfig/enable_envoy_access_log_service", Check: checkHostPort},
			{Name: "tls_settings", Feature: "TLS to it", Case: "meshconfig/enable_envoy_access_log_service_tls"},
			{Name: "tcp_keepalive", Feature: "keepalive of the connection", Case: "meshconfig/enable_envoy_access_log_service_tls"},
		}},
		later("istio.mesh.v1alpha1.SDS", removedInIstio, "enabled", "k8s_sa_jwt_path"),
		later("istio.mesh.v1alpha1.PrivateKeyProvider", noAcceleration, "cryptomb", "qat"),
		later("istio.mesh.v1alpha1.PrivateKeyProvider.CryptoMb", noAcceleration, "poll_delay", "fallback"),
		later("istio.mesh.v1alpha1.PrivateKeyProvider.QAT", noAcceleration, "poll_delay", "fallback"),
		{Message: "istio.networking.v1beta1.ProxyImage", Fields: []Field{
			{Name: "image_type", Feature: "suffix of the image's tag", Elsewhere: byInjection},
		}},
	}
}

func proxyHeaderTables() []Table {
	const of = "istio.mesh.v1alpha1.ProxyConfig.ProxyHeaders"
	return []Table{
		{Message: of, Fields: []Field{
			{Name: "forwarded_client_cert", Feature: "what the application learns of the caller's certificate", Case: "meshconfig/proxy_headers_client_cert"},
			{Name: "set_current_client_cert_details", Feature: "what of the caller's certificate", Case: "meshconfig/proxy_headers_client_cert"},
			{Name: "request_id", Feature: "generated request ids", Case: "meshconfig/proxy_headers_request_id"},
			{Name: "server", Feature: "the server header", Case: "meshconfig/proxy_headers_server"},
			{Name: "attempt_count", Feature: "the attempt count header", Case: "meshconfig/proxy_headers_attempt_count"},
			{Name: "envoy_debug_headers", Feature: "Envoy's x-envoy- headers", Case: "meshconfig/proxy_headers_debug"},
			{Name: "metadata_exchange_headers", Feature: "headers that tell peers who the proxy is, in Envoys that have Istio's filters", Case: "telemetry/istio_filters"},
			{Name: "preserve_http1_header_case", Feature: "case of HTTP/1 headers", Case: "meshconfig/proxy_headers_case"},
			{Name: "x_forwarded_host", Feature: "the original host of rewritten requests", Case: "meshconfig/proxy_headers_forwarded_host"},
			{Name: "x_forwarded_port", Feature: "the port that the client connected to", Case: "meshconfig/proxy_headers_forwarded_port"},
		}},
		{Message: of + ".SetCurrentClientCertDetails", Fields: []Field{
			{Name: "subject", Feature: "subject of the certificate", Case: "meshconfig/proxy_headers_client_cert"},
			{Name: "cert", Feature: "the certificate", Case: "meshconfig/proxy_headers_client_cert"},
			{Name: "chain", Feature: "the certificate and its chain", Case: "meshconfig/proxy_headers_client_cert"},
			{Name: "dns", Feature: "DNS names of the certificate", Case: "meshconfig/proxy_headers_client_cert"},
			{Name: "uri", Feature: "URIs of the certificate", Case: "meshconfig/proxy_headers_client_cert"},
		}},
		{Message: of + ".RequestId", Fields: []Field{{Name: "disabled", Feature: "no generated request ids", Case: "meshconfig/proxy_headers_request_id"}}},
		{Message: of + ".Server", Fields: []Field{
			{Name: "disabled", Feature: "the application's own server header", Case: "meshconfig/proxy_headers_server_disabled"},
			{Name: "value", Feature: "value of the server header", Case: "meshconfig/proxy_headers_server"},
		}},
		{Message: of + ".AttemptCount", Fields: []Field{{Name: "disabled", Feature: "no attempt count header", Case: "meshconfig/proxy_headers_attempt_count"}}},
		{Message: of + ".EnvoyDebugHeaders", Fields: []Field{{Name: "disabled", Feature: "no x-envoy- headers", Case: "meshconfig/proxy_headers_debug"}}},
		{Message: of + ".XForwardedHost", Fields: []Field{{Name: "enabled", Feature: "X-Forwarded-Host", Case: "meshconfig/proxy_headers_forwarded_host"}}},
		{Message: of + ".XForwardedPort", Fields: []Field{{Name: "enabled", Feature: "X-Forwarded-Port", Case: "meshconfig/proxy_headers_forwarded_port"}}},
		{Message: of + ".MetadataExchangeHeaders", Fields: []Field{{Name: "mode", Feature: "not to hosts outside of the mesh", Case: "telemetry/istio_filters"}}},
	}
}
