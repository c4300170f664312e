package translate

func sidecarTables() []Table {
	return []Table{
		{Message: "istio.networking.v1alpha3.Sidecar", Check: checkSidecar, Fields: []Field{
			{Name: "workload_selector", Feature: "workloads by their labels", Case: "sidecar/workload_selector"},
			{Name: "ingress", Feature: "ports that the workload serves", Case: "sidecar/ingress"},
			{Name: "egress", Feature: "services in reach", Case: "sidecar/egress_hosts"},
			{Name: "inbound_connection_pool", Feature: "limits of connections to the application", Case: "sidecar/connection_pool"},
			{Name: "outbound_traffic_policy", Feature: "connections to unknown destinations", Case: "sidecar/outbound_traffic_policy"},
		}},
		{Message: "istio.networking.v1alpha3.WorkloadSelector", Check: checkSelectorLabels, Fields: []Field{
			{Name: "labels", Feature: "labels that a workload must have", Case: "sidecar/workload_selector", Check: checkSelectorValue},
		}},
		{Message: "istio.networking.v1alpha3.IstioIngressListener", Check: checkIngress, Fields: []Field{
			{Name: "port", Feature: "port that connections arrive at", Case: "sidecar/ingress"},
			{Name: "bind", Feature: "address to listen on", Case: "sidecar/ingress_bind", Check: checkAddress},
			{Name: "capture_mode", Feature: "redirected or a socket of its own", Case: "sidecar/ingress_bind"},
			{Name: "default_endpoint", Feature: "where the application listens", Case: "sidecar/ingress_default_endpoint", Check: checkDefaultEndpoint},
			{Name: "tls", Feature: "TLS from outside the mesh", Case: "sidecar/ingress_tls"},
			{Name: "connection_pool", Feature: "limits of connections to the application", Case: "sidecar/connection_pool"},
		}},
		{Message: "istio.networking.v1alpha3.IstioEgressListener", Check: checkEgress, Fields: []Field{
			{Name: "port", Feature: "port that clients connect to", Case: "sidecar/egress_port"},
			{Name: "bind", Feature: "address or socket to listen on", Case: "sidecar/egress_bind", Check: checkBind},
			{Name: "capture_mode", Feature: "redirected or a socket of its own", Case: "sidecar/egress_capture_mode"},
			{Name: "hosts", Feature: "services by namespace and name", Case: "sidecar/egress_hosts", Check: checkEgressHost},
		}},
		{Message: "istio.networking.v1alpha3.SidecarPort", Fields: []Field{
			{Name: "number", Feature: "the port; 0 for a Unix domain socket", Case: "sidecar/egress_unix"},
			{Name: "protocol", Feature: "requests or connections", Case: "sidecar/egress_http_proxy", Check: checkListenerProtocol},
			{Name: "name", Feature: "name of the port in statistics", Case: "sidecar/ingress_stat_name"},
			{Name: "target_port", Unsupported: "it is deprecated and has no effect in Istio either; use defaultEndpoint"},
		}},
		{Message: "istio.networking.v1alpha3.OutboundTrafficPolicy", Check: checkOutboundPolicy, Fields: []Field{
			{Name: "mode", Feature: "refuse or let through", Case: "sidecar/outbound_traffic_policy"},
			{Name: "egress_proxy", Feature: "proxy for unknown destinations", Case: "sidecar/egress_proxy"},
		}},
	}
}
