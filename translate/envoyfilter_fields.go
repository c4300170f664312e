package translate

import (
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
)

const noWaypoint = "pilotfish has no waypoints"

func envoyFilterTables() []Table {
	const of = "istio.networking.v1alpha3.EnvoyFilter"
	return slices.Concat([]Table{
		{Message: of, Check: checkEnvoyFilter, Fields: []Field{
			{Name: "workload_selector", Feature: "workloads by their labels", Case: "envoyfilter/workloadSelector"},
			{Name: "targetRefs", Feature: "the Gateways of the Gateway API that a workload serves", Case: "envoyfilter/targetRefs"},
			{Name: "config_patches", Feature: "patches of generated configuration", Case: "envoyfilter/httpFilter"},
			{Name: "priority", Feature: "order of EnvoyFilters", Case: "envoyfilter/priority"},
		}},
		{Message: of + ".EnvoyConfigObjectPatch", Check: checkPatch, Fields: []Field{
			{Name: "apply_to", Feature: "the part that is patched", Case: "envoyfilter/httpFilter"},
			{Name: "match", Feature: "where", Case: "envoyfilter/listenerMatch"},
			{Name: "patch", Feature: "what", Case: "envoyfilter/httpFilter"},
		}},
		{Message: of + ".EnvoyConfigObjectMatch", Fields: []Field{
			{Name: "context", Feature: "inbound, outbound, gateways", Case: "envoyfilter/context"},
			{Name: "proxy", Feature: "proxies by what they say of themselves", Case: "envoyfilter/proxy"},
			{Name: "listener", Feature: "listeners", Case: "envoyfilter/listenerMatch"},
			{Name: "route_configuration", Feature: "route tables", Case: "envoyfilter/routes"},
			{Name: "cluster", Feature: "clusters", Case: "envoyfilter/cluster"},
			{Name: "waypoint", Unsupported: noWaypoint},
		}},
		{Message: of + ".ProxyMatch", Fields: []Field{
			{Name: "proxy_version", Feature: "the proxy's version, by a regular expression", Case: "envoyfilter/proxy", Check: checkProxyVersion},
			{Name: "metadata", Feature: "the proxy's metadata", Case: "envoyfilter/proxy"},
		}},
		{Message: of + ".ClusterMatch", Fields: []Field{
			{Name: "port_number", Feature: "the service's port", Case: "envoyfilter/cluster", Check: checkPatchPort},
			{Name: "service", Feature: "the service's host", Case: "envoyfilter/cluster"},
			{Name: "subset", Feature: "the subset", Case: "envoyfilter/cluster"},
			{Name: "name", Feature: "the cluster's name", Case: "envoyfilter/clusterAddRemove"},
		}},
		{Message: of + ".RouteConfigurationMatch", Fields: []Field{
			{Name: "port_number", Feature: "the table's port", Case: "envoyfilter/routes", Check: checkPatchPort},
			{Name: "port_name", Feature: "the Gateway's port", Case: "envoyfilter/gateway"},
			{Name: "gateway", Feature: "the Gateway", Case: "envoyfilter/gateway", Check: checkGatewayOfPatch},
			{Name: "vhost", Feature: "virtual hosts", Case: "envoyfilter/routes"},
			{Name: "name", Feature: "the table's name", Case: "envoyfilter/routes"},
		}},
		{Message: of + ".RouteConfigurationMatch.VirtualHostMatch", Fields: []Field{
			{Name: "name", Feature: "the virtual host's name", Case: "envoyfilter/routes"},
			{Name: "domain_name", Feature: "one of its domains", Case: "envoyfilter/routes"},
			{Name: "route", Feature: "its routes", Case: "envoyfilter/routes"},
		}},
		{Message: of + ".RouteConfigurationMatch.RouteMatch", Fields: []Field{
			{Name: "name", Feature: "the route's name", Case: "envoyfilter/routes"},
			{Name: "action", Feature: "what the route does", Case: "envoyfilter/routes"},
		}},
		{Message: of + ".ListenerMatch", Fields: []Field{
			{Name: "port_number", Feature: "the port", Case: "envoyfilter/listenerMatch", Check: checkPatchPort},
			{Name: "port_name", Feature: "the name of a Service's or a Gateway's port, in any case", Case: "envoyfilter/listenerPortName"},
			{Name: "filter_chain", Feature: "filter chains", Case: "envoyfilter/listenerMatch"},
			{Name: "listener_filter", Feature: "listener filters", Case: "envoyfilter/listenerFilter"},
			{Name: "name", Feature: "the listener's name", Case: "envoyfilter/listenerMatch"},
		}},
		{Message: of + ".ListenerMatch.FilterChainMatch", Fields: []Field{
			{Name: "name", Feature: "the chain's name", Case: "envoyfilter/filterChain"},
			{Name: "sni", Feature: "a server name", Case: "envoyfilter/gateway"},
			{Name: "transport_protocol", Feature: "raw_buffer or tls", Case: "envoyfilter/filterChain"},
			{Name: "application_protocols", Feature: "ALPN", Case: "envoyfilter/filterChain"},
			{Name: "filter", Feature: "network filters", Case: "envoyfilter/networkFilter"},
			{Name: "destination_port", Feature: "the port that was meant", Case: "envoyfilter/listenerMatch", Check: checkPatchPort},
		}},
		{Message: of + ".ListenerMatch.FilterMatch", Fields: []Field{
			{Name: "name", Feature: "the network filter's name", Case: "envoyfilter/networkFilter"},
			{Name: "sub_filter", Feature: "HTTP filters", Case: "envoyfilter/httpFilter"},
		}},
		{Message: of + ".ListenerMatch.SubFilterMatch", Fields: []Field{
			{Name: "name", Feature: "the HTTP filter's name", Case: "envoyfilter/httpFilter"},
		}},
		{Message: of + ".Patch", Fields: []Field{
			{Name: "operation", Feature: "what is done", Case: "envoyfilter/httpFilter"},
			{Name: "value", Feature: "Envoy's configuration", Case: "envoyfilter/httpFilter"},
			{Name: "filter_class", Feature: "where ADD puts an HTTP filter", Case: "envoyfilter/filterClass"},
		}},
	}, waypointTables(of))
}

// waypointTables are those of what only waypoints could have.
func waypointTables(of protoreflect.FullName) []Table {
	return []Table{
		{Message: of + ".WaypointMatch", Fields: []Field{
			{Name: "port_number", Unsupported: noWaypoint},
			{Name: "route", Unsupported: noWaypoint},
			{Name: "filter", Unsupported: noWaypoint},
		}},
		{Message: of + ".WaypointMatch.RouteMatch", Fields: []Field{{Name: "name", Unsupported: noWaypoint}}},
		{Message: of + ".WaypointMatch.FilterMatch", Fields: []Field{
			{Name: "name", Unsupported: noWaypoint}, {Name: "sub_filter", Unsupported: noWaypoint},
		}},
		{Message: of + ".WaypointMatch.FilterMatch.SubFilterMatch", Fields: []Field{{Name: "name", Unsupported: noWaypoint}}},
	}
}

func proxyConfigKindTables() []Table {
	const elsewhere = "webhook/inject"
	return []Table{
		{Message: "istio.networking.v1beta1.ProxyConfig", Fields: []Field{
			{Name: "selector", Feature: "pods by their labels", Elsewhere: elsewhere},
			{Name: "concurrency", Feature: "the proxy's threads", Elsewhere: elsewhere, Check: checkConcurrency},
			{Name: "environment_variables", Feature: "variables of the proxy", Elsewhere: elsewhere},
			{Name: "image", Feature: "the proxy's image", Elsewhere: elsewhere},
		}},
	}
}
