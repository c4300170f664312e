package translate

import (
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Why fields of MeshConfig have no effect yet: what will bring them.
const (
	noStackdriver      = "stock Envoys have no tracer, logger or metrics for Stackdriver; send OTLP to a collector (opentelemetry, envoyOtelAls) that exports to it"
	noOpenCensus       = "Envoy has no tracer for OpenCensus anymore; send OTLP (opentelemetry)"
	comesWithAuthority = "certificates are signed by the mesh's own authority only"
	// byAuthority is the package that applies what concerns certificates.
	byAuthority    = "serve"
	ambientOnly    = "it is for Istio's ambient mode, which pilotfish does not have"
	removedInIstio = "it is deprecated and has no effect in Istio either"
	foldersOnly    = "configuration is read from the API server and from folders (--config)"
)

func meshConfigTables() []Table {
	return slices.Concat(
		[]Table{{Message: "istio.mesh.v1alpha1.MeshConfig", Check: checkMeshConfig, Fields: slices.Concat(
			meshConnectionFields(), meshLogFields(), meshVisibilityFields(), meshLaterFields(),
		)}},
		meshConfigParts(), proxyConfigTables(), proxyHeaderTables(), providerTables(), authorizerTables(), logProviderTables(), tracingProviderTables(), olderTracingTables(),
	)
}

func meshConnectionFields() []Field {
	return []Field{
		{Name: "proxy_listen_port", Feature: "port of virtualOutbound", Case: "meshconfig/proxy_listen_port"},
		{Name: "proxy_inbound_listen_port", Feature: "port of virtualInbound", Case: "meshconfig/proxy_inbound_listen_port"},
		{Name: "proxy_http_port", Feature: "HTTP proxy for applications", Case: "listener/proxy_http_port"},
		{Name: "connect_timeout", Feature: "time to connect to an endpoint", Case: "meshconfig/connect_timeout", Check: checkDuration},
		{Name: "protocol_detection_timeout", Feature: "time to wait for bytes that tell the protocol", Case: "meshconfig/protocol_detection_timeout", Check: checkDurationOrZero},
		{Name: "tcp_keepalive", Feature: "keepalive of connections to endpoints", Case: "cluster/tcpKeepalive-mesh"},
		{Name: "outbound_traffic_policy", Feature: "connections to unknown destinations", Case: "listener/outbound_policy_registry_only"},
		{Name: "inbound_traffic_policy", Feature: "the address at which applications are reached", Case: "cluster/inbound-localhost"},
		{Name: "locality_lb_setting", Feature: "preference of localities", Case: "meshconfig/locality_lb_setting"},
		{Name: "zone_aware_lb_setting", Feature: "preference of the own zone", Case: "meshconfig/zone_aware_lb_setting"},
		{Name: "dns_refresh_rate", Feature: "how often names are resolved", Case: "meshconfig/dns_refresh_rate", Check: checkDuration},
		{Name: "h2_upgrade_policy", Feature: "HTTP/2 to endpoints", Case: "cluster/h2UpgradePolicy-mesh"},
		{Name: "path_normalization", Feature: "normal forms of request paths", Case: "meshconfig/path_normalization"},
		{Name: "default_http_retry_policy", Feature: "retries of requests", Case: "meshconfig/default_http_retry_policy"},
		{Name: "default_traffic_policy", Feature: "connection pool and outlier detection for all hosts", Case: "cluster/defaultTrafficPolicy"},
		{Name: "tls_defaults", Feature: "versions and ciphers of TLS outside the mesh", Case: "gateway/tls_defaults"},
		{Name: "enable_auto_mtls", Feature: "mesh TLS to workloads that take it", Case: "meshconfig/enable_auto_mtls"},
		{Name: "trust_domain", Feature: "identities that count as the mesh's", Case: "meshconfig/trust_domain", Check: checkTrustDomain},
		{Name: "trust_domain_aliases", Feature: "further trust domains that count as the mesh's", Case: "meshconfig/trust_domain", Check: checkTrustDomain},
		{Name: "mesh_mTLS", Feature: "versions and ciphers of TLS inside the mesh", Case: "meshconfig/mesh_mtls", Check: checkMeshMTLS},
		{Name: "service_settings", Feature: "hosts that stay in their cluster", Case: "endpoints/clusterLocal"},
		{Name: "inbound_cluster_stat_name", Feature: "names of statistics of inbound clusters", Case: "cluster/inboundClusterStatName"},
		{Name: "outbound_cluster_stat_name", Feature: "names of statistics of outbound clusters", Case: "cluster/outboundClusterStatName"},
		{Name: "default_config", Feature: "settings of proxies that bring none", Case: "meshconfig/default_config"},
	}
}

func meshLogFields() []Field {
	return []Field{
		{Name: "access_log_file", Feature: "file of access logs", Case: "meshconfig/access_log_file"},
		{Name: "access_log_format", Feature: "format of access logs", Case: "meshconfig/access_log_format"},
		{Name: "access_log_encoding", Feature: "text or JSON", Case: "meshconfig/access_log_encoding"},
		{Name: "enable_envoy_access_log_service", Feature: "access logs to the service of envoyAccessLogService", Case: "meshconfig/enable_envoy_access_log_service"},
		{Name: "disable_envoy_listener_log", Feature: "no log of connections that no chain takes", Case: "meshconfig/disable_envoy_listener_log"},
		{Name: "extension_providers", Feature: "access logs by provider", Case: "meshconfig/extension_providers"},
		{Name: "default_providers", Feature: "providers in use", Case: "meshconfig/extension_providers"},
	}
}

func meshVisibilityFields() []Field {
	return []Field{
		{Name: "root_namespace", Feature: "namespace of mesh-wide configuration", Case: "meshconfig/root_namespace"},
		{Name: "default_service_export_to", Feature: "who sees services", Case: "meshconfig/default_service_export_to"},
		{Name: "default_virtual_service_export_to", Feature: "who sees VirtualServices", Case: "meshconfig/default_virtual_service_export_to"},
		{Name: "default_destination_rule_export_to", Feature: "who sees DestinationRules", Case: "destinationrule/exportTo-default"},
		{Name: "service_entry_visibility", Feature: "bounds on who sees ServiceEntries", Case: "meshconfig/service_entry_visibility"},
		{Name: "discovery_selectors", Feature: "namespaces that are read", Case: "meshconfig/discovery_selectors"},
	}
}

func meshLaterFields() []Field {
	return []Field{
		{Name: "enable_tracing", Feature: "traces by ProxyConfig", Case: "meshconfig/tracing_zipkin"},
		{Name: "ca_certificates", Feature: "further authorities that workloads trust", Elsewhere: byAuthority},
		{Name: "ca", Unsupported: comesWithAuthority},
		{Name: "certificates", Unsupported: removedInIstio},
		{Name: "verify_certificate_at_client", Unsupported: "it is deprecated and has no effect in Istio either: DestinationRules say what is verified, and by default everything is"},
		{Name: "enable_prometheus_merge", Feature: "one page for the metrics of proxy and application", Elsewhere: byInjection},
		{Name: "ingress_class", Feature: "whose Ingresses count", Case: "meshconfig/ingress_class"},
		{Name: "ingress_service", Feature: "gateways that serve Ingresses, by their Service", Case: "meshconfig/ingress_service"},
		{Name: "ingress_controller_mode", Feature: "which Ingresses count", Case: "meshconfig/ingress_controller_mode"},
		{Name: "ingress_selector", Feature: "gateways that serve Ingresses, by their label", Case: "meshconfig/ingress_selector"},
		{Name: "config_sources", Unsupported: foldersOnly},
		{Name: "hbone_idle_timeout", Unsupported: ambientOnly},
		{Name: "service_scope_configs", Unsupported: ambientOnly},
	}
}

func meshConfigParts() []Table {
	return []Table{
		{Message: "istio.mesh.v1alpha1.MeshConfig.OutboundTrafficPolicy", Fields: []Field{
			{Name: "mode", Feature: "refuse or let through", Case: "listener/outbound_policy_registry_only"},
			{Name: "tls", Feature: "TLS to unknown destinations, for mode ALLOW_ANY_DYNAMIC_DNS", Case: "cluster/allowAnyDynamicDns-tls"},
		}},
		{Message: "istio.mesh.v1alpha1.MeshConfig.InboundTrafficPolicy", Fields: []Field{
			{Name: "mode", Feature: "the workload's own address or localhost", Case: "cluster/inbound-localhost"},
		}},
		{Message: "istio.mesh.v1alpha1.MeshConfig.ProxyPathNormalization", Fields: []Field{
			{Name: "normalization", Feature: "normal forms of request paths", Case: "meshconfig/path_normalization"},
		}},
		{Message: "istio.mesh.v1alpha1.MeshConfig.DefaultTrafficPolicy", Fields: []Field{
			{Name: "connection_pool", Feature: "limits of connections to all hosts", Case: "cluster/defaultTrafficPolicy"},
			{Name: "outlier_detection", Feature: "ejection of failing endpoints of all hosts", Case: "cluster/defaultTrafficPolicy"},
		}},
		{Message: "istio.mesh.v1alpha1.MeshConfig.TLSConfig", Fields: []Field{
			{Name: "min_protocol_version", Feature: "oldest TLS version", Case: "gateway/tls_defaults"},
			{Name: "ecdh_curves", Feature: "curves", Case: "gateway/tls_defaults", Check: checkCurve},
			{Name: "cipher_suites", Feature: "ciphers", Case: "gateway/tls_defaults", Check: checkCipher},
		}},
		{Message: "istio.mesh.v1alpha1.MeshConfig.ServiceSettings", Fields: []Field{
			{Name: "settings", Feature: "what holds for the hosts", Case: "endpoints/clusterLocal"},
			{Name: "hosts", Feature: "hosts that the settings are for", Case: "endpoints/clusterLocal"},
		}},
		{Message: "istio.mesh.v1alpha1.MeshConfig.ServiceSettings.Settings", Fields: []Field{
			{Name: "cluster_local", Feature: "endpoints of the own cluster only", Case: "endpoints/clusterLocal"},
		}},
		{Message: "istio.mesh.v1alpha1.LabelSelector", Fields: []Field{
			{Name: "matchLabels", Feature: "namespaces with these labels", Case: "meshconfig/discovery_selectors"},
			{Name: "matchExpressions", Feature: "namespaces whose labels fulfil these", Case: "meshconfig/discovery_selectors"},
		}},
		{Message: "istio.mesh.v1alpha1.LabelSelectorRequirement", Fields: []Field{
			{Name: "key", Feature: "label", Case: "meshconfig/discovery_selectors"},
			{Name: "operator", Feature: "In, NotIn, Exists or DoesNotExist", Case: "meshconfig/discovery_selectors", Check: checkOperator},
			{Name: "values", Feature: "values to compare with", Case: "meshconfig/discovery_selectors"},
		}},
		later("istio.mesh.v1alpha1.MeshConfig.CA", comesWithAuthority, "address", "tls_settings", "request_timeout", "istiod_side"),
		{Message: "istio.mesh.v1alpha1.MeshConfig.CertificateData", Fields: []Field{
			{Name: "pem", Feature: "the authorities' certificates", Elsewhere: byAuthority},
			{Name: "spiffe_bundle_url", Unsupported: "the authorities of other meshes are not fetched; give their certificates in pem"},
			{Name: "cert_signers", Unsupported: comesWithAuthority},
			{Name: "trust_domains", Unsupported: "an authority is trusted for every trust domain that the mesh knows"},
		}},
		later("istio.mesh.v1alpha1.Certificate", removedInIstio, "secret_name", "dns_names"),
		later("istio.mesh.v1alpha1.ConfigSource", foldersOnly, "address", "tls_settings", "subscribed_resources"),
		later("istio.mesh.v1alpha1.MeshConfig.ServiceScopeConfigs", ambientOnly, "namespace_selector", "services_selector", "scope"),
		{Message: "istio.mesh.v1alpha1.ServiceEntryVisibility", Fields: []Field{
			{Name: "default_visibility", Feature: "where no policy matches", Case: "meshconfig/service_entry_visibility_default"},
			{Name: "apply_to_sidecars", Feature: "whether it holds at all", Case: "meshconfig/service_entry_visibility_ambient"},
			{Name: "policies", Feature: "the first that matches counts", Case: "meshconfig/service_entry_visibility"},
		}},
		{Message: "istio.mesh.v1alpha1.ServiceEntryVisibility.Policy", Fields: []Field{
			{Name: "visibility", Feature: "nobody, the own namespace, or whom exportTo names", Case: "meshconfig/service_entry_visibility"},
			{Name: "matching_rules", Feature: "all must match", Case: "meshconfig/service_entry_visibility"},
		}},
		{Message: "istio.mesh.v1alpha1.ServiceEntryVisibility.MatchRule", Fields: []Field{
			{Name: "namespace_selector", Feature: "labels of the entry's namespace", Case: "meshconfig/service_entry_visibility"},
		}},
	}
}

// later is the table of a message that has no effect yet.
func later(message protoreflect.FullName, why string, fields ...protoreflect.Name) Table {
	t := Table{Message: message}
	for _, f := range fields {
		t.Fields = append(t.Fields, Field{Name: f, Unsupported: why})
	}
	return t
}
