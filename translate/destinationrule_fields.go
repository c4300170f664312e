package translate

func destinationRuleTables() []Table {
	return append(append(append([]Table{
		{Message: "istio.networking.v1alpha3.DestinationRule", Check: checkDestinationRule, Fields: []Field{
			{Name: "host", Feature: "the services it applies to", Case: "destinationrule/host"},
			{Name: "traffic_policy", Feature: "settings of connections to the host", Case: "destinationrule/trafficPolicy"},
			{Name: "subsets", Feature: "clusters by endpoint labels", Case: "destinationrule/subsets"},
			{Name: "export_to", Feature: "namespaces whose clients it applies to", Case: "destinationrule/exportTo"},
			{Name: "workload_selector", Feature: "clients it applies to", Case: "destinationrule/workloadSelector"},
		}},
		{Message: "istio.type.v1beta1.WorkloadSelector", Check: checkMatchLabels, Fields: []Field{
			{Name: "match_labels", Feature: "workloads by their labels", Case: "destinationrule/workloadSelector", Check: checkSelectorValue},
		}},
		{Message: "istio.networking.v1alpha3.Subset", Check: checkSubset, Fields: []Field{
			{Name: "name", Feature: "name in routes and clusters", Case: "destinationrule/subsets"},
			{Name: "labels", Feature: "endpoints of the subset", Case: "endpoints/subset", Check: checkLabelValue},
			{Name: "traffic_policy", Feature: "overrides of the rule's settings", Case: "destinationrule/subset-trafficPolicy"},
		}},
		{Message: "istio.networking.v1alpha3.TrafficPolicy", Check: checkTrafficPolicy, Fields: []Field{
			{Name: "load_balancer", Feature: "choice among endpoints", Case: "cluster/loadBalancer-simple"},
			{Name: "connection_pool", Feature: "limits of connections", Case: "cluster/connectionPool-tcp"},
			{Name: "outlier_detection", Feature: "ejection of failing endpoints", Case: "cluster/outlierDetection"},
			{Name: "tls", Feature: "TLS to the endpoints", Case: "cluster/tls-simple"},
			{Name: "port_level_settings", Feature: "settings of one port", Case: "destinationrule/portLevelSettings"},
			{Name: "tunnel", Feature: "tunnels through an HTTP proxy", Case: "destinationrule/tunnel"},
			{Name: "proxy_protocol", Feature: "PROXY protocol to the endpoints", Case: "cluster/proxyProtocol"},
			{Name: "retry_budget", Feature: "limit of concurrent retries by share", Case: "cluster/retryBudget"},
		}},
		{Message: "istio.networking.v1alpha3.TrafficPolicy.PortTrafficPolicy", Check: checkPortPolicy, Fields: []Field{
			{Name: "port", Feature: "the port that the settings are for", Case: "destinationrule/portLevelSettings"},
			{Name: "load_balancer", Feature: "choice among endpoints", Case: "destinationrule/portLevelSettings"},
			{Name: "connection_pool", Feature: "limits of connections", Case: "destinationrule/portLevelSettings"},
			{Name: "outlier_detection", Feature: "ejection of failing endpoints", Case: "destinationrule/portLevelSettings"},
			{Name: "tls", Feature: "TLS to the endpoints", Case: "destinationrule/portLevelSettings"},
		}},
		{Message: "istio.networking.v1alpha3.TrafficPolicy.TunnelSettings", Check: checkTunnel, Fields: []Field{
			{Name: "protocol", Feature: "CONNECT or POST", Case: "destinationrule/tunnel"},
			{Name: "target_host", Feature: "host to tunnel to", Case: "destinationrule/tunnel"},
			{Name: "target_port", Feature: "port to tunnel to", Case: "destinationrule/tunnel"},
		}},
		{Message: "istio.networking.v1alpha3.TrafficPolicy.ProxyProtocol", Fields: []Field{
			{Name: "version", Feature: "version 1 or 2", Case: "cluster/proxyProtocol", Check: checkProxyProtocol},
		}},
		{Message: "istio.networking.v1alpha3.TrafficPolicy.RetryBudget", Check: checkRetryBudget, Fields: []Field{
			{Name: "percent", Feature: "share of requests that may be retries", Case: "cluster/retryBudget"},
			{Name: "min_retry_concurrency", Feature: "retries that are always allowed", Case: "cluster/retryBudget"},
			{Name: "budget_interval", Feature: "time over which requests are counted", Case: "cluster/retryBudget", Check: checkDuration},
		}},
	}, loadBalancerTables()...), connectionPoolTables()...), clientTLSTables()...)
}

func loadBalancerTables() []Table {
	return append([]Table{
		{Message: "istio.networking.v1alpha3.LoadBalancerSettings", Check: checkLoadBalancer, Fields: []Field{
			{Name: "simple", Feature: "algorithm", Case: "cluster/loadBalancer-simple", Check: checkSimple},
			{Name: "consistent_hash", Feature: "hash ring", Case: "cluster/consistentHash"},
			{Name: "locality_lb_setting", Feature: "preference of localities", Case: "endpoints/distribute"},
			{Name: "zone_aware_lb_setting", Feature: "preference of the own zone", Case: "endpoints/zoneAware", Check: checkZoneAware},
			{Name: "warmup_duration_secs", Feature: "slow start", Case: "cluster/warmupDurationSecs", Check: checkDuration},
			{Name: "warmup", Feature: "slow start", Case: "cluster/warmup"},
		}},
		{Message: "istio.networking.v1alpha3.LoadBalancerSettings.ConsistentHashLB", Check: checkConsistentHash, Fields: []Field{
			{Name: "http_header_name", Feature: "hash of a header", Case: "cluster/consistentHash"},
			{Name: "http_cookie", Feature: "hash of a cookie", Case: "cluster/consistentHash-httpCookie"},
			{Name: "use_source_ip", Feature: "hash of the client's address", Case: "cluster/consistentHash-useSourceIp"},
			{Name: "http_query_parameter_name", Feature: "hash of a query parameter", Case: "cluster/consistentHash-httpQueryParameterName"},
			{Name: "ring_hash", Feature: "hash ring", Case: "cluster/consistentHash-ringHash"},
			{Name: "maglev", Feature: "Maglev table", Case: "cluster/consistentHash-maglev"},
			{Name: "minimum_ring_size", Feature: "size of the ring", Case: "cluster/consistentHash-minimumRingSize"},
		}},
		{Message: "istio.networking.v1alpha3.LoadBalancerSettings.ConsistentHashLB.RingHash", Fields: []Field{
			{Name: "minimum_ring_size", Feature: "size of the ring", Case: "cluster/consistentHash-ringHash", Check: checkRingSize},
		}},
		{Message: "istio.networking.v1alpha3.LoadBalancerSettings.ConsistentHashLB.MagLev", Check: checkMaglev, Fields: []Field{
			{Name: "table_size", Feature: "size of the table", Case: "cluster/consistentHash-maglev"},
		}},
		{Message: "istio.networking.v1alpha3.LoadBalancerSettings.ConsistentHashLB.HTTPCookie", Check: checkCookie, Fields: []Field{
			{Name: "name", Feature: "the cookie's name", Case: "cluster/consistentHash-httpCookie"},
			{Name: "path", Feature: "the cookie's path", Case: "cluster/consistentHash-httpCookie"},
			{Name: "ttl", Feature: "the cookie's lifetime; with it the proxy makes the cookie", Case: "cluster/consistentHash-httpCookie", Check: checkNotNegativeDuration},
			{Name: "attributes", Feature: "the cookie's further attributes", Case: "cluster/consistentHash-httpCookie"},
		}},
		{Message: "istio.networking.v1alpha3.LoadBalancerSettings.ConsistentHashLB.HTTPCookie.Attribute", Fields: []Field{
			{Name: "name", Feature: "the attribute's name", Case: "cluster/consistentHash-httpCookie"},
			{Name: "value", Feature: "the attribute's value", Case: "cluster/consistentHash-httpCookie"},
		}},
		{Message: "istio.networking.v1alpha3.WarmupConfiguration", Check: checkWarmup, Fields: []Field{
			{Name: "duration", Feature: "time until a new endpoint has its full share", Case: "cluster/warmup", Check: checkDuration},
			{Name: "minimum_percent", Feature: "share to begin with", Case: "cluster/warmup"},
			{Name: "aggression", Feature: "shape of the growth", Case: "cluster/warmup"},
		}},
	}, localityTables()...)
}

func localityTables() []Table {
	return []Table{
		{Message: "istio.networking.v1alpha3.LocalityLoadBalancerSetting", Check: checkLocalitySetting, Fields: []Field{
			{Name: "distribute", Feature: "weights of localities", Case: "endpoints/distribute"},
			{Name: "failover", Feature: "region that takes over", Case: "endpoints/failover"},
			{Name: "failover_priority", Feature: "order by shared labels", Case: "endpoints/failoverPriority", Check: checkPriorityLabel},
			{Name: "enabled", Feature: "switch", Case: "endpoints/locality-enabled"},
		}},
		{Message: "istio.networking.v1alpha3.LocalityLoadBalancerSetting.Distribute", Check: checkDistribute, Fields: []Field{
			{Name: "from", Feature: "the client's locality", Case: "endpoints/distribute"},
			{Name: "to", Feature: "weights of the endpoints' localities", Case: "endpoints/distribute"},
		}},
		{Message: "istio.networking.v1alpha3.LocalityLoadBalancerSetting.Failover", Check: checkFailover, Fields: []Field{
			{Name: "from", Feature: "the client's region", Case: "endpoints/failover"},
			{Name: "to", Feature: "the region that takes over", Case: "endpoints/failover"},
		}},
		{Message: "istio.networking.v1alpha3.ZoneAwareLoadBalancerSetting", Check: checkZoneAwareSetting, Fields: []Field{
			{Name: "enabled", Feature: "switch", Case: "endpoints/zoneAware-enabled"},
			{Name: "failover", Feature: "region that takes over", Case: "endpoints/zoneAware"},
			{Name: "failover_priority", Feature: "order by shared labels", Case: "endpoints/zoneAware-failoverPriority", Check: checkPriorityLabel},
			{Name: "min_cluster_size", Feature: "endpoints below which zones do not count", Case: "endpoints/zoneAware"},
		}},
		{Message: "istio.networking.v1alpha3.ZoneAwareLoadBalancerSetting.Failover", Check: checkFailover, Fields: []Field{
			{Name: "from", Feature: "the client's region", Case: "endpoints/zoneAware"},
			{Name: "to", Feature: "the region that takes over", Case: "endpoints/zoneAware"},
		}},
	}
}

func connectionPoolTables() []Table {
	return []Table{
		{Message: "istio.networking.v1alpha3.ConnectionPoolSettings", Check: checkConnectionPool, Fields: []Field{
			{Name: "tcp", Feature: "limits of connections", Case: "cluster/connectionPool-tcp"},
			{Name: "http", Feature: "limits of requests", Case: "cluster/connectionPool-http"},
		}},
		{Message: "istio.networking.v1alpha3.ConnectionPoolSettings.TCPSettings", Fields: []Field{
			{Name: "max_connections", Feature: "circuit breaker", Case: "cluster/connectionPool-tcp", Check: checkNotNegative},
			{Name: "connect_timeout", Feature: "connect timeout", Case: "cluster/connectionPool-tcp", Check: checkDuration},
			{Name: "tcp_keepalive", Feature: "TCP keepalive", Case: "cluster/tcpKeepalive"},
			{Name: "max_connection_duration", Feature: "lifetime of connections", Case: "cluster/connectionPool-tcp", Check: checkDuration},
			{Name: "idle_timeout", Feature: "idle timeout", Case: "cluster/connectionPool-tcp", Check: checkDurationOrZero},
		}},
		{Message: "istio.networking.v1alpha3.ConnectionPoolSettings.TCPSettings.TcpKeepalive", Fields: []Field{
			{Name: "probes", Feature: "unanswered probes until a connection is dead", Case: "cluster/tcpKeepalive"},
			{Name: "time", Feature: "idle time before the first probe", Case: "cluster/tcpKeepalive", Check: checkSeconds},
			{Name: "interval", Feature: "time between probes", Case: "cluster/tcpKeepalive", Check: checkSeconds},
		}},
		{Message: "istio.networking.v1alpha3.ConnectionPoolSettings.HTTPSettings", Check: checkHTTPPool, Fields: []Field{
			{Name: "http1_max_pending_requests", Feature: "circuit breaker", Case: "cluster/connectionPool-http", Check: checkNotNegative},
			{Name: "http2_max_requests", Feature: "circuit breaker", Case: "cluster/connectionPool-http", Check: checkNotNegative},
			{Name: "max_requests_per_connection", Feature: "requests that a connection carries", Case: "cluster/connectionPool-http", Check: checkNotNegative},
			{Name: "max_retries", Feature: "circuit breaker", Case: "cluster/connectionPool-http", Check: checkNotNegative},
			{Name: "idle_timeout", Feature: "idle timeout", Case: "cluster/connectionPool-http", Check: checkDurationOrZero},
			{Name: "h2_upgrade_policy", Feature: "HTTP/2 to services that do not name it", Case: "cluster/h2UpgradePolicy"},
			{Name: "use_client_protocol", Feature: "the client's protocol", Case: "cluster/useClientProtocol"},
			{Name: "max_concurrent_streams", Feature: "streams of an HTTP/2 connection", Case: "cluster/maxConcurrentStreams", Check: checkNotNegative},
			{Name: "http2_keep_alive", Feature: "HTTP/2 pings", Case: "cluster/http2KeepAlive"},
		}},
		{Message: "istio.networking.v1alpha3.ConnectionPoolSettings.HTTPSettings.ConnectionKeepalive", Check: checkPings, Fields: []Field{
			{Name: "interval", Feature: "time between pings", Case: "cluster/http2KeepAlive", Check: checkDuration},
			{Name: "timeout", Feature: "time to answer a ping", Case: "cluster/http2KeepAlive", Check: checkDuration},
		}},
		{Message: "istio.networking.v1alpha3.OutlierDetection", Check: checkOutlierDetection, Fields: []Field{
			{Name: "consecutive_errors", Feature: "deprecated; reported", Case: "cluster/outlierDetection-consecutiveErrors", Check: checkConsecutiveErrors},
			{Name: "split_external_local_origin_errors", Feature: "connection failures count on their own", Case: "cluster/outlierDetection-localOrigin"},
			{Name: "consecutive_local_origin_failures", Feature: "connection failures until ejection", Case: "cluster/outlierDetection-localOrigin"},
			{Name: "consecutive_gateway_errors", Feature: "502, 503 and 504 until ejection", Case: "cluster/outlierDetection"},
			{Name: "consecutive_5xx_errors", Feature: "5xx until ejection", Case: "cluster/outlierDetection"},
			{Name: "interval", Feature: "time between sweeps", Case: "cluster/outlierDetection", Check: checkDuration},
			{Name: "base_ejection_time", Feature: "time of a first ejection", Case: "cluster/outlierDetection", Check: checkDuration},
			{Name: "max_ejection_percent", Feature: "share of endpoints that may be ejected", Case: "cluster/outlierDetection", Check: checkPercent},
			{Name: "min_health_percent", Feature: "share of healthy endpoints below which health is ignored", Case: "cluster/outlierDetection", Check: checkPercent},
			{Name: "outlier_detection_http_error_codes", Feature: "responses that count as errors", Case: "cluster/outlierDetection-codes", Check: checkStatusCode},
		}},
	}
}

func clientTLSTables() []Table {
	return []Table{
		{Message: "istio.networking.v1alpha3.ClientTLSSettings", Check: checkClientTLS, Fields: []Field{
			{Name: "mode", Feature: "whether and how to originate TLS", Case: "cluster/tls-simple", Check: checkTLSMode},
			{Name: "client_certificate", Feature: "certificate file", Case: "cluster/tls-mutual"},
			{Name: "private_key", Feature: "key file", Case: "cluster/tls-mutual"},
			{Name: "ca_certificates", Feature: "file of authorities to trust", Case: "cluster/tls-mutual"},
			{Name: "credential_name", Feature: "credential from a Secret, over SDS", Case: "cluster/tls-credentialName"},
			{Name: "subject_alt_names", Feature: "names that the server may have", Case: "cluster/tls-subjectAltNames"},
			{Name: "sni", Feature: "SNI", Case: "cluster/tls-sni"},
			{Name: "insecure_skip_verify", Feature: "no check of the server's certificate", Case: "cluster/tls-insecureSkipVerify"},
			{Name: "ca_crl", Feature: "file of revoked certificates", Case: "cluster/tls-caCrl"},
		}},
	}
}
