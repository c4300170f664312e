package translate

import (
	"strings"

	accesslog "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	file "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	grpclog "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	meshconfig "istio.io/api/mesh/v1alpha1"
)

// logPlace is what writes an access log entry.
type logPlace int

const (
	httpLog     logPlace = iota // one entry per request
	tcpLog                      // one entry per connection
	listenerLog                 // connections that no filter chain took
)

// logsListener reports whether a listener logs connections that it drops. Of
// outbound ones only virtualOutbound does: the others take over its
// connections.
func (e *listenerEnv) logsListener(d *draft) bool {
	if e.mesh.GetDisableEnvoyListenerLog() {
		return false
	}
	return e.side != Outbound || d.original == handOff
}

// accessLogs are the logs of one place: those of the providers in effect, or
// the mesh's log file and log service where no provider is named.
func (t *listenerTexts) accessLogs(place logPlace) []*accesslog.AccessLog {
	e := &t.env
	var out []*accesslog.AccessLog
	if !e.telemetry.logs.said {
		if path := e.mesh.GetAccessLogFile(); path != "" {
			out = append(out, fileLog(path, e.meshLogFormat()))
		}
		if _, _, ok := logsTo(e.mesh, e.proxy); ok {
			out = append(out, serviceLog(place))
		}
	}
	for _, r := range e.telemetry.logs.rules {
		if l := t.providerLog(r.provider, place); l != nil {
			l.Filter = expressionFilter(r.filter)
			out = append(out, l)
		}
	}
	switch {
	case place == listenerLog:
		for _, l := range out {
			l.Filter = both(unmatchedOnly(), l.Filter)
		}
	case e.countsConnections() && place == tcpLog:
		for _, l := range out {
			l.Filter = both(endsOnly(), l.Filter)
		}
	}
	if place != listenerLog {
		out = append(out, e.telemetryLog(place)...)
	}
	return out
}

// providerLog is the log of one provider; nil where it takes none of the
// place.
func (t *listenerTexts) providerLog(name string, place logPlace) *accesslog.AccessLog {
	p := provider(t.env.mesh, name)
	to := t.env.telemetry.used[name]
	if to != nil {
		t.refs.clusters = append(t.refs.clusters, to.cluster())
	}
	switch {
	case p.GetEnvoyFileAccessLog() != nil:
		return t.env.fileProviderLog(name, p.GetEnvoyFileAccessLog())
	case to == nil:
		return nil
	case p.GetEnvoyHttpAls() != nil && place != tcpLog:
		return httpServiceLog(p.GetEnvoyHttpAls(), to, place)
	case p.GetEnvoyTcpAls() != nil && place != httpLog:
		return tcpServiceLog(p.GetEnvoyTcpAls(), to, place)
	case p.GetEnvoyOtelAls() != nil:
		return otelLog(p.GetEnvoyOtelAls(), to)
	}
	return nil
}

type fileLogProvider = meshconfig.MeshConfig_ExtensionProvider_EnvoyFileAccessLogProvider

// unmatchedOnly keeps entries of connections that no filter chain took; those
// of others are written by the chain.
func unmatchedOnly() *accesslog.AccessLogFilter {
	return &accesslog.AccessLogFilter{FilterSpecifier: &accesslog.AccessLogFilter_ResponseFlagFilter{
		ResponseFlagFilter: &accesslog.ResponseFlagFilter{Flags: []string{"NR"}},
	}}
}

func fileLog(path string, format *core.SubstitutionFormatString) *accesslog.AccessLog {
	return typedLog("envoy.access_loggers.file", &file.FileAccessLog{
		Path: path, AccessLogFormat: &file.FileAccessLog_LogFormat{LogFormat: format},
	})
}

// meshLogFormat is MeshConfig.accessLogFormat in accessLogEncoding.
func (e *listenerEnv) meshLogFormat() *core.SubstitutionFormatString {
	format := e.mesh.GetAccessLogFormat()
	if e.mesh.GetAccessLogEncoding() != meshconfig.MeshConfig_JSON {
		return textLogFormat(format)
	}
	fields := &structpb.Struct{}
	if format == "" || protojson.Unmarshal([]byte(format), fields) != nil {
		fields = defaultLogFields() // a malformed format is a Problem of the mesh config
	}
	return jsonLogFormat(fields)
}

func (e *listenerEnv) fileProviderLog(name string, p *fileLogProvider) *accesslog.AccessLog {
	path := p.GetPath()
	if path == "" {
		path = "/dev/stdout"
	}
	var format *core.SubstitutionFormatString
	switch {
	case p.GetLogFormat().GetLabels() != nil && len(p.GetLogFormat().GetLabels().GetFields()) > 0:
		format = jsonLogFormat(p.GetLogFormat().GetLabels())
	case p.GetLogFormat().GetLabels() != nil:
		format = jsonLogFormat(defaultLogFields())
	case p.GetLogFormat() != nil:
		format = textLogFormat(p.GetLogFormat().GetText())
	case name == builtinLog && !p.GetOmitEmptyValues():
		format = e.meshLogFormat()
	default:
		format = textLogFormat("")
	}
	format.OmitEmptyValues = p.GetOmitEmptyValues()
	return fileLog(path, format)
}

func textLogFormat(format string) *core.SubstitutionFormatString {
	switch {
	case format == "" || logFault(format) != "": // a Problem of the mesh config
		format = defaultLogText
	case !strings.HasSuffix(format, "\n"):
		format += "\n"
	}
	return &core.SubstitutionFormatString{
		Format: &core.SubstitutionFormatString_TextFormatSource{TextFormatSource: &core.DataSource{
			Specifier: &core.DataSource_InlineString{InlineString: format},
		}},
		Formatters: logFormatters(format),
	}
}

func jsonLogFormat(fields *structpb.Struct) *core.SubstitutionFormatString {
	if fieldsFault(structpb.NewStructValue(fields)) != "" { // a Problem of the mesh config
		fields = defaultLogFields()
	}
	return &core.SubstitutionFormatString{
		Format:     &core.SubstitutionFormatString_JsonFormat{JsonFormat: fields},
		Formatters: logFormatters(textsOf(structpb.NewStructValue(fields))...),
	}
}

// logNames are those that services are told if nobody says others.
var logNames = map[logPlace]string{
	httpLog: "http_envoy_accesslog", tcpLog: "tcp_envoy_accesslog", listenerLog: "listener_envoy_accesslog",
}

// serviceLog sends entries to the proxy's log service.
func serviceLog(place logPlace) *accesslog.AccessLog {
	common := &grpclog.CommonGrpcAccessLogConfig{
		LogName:             logNames[place],
		TransportApiVersion: core.ApiVersion_V3,
		GrpcService: &core.GrpcService{TargetSpecifier: &core.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &core.GrpcService_EnvoyGrpc{ClusterName: alsCluster},
		}},
	}
	if place == httpLog {
		return httpGRPCLog(&grpclog.HttpGrpcAccessLogConfig{CommonConfig: common})
	}
	return tcpGRPCLog(common)
}

func httpGRPCLog(m *grpclog.HttpGrpcAccessLogConfig) *accesslog.AccessLog {
	return typedLog("envoy.access_loggers.http_grpc", m)
}

func tcpGRPCLog(common *grpclog.CommonGrpcAccessLogConfig) *accesslog.AccessLog {
	return typedLog("envoy.access_loggers.tcp_grpc", &grpclog.TcpGrpcAccessLogConfig{CommonConfig: common})
}

func typedLog(name string, m proto.Message) *accesslog.AccessLog {
	return &accesslog.AccessLog{Name: name, ConfigType: &accesslog.AccessLog_TypedConfig{TypedConfig: packed(m)}}
}
