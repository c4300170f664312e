package translate

import (
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	meshconfig "istio.io/api/mesh/v1alpha1"
)

type connectionSettings = meshconfig.ProxyConfig_ConnectionSettings

var underscoreActions = map[meshconfig.ProxyConfig_ConnectionSettings_HeadersWithUnderscoresAction]core.HttpProtocolOptions_HeadersWithUnderscoresAction{
	meshconfig.ProxyConfig_ConnectionSettings_HEADERS_WITH_UNDERSCORES_ALLOW:          core.HttpProtocolOptions_ALLOW,
	meshconfig.ProxyConfig_ConnectionSettings_HEADERS_WITH_UNDERSCORES_REJECT_REQUEST: core.HttpProtocolOptions_REJECT_REQUEST,
	meshconfig.ProxyConfig_ConnectionSettings_HEADERS_WITH_UNDERSCORES_DROP_HEADER:    core.HttpProtocolOptions_DROP_HEADER,
}

var escapedSlashActions = map[meshconfig.ProxyConfig_ConnectionSettings_PathWithEscapedSlashesAction]hcm.HttpConnectionManager_PathWithEscapedSlashesAction{
	meshconfig.ProxyConfig_ConnectionSettings_KEEP_UNCHANGED:        hcm.HttpConnectionManager_KEEP_UNCHANGED,
	meshconfig.ProxyConfig_ConnectionSettings_REJECT_REQUEST:        hcm.HttpConnectionManager_REJECT_REQUEST,
	meshconfig.ProxyConfig_ConnectionSettings_UNESCAPE_AND_REDIRECT: hcm.HttpConnectionManager_UNESCAPE_AND_REDIRECT,
	meshconfig.ProxyConfig_ConnectionSettings_UNESCAPE_AND_FORWARD:  hcm.HttpConnectionManager_UNESCAPE_AND_FORWARD,
}

func (e *listenerEnv) settings() *connectionSettings { return settingsFor(e.side, e.proxy, e.mesh) }

// settingsFor are ProxyConfig.connectionSettings, with the defaults of the EDGE
// profile on gateways (mesh/v1alpha1 ProxyConfig.ConnectionSettings.Profile).
func settingsFor(side Side, proxy *meshconfig.ProxyConfig, mesh *meshconfig.MeshConfig) *connectionSettings {
	cs := proxy.GetConnectionSettings()
	if cs == nil {
		cs = mesh.GetDefaultConfig().GetConnectionSettings()
	}
	if cs == nil || cs.GetProfile() != meshconfig.ProxyConfig_ConnectionSettings_EDGE || side != GatewaySide {
		return cs
	}
	edge := edgeSettings()
	// A field that is set replaces the default whole, also by zero.
	cs.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		edge.ProtoReflect().Set(fd, v)
		return true
	})
	return edge
}

func edgeSettings() *connectionSettings {
	return &connectionSettings{
		ListenerPerConnectionBufferLimitBytes: wrapperspb.Int32(32 << 10),
		ClusterPerConnectionBufferLimitBytes:  wrapperspb.Int32(32 << 10),
		HttpIdleTimeout:                       durationpb.New(time.Hour),
		HttpStreamIdleTimeout:                 durationpb.New(5 * time.Minute),
		HttpRequestTimeout:                    durationpb.New(5 * time.Minute),
		HttpRequestHeadersTimeout:             durationpb.New(time.Minute),
		HttpMaxConcurrentStreams:              wrapperspb.Int32(100),
		Http2InitialStreamWindowSize:          wrapperspb.Int32(64 << 10),
		Http2InitialConnectionWindowSize:      wrapperspb.Int32(1 << 20),
		HttpHeadersWithUnderscoresAction:      meshconfig.ProxyConfig_ConnectionSettings_HEADERS_WITH_UNDERSCORES_REJECT_REQUEST,
		HttpMergeSlashes:                      wrapperspb.Bool(true),
		HttpPathWithEscapedSlashesAction:      meshconfig.ProxyConfig_ConnectionSettings_UNESCAPE_AND_REDIRECT,
	}
}

// connectionSettings applies ProxyConfig.connectionSettings, which override
// the mesh's path normalization.
func (e *listenerEnv) connectionSettings(m *hcm.HttpConnectionManager) {
	cs := e.settings()
	if cs == nil {
		return
	}
	common := &core.HttpProtocolOptions{
		IdleTimeout:                  usable(cs.GetHttpIdleTimeout()),
		MaxConnectionDuration:        usable(cs.GetHttpMaxConnectionDuration()),
		MaxStreamDuration:            usable(cs.GetHttpMaxStreamDuration()),
		HeadersWithUnderscoresAction: underscoreActions[cs.GetHttpHeadersWithUnderscoresAction()],
	}
	if proto.Size(common) > 0 {
		m.CommonHttpProtocolOptions = common
	}
	if d := usable(cs.GetHttpStreamIdleTimeout()); d != nil {
		m.StreamIdleTimeout = d
	}
	m.RequestTimeout = usable(cs.GetHttpRequestTimeout())
	m.RequestHeadersTimeout = usable(cs.GetHttpRequestHeadersTimeout())
	m.DrainTimeout = usable(cs.GetHttpDrainTimeout())
	h2 := &core.Http2ProtocolOptions{
		MaxConcurrentStreams:        natural(cs.GetHttpMaxConcurrentStreams()),
		InitialStreamWindowSize:     window(cs.GetHttp2InitialStreamWindowSize()),
		InitialConnectionWindowSize: window(cs.GetHttp2InitialConnectionWindowSize()),
	}
	if proto.Size(h2) > 0 {
		m.Http2ProtocolOptions = h2
	}
	if cs.GetHttpMergeSlashes() != nil {
		m.MergeSlashes = cs.GetHttpMergeSlashes().GetValue()
	}
	if a, ok := escapedSlashActions[cs.GetHttpPathWithEscapedSlashesAction()]; ok {
		m.PathWithEscapedSlashesAction = a
	}
}

// natural is the value unsigned, nil for an unset or negative one.
func natural(v *wrapperspb.Int32Value) *wrapperspb.UInt32Value {
	if v == nil || v.GetValue() < 0 {
		return nil
	}
	return wrapperspb.UInt32(uint32(v.GetValue()))
}

// window is the value unsigned, nil below the least that HTTP/2 starts with.
func window(v *wrapperspb.Int32Value) *wrapperspb.UInt32Value {
	if v.GetValue() < leastWindow {
		return nil
	}
	return natural(v)
}

// leastWindow is the initial flow-control window (RFC 9113 section 6.9.2),
// below which Envoy does not go.
const leastWindow = 65535

// usable is the duration, nil for one that no timer can have.
func usable(d *durationpb.Duration) *durationpb.Duration {
	if d.CheckValid() != nil || d.AsDuration() < 0 {
		return nil
	}
	return d
}
