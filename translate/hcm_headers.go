package translate

import (
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	casing "github.com/envoyproxy/go-control-plane/envoy/extensions/http/header_formatters/preserve_case/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
	meshconfig "istio.io/api/mesh/v1alpha1"
)

// serverName is what responses of gateways and of inbound sidecars say in
// their server header; outbound they keep Envoy's own name.
const serverName = "istio-envoy"

var forwardCertDetails = map[meshconfig.ForwardClientCertDetails]hcm.HttpConnectionManager_ForwardClientCertDetails{
	meshconfig.ForwardClientCertDetails_SANITIZE:            hcm.HttpConnectionManager_SANITIZE,
	meshconfig.ForwardClientCertDetails_FORWARD_ONLY:        hcm.HttpConnectionManager_FORWARD_ONLY,
	meshconfig.ForwardClientCertDetails_APPEND_FORWARD:      hcm.HttpConnectionManager_APPEND_FORWARD,
	meshconfig.ForwardClientCertDetails_SANITIZE_SET:        hcm.HttpConnectionManager_SANITIZE_SET,
	meshconfig.ForwardClientCertDetails_ALWAYS_FORWARD_ONLY: hcm.HttpConnectionManager_ALWAYS_FORWARD_ONLY,
}

// proxyHeaders applies ProxyConfig.proxyHeaders and gatewayTopology: what the
// proxy adds to, keeps of and removes from headers.
func (e *listenerEnv) proxyHeaders(m *hcm.HttpConnectionManager, from Side) {
	ph := e.proxy.GetProxyHeaders()
	if from != Outbound {
		m.ServerName = serverName
	}
	switch {
	case ph.GetServer().GetDisabled().GetValue():
		m.ServerName = ""
		m.ServerHeaderTransformation = hcm.HttpConnectionManager_PASS_THROUGH
	case ph.GetServer().GetValue() != "":
		m.ServerName = ph.GetServer().GetValue()
	}
	if ph.GetRequestId().GetDisabled().GetValue() {
		m.GenerateRequestId = wrapperspb.Bool(false)
	}
	m.AppendXForwardedPort = ph.GetXForwardedPort().GetEnabled().GetValue()
	if ph.GetPreserveHttp1HeaderCase().GetValue() {
		if m.HttpProtocolOptions == nil {
			m.HttpProtocolOptions = &core.Http1ProtocolOptions{}
		}
		m.HttpProtocolOptions.HeaderKeyFormat = preserveCase()
	}
	switch from {
	case Inbound:
		e.inboundCertDetails(m)
	case GatewaySide:
		e.gatewayTopology(m)
	}
}

func preserveCase() *core.Http1ProtocolOptions_HeaderKeyFormat {
	return &core.Http1ProtocolOptions_HeaderKeyFormat{
		HeaderFormat: &core.Http1ProtocolOptions_HeaderKeyFormat_StatefulFormatter{
			StatefulFormatter: &core.TypedExtensionConfig{
				Name:        "envoy.http.stateful_header_formatters.preserve_case",
				TypedConfig: packed(&casing.PreserveCaseFormatterConfig{}),
			},
		},
	}
}

// inboundCertDetails says what the application learns of the caller's
// certificate.
func (e *listenerEnv) inboundCertDetails(m *hcm.HttpConnectionManager) {
	ph := e.proxy.GetProxyHeaders()
	m.ForwardClientCertDetails = hcm.HttpConnectionManager_APPEND_FORWARD
	if d, ok := forwardCertDetails[ph.GetForwardedClientCert()]; ok {
		m.ForwardClientCertDetails = d
	}
	set := ph.GetSetCurrentClientCertDetails()
	m.SetCurrentClientCertDetails = &hcm.HttpConnectionManager_SetCurrentClientCertDetails{
		Subject: wrapperspb.Bool(set.GetSubject() == nil || set.GetSubject().GetValue()),
		Uri:     set.GetUri() == nil || set.GetUri().GetValue(),
		Dns:     set.GetDns() == nil || set.GetDns().GetValue(),
		Cert:    set.GetCert().GetValue(),
		Chain:   set.GetChain().GetValue(),
	}
}

// gatewayTopology says which of the headers that come from outside are
// believed.
func (e *listenerEnv) gatewayTopology(m *hcm.HttpConnectionManager) {
	top := e.proxy.GetGatewayTopology()
	m.XffNumTrustedHops = top.GetNumTrustedProxies()
	m.ForwardClientCertDetails = hcm.HttpConnectionManager_SANITIZE_SET
	if d, ok := forwardCertDetails[top.GetForwardClientCertDetails()]; ok {
		m.ForwardClientCertDetails = d
	}
	switch m.ForwardClientCertDetails {
	case hcm.HttpConnectionManager_APPEND_FORWARD, hcm.HttpConnectionManager_SANITIZE_SET:
		m.SetCurrentClientCertDetails = &hcm.HttpConnectionManager_SetCurrentClientCertDetails{
			Subject: wrapperspb.Bool(true), Cert: true, Dns: true, Uri: true,
		}
	}
}
