package translate

import (
	accesslog "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	data "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	celfilter "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	grpclog "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	otellog "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/open_telemetry/v3"
	otlp "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/types/known/structpb"
	meshconfig "istio.io/api/mesh/v1alpha1"
)

// toService is a gRPC service of the mesh.
func toService(to *site) *core.GrpcService {
	return &core.GrpcService{TargetSpecifier: &core.GrpcService_EnvoyGrpc_{
		EnvoyGrpc: &core.GrpcService_EnvoyGrpc{ClusterName: to.cluster(), Authority: to.host()},
	}}
}

func logTo(name string, to *site, place logPlace, state []string) *grpclog.CommonGrpcAccessLogConfig {
	if name == "" {
		name = logNames[place]
	}
	return &grpclog.CommonGrpcAccessLogConfig{
		LogName: name, GrpcService: toService(to), TransportApiVersion: core.ApiVersion_V3, FilterStateObjectsToLog: state,
	}
}

func httpServiceLog(p *meshconfig.MeshConfig_ExtensionProvider_EnvoyHttpGrpcV3LogProvider, to *site, place logPlace) *accesslog.AccessLog {
	return httpGRPCLog(&grpclog.HttpGrpcAccessLogConfig{
		CommonConfig:                    logTo(p.GetLogName(), to, place, p.GetFilterStateObjectsToLog()),
		AdditionalRequestHeadersToLog:   p.GetAdditionalRequestHeadersToLog(),
		AdditionalResponseHeadersToLog:  p.GetAdditionalResponseHeadersToLog(),
		AdditionalResponseTrailersToLog: p.GetAdditionalResponseTrailersToLog(),
	})
}

func tcpServiceLog(p *meshconfig.MeshConfig_ExtensionProvider_EnvoyTcpGrpcV3LogProvider, to *site, place logPlace) *accesslog.AccessLog {
	return tcpGRPCLog(logTo(p.GetLogName(), to, place, p.GetFilterStateObjectsToLog()))
}

// otelLogName is that of logs in OpenTelemetry's protocol if nobody says
// another.
const otelLogName = "otel_envoy_accesslog"

func otelLog(p *meshconfig.MeshConfig_ExtensionProvider_EnvoyOpenTelemetryLogProvider, to *site) *accesslog.AccessLog {
	name := p.GetLogName()
	if name == "" {
		name = otelLogName
	}
	text := p.GetLogFormat().GetText()
	if text == "" || logFault(text) != "" { // a Problem of the mesh config
		text = defaultLogText
	}
	out := &otellog.OpenTelemetryAccessLogConfig{
		CommonConfig: logTo(name, to, httpLog, nil), //nolint:staticcheck // the form that older Envoys know, too
		Body:         &otlp.AnyValue{Value: &otlp.AnyValue_StringValue{StringValue: text}},
	}
	texts := []string{text}
	if labels := p.GetLogFormat().GetLabels(); len(labels.GetFields()) > 0 && fieldsFault(structpb.NewStructValue(labels)) == "" {
		out.Attributes = &otlp.KeyValueList{Values: attributes(labels)}
		texts = append(texts, textsOf(structpb.NewStructValue(labels))...)
	}
	out.Formatters = logFormatters(texts...)
	return typedLog("envoy.access_loggers.open_telemetry", out)
}

// attributes are the fields as OpenTelemetry has them, sorted.
func attributes(s *structpb.Struct) []*otlp.KeyValue {
	var out []*otlp.KeyValue
	for _, k := range sortedKeys(s.GetFields()) {
		out = append(out, &otlp.KeyValue{Key: k, Value: attribute(s.GetFields()[k])})
	}
	return out
}

// attribute is a value as far as Envoy's logger reads one: texts, and lists of
// named ones. It takes numbers and truths for texts.
func attribute(v *structpb.Value) *otlp.AnyValue {
	text := v.GetStringValue()
	switch k := v.GetKind().(type) {
	case *structpb.Value_StructValue:
		return &otlp.AnyValue{Value: &otlp.AnyValue_KvlistValue{KvlistValue: &otlp.KeyValueList{Values: attributes(k.StructValue)}}}
	case *structpb.Value_ListValue:
		list := &otlp.ArrayValue{}
		for _, e := range k.ListValue.GetValues() {
			list.Values = append(list.Values, attribute(e))
		}
		return &otlp.AnyValue{Value: &otlp.AnyValue_ArrayValue{ArrayValue: list}}
	case *structpb.Value_NumberValue, *structpb.Value_BoolValue:
		b, _ := v.MarshalJSON() // a number or a truth always has a form
		text = string(b)
	}
	return &otlp.AnyValue{Value: &otlp.AnyValue_StringValue{StringValue: text}}
}

// stringFunctions lets filters and formats of logs call them.
var stringFunctions = &core.CelExpressionConfig{EnableStringConversion: true, EnableStringConcat: true, EnableStringFunctions: true}

// expressionFilter is telemetry/v1alpha1 AccessLogging.filter. The check keeps
// resources out of effect whose expression Envoy cannot have.
func expressionFilter(expression string) *accesslog.AccessLogFilter {
	if expression == "" || parseCEL(expression).fault != "" {
		return nil
	}
	return &accesslog.AccessLogFilter{FilterSpecifier: &accesslog.AccessLogFilter_ExtensionFilter{
		ExtensionFilter: &accesslog.ExtensionFilter{
			Name: "envoy.access_loggers.extension_filters.cel",
			ConfigType: &accesslog.ExtensionFilter_TypedConfig{TypedConfig: packed(&celfilter.ExpressionFilter{
				Expression: expression, CelConfig: stringFunctions,
			})},
		},
	}}
}

func both(a, b *accesslog.AccessLogFilter) *accesslog.AccessLogFilter {
	if b == nil {
		return a
	}
	return &accesslog.AccessLogFilter{FilterSpecifier: &accesslog.AccessLogFilter_AndFilter{
		AndFilter: &accesslog.AndFilter{Filters: []*accesslog.AccessLogFilter{a, b}},
	}}
}

// endsOnly keeps the entries at a connection's end: those at its beginning and
// while it lasts are for metrics.
func endsOnly() *accesslog.AccessLogFilter {
	return &accesslog.AccessLogFilter{FilterSpecifier: &accesslog.AccessLogFilter_LogTypeFilter{
		LogTypeFilter: &accesslog.LogTypeFilter{
			Types: []data.AccessLogType{data.AccessLogType_TcpUpstreamConnected, data.AccessLogType_TcpPeriodic}, Exclude: true,
		},
	}}
}
