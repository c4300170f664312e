package main

import "github.com/grafana/grafana-foundation-sdk/go/dashboard"

func controlPlane() *dashboard.DashboardBuilder {
	b := board("control-plane", "Control plane", "Configuration on its way to the proxies, certificates, webhooks.").
		WithVariable(choice("pod", "Replica", `label_values(istiod_uptime_seconds, pod)`, true))
	const pod = `pod=~"$pod"`
	every := func(metric string) string { return rate(metric, pod) }
	row(b, "Configuration", panels{
		number("Connected proxies", "short", "", "sum(pilot_xds{"+pod+"})"),
		judged(number("Errors in the configuration", "short", "Problems of severity error, at present. /debug/problems tells which.",
			`max(sum by (pod) (pilotfish_problems{severity="error", `+pod+`}))`), 1, false),
		judged(number("Rejections", "short", "Responses that proxies have rejected in the last hour.", `sum(increase(pilot_total_xds_rejects{`+pod+`}[1h]))`), 1, false),
		judged(number("Convergence, p99", "s", "From noticing a change until a proxy that it concerns has acknowledged all of it.",
			quantile("0.99", "", "pilot_proxy_convergence_time", pod)), 10, false),
		judged(number("Signing certificate", "s", "Until the first certificate of the signing chain ends.",
			`min(citadel_server_cert_chain_expiry_timestamp{`+pod+`} > 0) - time()`), 7*24*3600, true),
		number("Up for", "s", "", `min(istiod_uptime_seconds{`+pod+`})`),
	})
	row(b, "Proxies", panels{
		graph("Connected proxies", "short", "By the version that they say they are.", query{`sum by (version) (pilot_xds{` + pod + `})`, "{{version}}"}),
		graph("Responses", "ops", "By type.", query{sum("type", every("pilot_xds_pushes")), "{{type}}"}),
		graph("Rejections", "ops", "Responses that proxies rejected, by type.", query{sum("type", every("pilot_total_xds_rejects")), "{{type}}"}),
		graph("Convergence", "s", "From noticing a change until a proxy that it concerns has acknowledged all of it.",
			query{quantile("0.5", "", "pilot_proxy_convergence_time", pod), "p50"}, query{quantile("0.99", "", "pilot_proxy_convergence_time", pod), "p99"},
			query{quantile("0.99", "", "pilot_proxy_queue_time", pod), "p99 of waiting"}),
		heat("Time to compose a response", "s", "", "pilot_xds_push_time", pod),
		heat("Size of responses", "bytes", "", "pilot_xds_config_size_bytes", pod),
		graph("Unanswered, stale and shed", "ops", "Responses without an answer, answers about older responses, streams refused or ended by a limit.",
			query{sum("", every("pilotfish_xds_unanswered_total")), "unanswered"}, query{or0(sum("", every("pilot_xds_expired_nonce"))), "stale"},
			query{sum("limit", every("pilotfish_xds_shed_total")), "shed: {{limit}}"}),
		graph("Failures of sending", "ops", "", query{sum("", every("pilot_total_xds_internal_errors")), "errors"}, query{sum("", every("pilot_xds_write_timeout")), "clients that do not read"}),
		graph("Work saved", "ops", "Classes of proxies that a change concerned, by whether they had to be translated.",
			query{sum("result", every("pilotfish_xds_class_refreshes_total")), "{{result}}"}, query{sum("", every("pilotfish_xds_coalesced_total")), "coalesced views"}),
	})
	row(b, "Sources", panels{
		graph("Changes", "ops", "By what in the mesh had changed.", query{sum("type", every("pilot_push_triggers")), "{{type}}"}),
		graph("Kubernetes' objects", "ops", "", query{sum("type, event", every("pilot_k8s_reg_events")), "{{type}} {{event}}"}),
		graph("Istio's objects", "ops", "", query{sum("type, event", every("pilot_k8s_cfg_events")), "{{type}} {{event}}"}),
		listing("Problems", "What is wrong at present, by code and kind of the object.", map[string]string{"severity": "Severity", "code": "Code", "kind": "Kind"},
			column{"Problems", "short", `max by (severity, code, kind) (pilotfish_problems{code!="", ` + pod + `})`}).Span(16),
		graph("Keys of token issuers", "ops", "", query{sum("", every("pilot_jwks_resolver_network_fetch_success_total")), "fetched"},
			query{sum("", every("pilot_jwks_resolver_network_fetch_fail_total")), "failed"}).Height(9),
	})
	row(b, "Certificates and webhooks", panels{
		graph("Certificates", "ops", "", query{sum("", every("citadel_server_success_cert_issuance_count")), "issued"},
			query{sum("", every("citadel_server_authentication_failure_count")), "caller not known"},
			query{sum("", every("citadel_server_id_extraction_err_count")), "name not proven"},
			query{sum("", every("citadel_server_csr_parsing_err_count")), "request not readable"}),
		graph("Injection", "ops", "", query{sum("", every("sidecar_injection_success_total")), "injected"},
			query{sum("", every("sidecar_injection_skip_total")), "left alone"}, query{sum("", every("sidecar_injection_failure_total")), "failed"}),
		graph("Validation", "ops", "", query{or0(sum("", every("galley_validation_passed"))), "passed"}, query{or0(sum("", every("galley_validation_failed"))), "refused"},
			query{sum("", every("galley_validation_http_error")), "not readable"}),
	})
	const app = `app="istiod", ` + pod
	row(b, "Resources", panels{
		graph("CPU", "short", "Cores.", query{sum("pod", rate("process_cpu_seconds_total", app)), "{{pod}}"}),
		graph("Memory", "bytes", "", query{`sum by (pod) (process_resident_memory_bytes{` + app + `})`, "{{pod}} resident"},
			query{`sum by (pod) (go_memstats_heap_inuse_bytes{` + app + `})`, "{{pod}} heap"}),
		graph("Goroutines", "short", "", query{`sum by (pod) (go_goroutines{` + app + `})`, "{{pod}}"}),
	})
	return b
}

func proxies() *dashboard.DashboardBuilder {
	b := board("proxies", "Proxies", "What the proxies cost, and how they are.").
		WithVariable(choice("namespace", "Namespace", `label_values(envoy_server_live, namespace)`, true)).
		WithVariable(choice("pod", "Pod", `label_values(envoy_server_live{namespace=~"$namespace"}, pod)`, true))
	const of = `namespace=~"$namespace", pod=~"$pod"`
	row(b, "Cost", panels{
		graph("CPU of Envoy", "short", "Cores.", query{sum("pod", rate("pilotfish_proxy_process_cpu_seconds_total", of)), "{{pod}}"}),
		graph("CPU for 1,000 requests a second", "short", "Cores of Envoy, for its requests in and out.",
			query{sum("pod", rate("pilotfish_proxy_process_cpu_seconds_total", of)) + " / (" + sum("pod", rate(requests, of)) + " > 0) * 1000", "{{pod}}"}),
		graph("Memory of Envoy", "bytes", "", query{`sum by (pod) (pilotfish_proxy_process_resident_memory_bytes{` + of + `})`, "{{pod}}"},
			query{`sum by (pod) (envoy_server_memory_allocated{` + of + `})`, "{{pod}} allocated"}),
	})
	row(b, "State", panels{
		judged(number("Proxies", "short", "", `count(envoy_server_live{`+of+`} == 1)`), 1, true),
		judged(number("Without the control plane", "short", "Proxies that have no connection to it.",
			`count(envoy_cluster_upstream_cx_active{cluster_name="xds-grpc", `+of+`} == 0) or vector(0)`), 1, false),
		judged(number("Next certificate to end", "s", "The least time that a workload's certificate has left. They are renewed at half of their life.",
			`min(istio_agent_cert_expiry_seconds{resource_name="default", `+of+`})`), 3600, true),
		judged(number("Failed certificate requests", "short", "In the last hour.", `sum(increase(istio_agent_num_failed_outgoing_requests{`+of+`}[1h]))`), 1, false),
		number("Connections", "short", "That clients have to the proxies.", `sum(envoy_server_total_connections{`+of+`})`),
		number("Versions", "short", "Of the proxies.", `count(count by (tag) (istio_build{component="proxy", `+of+`}))`),
		graph("Life left of certificates", "percentunit", "They are renewed at half of their life.",
			query{`min by (pod) (istio_agent_cert_expiry_seconds{resource_name="default", ` + of + `} / on (namespace, pod) pilotfish_agent_cert_lifetime_seconds{` + of + `})`, "{{pod}}"}).Max(1),
		graph("Updates of configuration", "ops", "", query{sum("pod", rate("envoy_cluster_manager_cds_update_success", of)), "{{pod}} clusters"},
			query{sum("pod", rate("envoy_listener_manager_lds_update_success", of)), "{{pod}} listeners"}),
		graph("Refused configuration", "ops", "", query{sum("pod", rate("envoy_cluster_manager_cds_update_rejected", of)), "{{pod}} clusters"},
			query{sum("pod", rate("envoy_listener_manager_lds_update_rejected", of)), "{{pod}} listeners"}),
	})
	return b
}
