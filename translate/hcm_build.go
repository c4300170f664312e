package translate

import (
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	meshconfig "istio.io/api/mesh/v1alpha1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

const hcmFilterName = "envoy.filters.network.http_connection_manager"

// httpChain is what a filter chain that routes requests does.
type httpChain struct {
	// routes names the RouteConfiguration that comes over RDS. Inbound chains
	// have inline routes instead.
	routes string
	inline *inlineRoutes
	// statPrefix without its delimiter.
	statPrefix string
	// from is the side of the proxy that requests come in at.
	from Side
	// protocol is what the port says; Unset where it is sniffed or mixed.
	protocol config.Protocol
	// absoluteURLs: the clients take the listener for an HTTP proxy.
	absoluteURLs bool
	http3        bool
	// dynamic are the wildcard hosts in reach whose names Envoy resolves
	// itself when a request asks for one.
	dynamic []string
}

func (c *httpChain) addTo(h config.Hasher) {
	h.Str(c.routes, c.statPrefix, string(c.protocol)).Uint(uint64(c.from))
	h.Uint(uint64(len(c.dynamic))).Str(c.dynamic...)
	h.Bool(c.absoluteURLs).Bool(c.http3).Bool(c.inline != nil)
	if c.inline != nil {
		c.inline.addTo(h)
	}
}

// hcm makes the HTTP connection manager of a chain.
func (t *listenerTexts) hcm(c *httpChain) *hcm.HttpConnectionManager {
	m := &hcm.HttpConnectionManager{
		CodecType:         hcm.HttpConnectionManager_AUTO,
		StatPrefix:        delimited(c.statPrefix),
		UseRemoteAddress:  wrapperspb.Bool(c.from == GatewaySide),
		UpgradeConfigs:    []*hcm.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		StreamIdleTimeout: durationpb.New(0),
		AccessLog:         t.accessLogs(httpLog),
		HttpFilters:       t.httpFilters(c),
	}
	if c.http3 {
		m.CodecType = hcm.HttpConnectionManager_HTTP3
		m.Http3ProtocolOptions = &core.Http3ProtocolOptions{}
	}
	if c.absoluteURLs {
		m.HttpProtocolOptions = &core.Http1ProtocolOptions{AllowAbsoluteUrl: wrapperspb.Bool(true)}
	}
	normalizePaths(m, t.env.mesh.GetPathNormalization().GetNormalization())
	t.env.proxyHeaders(m, c.from)
	t.env.connectionSettings(m)
	t.tracing(m)
	t.routeSource(m, c)
	return m
}

func (t *listenerTexts) routeSource(m *hcm.HttpConnectionManager, c *httpChain) {
	if c.inline != nil {
		rc := c.inline.routeConfiguration()
		t.refs.clusters = append(t.refs.clusters, c.inline.cluster)
		m.RouteSpecifier = &hcm.HttpConnectionManager_RouteConfig{RouteConfig: rc}
		return
	}
	t.refs.routes = append(t.refs.routes, c.routes)
	m.RouteSpecifier = &hcm.HttpConnectionManager_Rds{Rds: &hcm.Rds{
		ConfigSource: adsConfig(), RouteConfigName: c.routes,
	}}
}

// delimited ends a stat prefix so that it can be told from the statistic's
// own name, as the stat tag expressions of Istio's bootstrap expect it.
func delimited(prefix string) string { return prefix + ";" }

// normalizePaths applies MeshConfig.pathNormalization.
func normalizePaths(m *hcm.HttpConnectionManager, n meshconfig.MeshConfig_ProxyPathNormalization_NormalizationType) {
	m.NormalizePath = wrapperspb.Bool(n != meshconfig.MeshConfig_ProxyPathNormalization_NONE)
	m.PathWithEscapedSlashesAction = hcm.HttpConnectionManager_KEEP_UNCHANGED
	switch n {
	case meshconfig.MeshConfig_ProxyPathNormalization_MERGE_SLASHES:
		m.MergeSlashes = true
	case meshconfig.MeshConfig_ProxyPathNormalization_DECODE_AND_MERGE_SLASHES:
		m.MergeSlashes = true
		m.PathWithEscapedSlashesAction = hcm.HttpConnectionManager_UNESCAPE_AND_FORWARD
	}
}

// inlineRoutes are the routes of an inbound port: everything goes to the
// application.
type inlineRoutes struct {
	cluster string
	// virtualHost and operation (what a trace calls it) name the service's
	// port, not the application's.
	virtualHost string
	operation   string
	// retries are of requests that the application has seen nothing of: it may
	// have closed a connection at the moment at which one was sent on it.
	retries bool
}

func (r *inlineRoutes) addTo(h config.Hasher) {
	h.Str(r.cluster, r.virtualHost, r.operation).Bool(r.retries)
}

func (r *inlineRoutes) routeConfiguration() *route.RouteConfiguration {
	// The caller's side has set the deadlines; this side adds none.
	none := durationpb.New(0)
	var retry *route.RetryPolicy
	if r.retries {
		retry = &route.RetryPolicy{RetryOn: "reset-before-request", NumRetries: wrapperspb.UInt32(2)}
	}
	return &route.RouteConfiguration{
		Name:             r.cluster,
		ValidateClusters: wrapperspb.Bool(false),
		VirtualHosts: []*route.VirtualHost{{
			Name:    r.virtualHost,
			Domains: []string{"*"},
			Routes: []*route.Route{{
				Name:      "default",
				Match:     &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: "/"}},
				Decorator: &route.Decorator{Operation: r.operation},
				Action: &route.Route_Route{Route: &route.RouteAction{
					ClusterSpecifier: &route.RouteAction_Cluster{Cluster: r.cluster},
					Timeout:          none,
					RetryPolicy:      retry,
					MaxStreamDuration: &route.RouteAction_MaxStreamDuration{
						MaxStreamDuration: none, GrpcTimeoutHeaderMax: none,
					},
				}},
			}},
		}},
	}
}
