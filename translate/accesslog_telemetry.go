package translate

import (
	"time"

	accesslog "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	grpclog "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	tracing "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	"google.golang.org/protobuf/types/known/durationpb"
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

var telemetryHTTPTags = []struct{ tag, value string }{
	{"grpc", "%GRPC_STATUS_NUMBER%"},
	{"type", "%REQ(CONTENT-TYPE)%"},
}

// telemetryLog sends entries to the agent beside a proxy, which makes Istio's
// standard metrics of them: a stock Envoy cannot.
func (e *listenerEnv) telemetryLog(place logPlace) *accesslog.AccessLog {
	name := "pilotfish-outbound"
	if e.side == Inbound {
		name = "pilotfish-inbound"
	}
	common := &grpclog.CommonGrpcAccessLogConfig{
		LogName:             name,
		TransportApiVersion: core.ApiVersion_V3,
		GrpcService: &core.GrpcService{TargetSpecifier: &core.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &core.GrpcService_EnvoyGrpc{ClusterName: telemetryCluster},
		}},
		BufferFlushInterval: durationpb.New(time.Second),
	}
	tags := telemetryTags
	if place == httpLog {
		tags = append(tags[:len(tags):len(tags)], telemetryHTTPTags...)
	}
	for _, t := range tags {
		common.CustomTags = append(common.CustomTags, &tracing.CustomTag{Tag: t.tag, Type: &tracing.CustomTag_Value{Value: t.value}})
	}
	if place == httpLog {
		return &accesslog.AccessLog{
			Name: "envoy.access_loggers.http_grpc",
			ConfigType: &accesslog.AccessLog_TypedConfig{
				TypedConfig: packed(&grpclog.HttpGrpcAccessLogConfig{CommonConfig: common}),
			},
		}
	}
	return &accesslog.AccessLog{
		Name: "envoy.access_loggers.tcp_grpc",
		ConfigType: &accesslog.AccessLog_TypedConfig{
			TypedConfig: packed(&grpclog.TcpGrpcAccessLogConfig{CommonConfig: common}),
		},
	}
}
