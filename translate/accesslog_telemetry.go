package translate

import (
	"slices"
	"time"

	accesslog "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	grpclog "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	grpcstats "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// telemetryCluster is the bootstrap's cluster of the agent that makes metrics
// of the log; telemetryTags are what it reads in each entry, by the names that
// it knows.
const telemetryCluster = "pilotfish-telemetry"

var telemetryTags = []struct{ tag, value string }{
	{"flags", "%RESPONSE_FLAGS%"},
	{"downstream", "%DOWNSTREAM_PEER_URI_SAN%"},
	{"upstream", "%UPSTREAM_PEER_URI_SAN%"},
	{"services", "%CLUSTER_METADATA(istio:services)%"},
	{"workload", "%UPSTREAM_METADATA(istio:workload)%"},
}

var telemetryTCPTags = []struct{ tag, value string }{
	{"connection", "%CONNECTION_ID%"},
}

var telemetryHTTPTags = []struct{ tag, value string }{
	{"grpc", "%GRPC_STATUS_NUMBER%"},
	{"type", "%REQ(CONTENT-TYPE)%"},
	{"messages", "%FILTER_STATE(envoy.filters.http.grpc_stats:PLAIN)%"},
}

// makesMetrics reports whether an agent makes the metrics of a proxy's log:
// where Envoy has Istio's filter it does so itself.
func (e *listenerEnv) makesMetrics() bool {
	return e.traits.Telemetry && !e.traits.IstioFilters && e.telemetry.metrics.on
}

// countsConnections reports whether metrics of connections are made.
func (e *listenerEnv) countsConnections() bool {
	return e.makesMetrics() && !e.telemetry.metrics.without(connectionMetrics)
}

// telemetryLog sends entries to the agent beside a proxy, which makes Istio's
// standard metrics of them: a stock Envoy cannot. What is not as usual about
// the metrics stands behind the log's name, which is told once a stream.
func (e *listenerEnv) telemetryLog(place logPlace) []*accesslog.AccessLog {
	metrics := requestMetrics
	if place == tcpLog {
		metrics = connectionMetrics
	}
	if !e.makesMetrics() || e.telemetry.metrics.without(metrics) {
		return nil
	}
	name := "pilotfish-outbound"
	if e.side == Inbound {
		name = "pilotfish-inbound"
	}
	changes, values := e.telemetry.metrics.changes(metrics)
	name += changes
	common := &grpclog.CommonGrpcAccessLogConfig{
		LogName:             name,
		TransportApiVersion: core.ApiVersion_V3,
		GrpcService: &core.GrpcService{TargetSpecifier: &core.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &core.GrpcService_EnvoyGrpc{ClusterName: telemetryCluster},
		}},
		BufferFlushInterval: durationpb.New(time.Second),
	}
	tags := slices.Concat(telemetryTags, telemetryHTTPTags)
	if place == tcpLog {
		tags = slices.Concat(telemetryTags, telemetryTCPTags)
	}
	for _, t := range tags {
		common.CustomTags = append(common.CustomTags, valueTag(t.tag, t.value))
	}
	for i, value := range values {
		common.CustomTags = append(common.CustomTags, valueTag(valueTagName(i), value))
	}
	if place == httpLog {
		return []*accesslog.AccessLog{httpGRPCLog(&grpclog.HttpGrpcAccessLogConfig{CommonConfig: common})}
	}
	return []*accesslog.AccessLog{tcpGRPCLog(common)}
}

// grpcStatsFilter counts the messages of gRPC requests, for the log.
func (e *listenerEnv) grpcStatsFilter() []*hcm.HttpFilter {
	if !e.makesMetrics() && !e.countsInside() || e.telemetry.metrics.without(messageMetrics) {
		return nil
	}
	return httpFilter("envoy.filters.http.grpc_stats", &grpcstats.FilterConfig{
		EmitFilterState:        true,
		PerMethodStatSpecifier: &grpcstats.FilterConfig_StatsForAllMethods{StatsForAllMethods: wrapperspb.Bool(false)},
	})
}
