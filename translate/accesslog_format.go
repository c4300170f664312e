package translate

import (
	"slices"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	formatcel "github.com/envoyproxy/go-control-plane/envoy/extensions/formatter/cel/v3"
	formatmetadata "github.com/envoyproxy/go-control-plane/envoy/extensions/formatter/metadata/v3"
	withoutquery "github.com/envoyproxy/go-control-plane/envoy/extensions/formatter/req_without_query/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// defaultLogText is Istio's documented default text format; log pipelines
// parse it, so it is an interface.
const defaultLogText = `[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" ` +
	`%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ` +
	`"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ` +
	`%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ` +
	`"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% ` +
	`%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ` +
	`%REQUESTED_SERVER_NAME% %ROUTE_NAME%` + "\n"

// defaultLogFields is the same in JSON, by the field names that Istio
// documents.
func defaultLogFields() *structpb.Struct {
	fields := map[string]*structpb.Value{}
	for name, operator := range map[string]string{
		"start_time":                        "%START_TIME%",
		"route_name":                        "%ROUTE_NAME%",
		"method":                            "%REQ(:METHOD)%",
		"path":                              "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
		"protocol":                          "%PROTOCOL%",
		"response_code":                     "%RESPONSE_CODE%",
		"response_flags":                    "%RESPONSE_FLAGS%",
		"response_code_details":             "%RESPONSE_CODE_DETAILS%",
		"connection_termination_details":    "%CONNECTION_TERMINATION_DETAILS%",
		"bytes_received":                    "%BYTES_RECEIVED%",
		"bytes_sent":                        "%BYTES_SENT%",
		"duration":                          "%DURATION%",
		"upstream_service_time":             "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
		"x_forwarded_for":                   "%REQ(X-FORWARDED-FOR)%",
		"user_agent":                        "%REQ(USER-AGENT)%",
		"request_id":                        "%REQ(X-REQUEST-ID)%",
		"authority":                         "%REQ(:AUTHORITY)%",
		"upstream_host":                     "%UPSTREAM_HOST%",
		"upstream_cluster":                  "%UPSTREAM_CLUSTER_RAW%",
		"upstream_local_address":            "%UPSTREAM_LOCAL_ADDRESS%",
		"downstream_local_address":          "%DOWNSTREAM_LOCAL_ADDRESS%",
		"downstream_remote_address":         "%DOWNSTREAM_REMOTE_ADDRESS%",
		"requested_server_name":             "%REQUESTED_SERVER_NAME%",
		"upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
	} {
		fields[name] = structpb.NewStringValue(operator)
	}
	return &structpb.Struct{Fields: fields}
}

// logFormatters are the extensions that a format's operators need.
func logFormatters(texts ...string) []*core.TypedExtensionConfig {
	var out []*core.TypedExtensionConfig
	for _, f := range []struct {
		operator, name string
		config         proto.Message
	}{
		{"%REQ_WITHOUT_QUERY", "envoy.formatter.req_without_query", &withoutquery.ReqWithoutQuery{}},
		{"%METADATA(", "envoy.formatter.metadata", &formatmetadata.Metadata{}},
		{"%CEL(", "envoy.formatter.cel", &formatcel.Cel{CelConfig: stringFunctions}},
	} {
		if slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(t, f.operator) }) {
			out = append(out, &core.TypedExtensionConfig{Name: f.name, TypedConfig: packed(f.config)})
		}
	}
	return out
}

// textsOf are all texts in a value.
func textsOf(v *structpb.Value) []string {
	out := []string{v.GetStringValue()}
	for _, name := range sortedKeys(v.GetStructValue().GetFields()) {
		out = append(out, textsOf(v.GetStructValue().GetFields()[name])...)
	}
	for _, e := range v.GetListValue().GetValues() {
		out = append(out, textsOf(e)...)
	}
	return out
}
