package translate

import (
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	upstreams "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

const (
	httpOptionsName = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
	// Names resolve at slightly different times, so that a thousand proxies
	// do not ask at once.
	dnsJitter = 100 * time.Millisecond
	// A resolver socket that lives for too many queries sticks to one source
	// port, which some servers throttle.
	caresQueriesPerSocket = 100
)

// httpOptions returns the draft's HTTP options, made when first asked for.
func (d *clusterDraft) httpOptions() *upstreams.HttpProtocolOptions {
	if d.http == nil {
		d.http = &upstreams.HttpProtocolOptions{}
	}
	return d.http
}

// protocol says which HTTP version the endpoints speak. Without options it is
// HTTP/1.1; ports without a protocol speak what the client speaks, except at
// gateways, whose clients' choice says nothing about the service.
func (d *clusterDraft) protocol() {
	switch {
	case d.port.Protocol.IsHTTP2():
		d.httpOptions().UpstreamProtocolOptions = explicitHTTP2()
	case d.port.Protocol == config.ProtocolUnset && !d.traits.gateway:
		d.useClientProtocol()
	case d.traits.keepCase && (d.port.Protocol.IsHTTP() || d.port.Protocol == config.ProtocolUnset):
		d.httpOptions().UpstreamProtocolOptions = explicitHTTP1(d.http1Options())
	}
}

func explicitHTTP1(o *core.Http1ProtocolOptions) *upstreams.HttpProtocolOptions_ExplicitHttpConfig_ {
	return &upstreams.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &upstreams.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &upstreams.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: o},
		},
	}
}

func explicitHTTP2() *upstreams.HttpProtocolOptions_ExplicitHttpConfig_ {
	return &upstreams.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &upstreams.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &upstreams.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
				Http2ProtocolOptions: &core.Http2ProtocolOptions{},
			},
		},
	}
}

func clientProtocol(o *core.Http1ProtocolOptions) *upstreams.HttpProtocolOptions_UseDownstreamProtocolConfig {
	return &upstreams.HttpProtocolOptions_UseDownstreamProtocolConfig{
		UseDownstreamProtocolConfig: &upstreams.HttpProtocolOptions_UseDownstreamHttpConfig{
			HttpProtocolOptions:  o,
			Http2ProtocolOptions: &core.Http2ProtocolOptions{},
		},
	}
}

func (d *clusterDraft) useClientProtocol() {
	d.httpOptions().UpstreamProtocolOptions = clientProtocol(d.http1Options())
}

func (d *clusterDraft) http1Options() *core.Http1ProtocolOptions {
	return http1Options(d.traits.keepCase)
}

// http1Options are Envoy's defaults, or those that hand on each header name in
// the case it came in.
func http1Options(keepCase bool) *core.Http1ProtocolOptions {
	o := &core.Http1ProtocolOptions{}
	if keepCase {
		o.HeaderKeyFormat = preserveCase()
	}
	return o
}

// http2 returns the options of a cluster that always speaks HTTP/2, or nil.
func (d *clusterDraft) http2() *core.Http2ProtocolOptions {
	return d.http.GetExplicitHttpConfig().GetHttp2ProtocolOptions()
}

// upgrade turns HTTP/1.1 into HTTP/2 where the rule or the mesh says so
// (h2UpgradePolicy). The mesh's word counts for HTTP ports only, the rule's
// for every port: its author knows the service.
func (d *clusterDraft) upgrade() {
	pool := d.policy.GetConnectionPool().GetHttp()
	if d.inbound || pool.GetUseClientProtocol() {
		return
	}
	wanted := d.port.Protocol.IsHTTP() && d.settings.Mesh.GetH2UpgradePolicy() == meshconfig.MeshConfig_UPGRADE
	switch pool.GetH2UpgradePolicy() {
	case networking.ConnectionPoolSettings_HTTPSettings_UPGRADE:
		wanted = true
	case networking.ConnectionPoolSettings_HTTPSettings_DO_NOT_UPGRADE:
		wanted = false
	}
	if wanted {
		d.httpOptions().UpstreamProtocolOptions = explicitHTTP2()
	}
}
