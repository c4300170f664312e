package translate

import (
	"math"
	"strings"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	trace "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	detectors "github.com/envoyproxy/go-control-plane/envoy/extensions/tracers/opentelemetry/resource_detectors/v3"
	samplers "github.com/envoyproxy/go-control-plane/envoy/extensions/tracers/opentelemetry/samplers/v3"
	xdstype "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	meshconfig "istio.io/api/mesh/v1alpha1"
)

// tracer is Envoy's part of a tracing provider.
type tracer struct {
	http *trace.Tracing_Http
	// cluster is where an older tracer sends to.
	cluster string
	// longestPath bounds the path in a span; 0 leaves ProxyConfig's bound.
	longestPath uint32
	// samples: the tracer decides itself what it samples.
	samples bool
}

// asked is the share of requests that a tracer is asked about: all, if it has a
// sampler of its own.
func (t *tracer) asked(share float64) float64 {
	if t.samples {
		return 100
	}
	return share
}

const (
	parentSampler = "envoy.tracers.opentelemetry.samplers.parent_based"
	ratioSampler  = "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based"

	zipkinTracer        = "envoy.tracers.zipkin"
	datadogTracer       = "envoy.tracers.datadog"
	skywalkingTracer    = "envoy.tracers.skywalking"
	opentelemetryTracer = "envoy.tracers.opentelemetry"
	// zipkinPath is that of Zipkin's API; zipkinTimeout is Envoy's default.
	zipkinPath    = "/api/v2/spans"
	zipkinTimeout = 5 * time.Second
	// httpTimeout is the API's default (HttpService.timeout).
	httpTimeout = 3 * time.Second
	// lightstepToken is the metadata by which Lightstep knows who sends.
	lightstepToken = "lightstep-access-token"
)

func tracerOf(name string, m proto.Message) *trace.Tracing_Http {
	return &trace.Tracing_Http{Name: name, ConfigType: &trace.Tracing_Http_TypedConfig{TypedConfig: packed(m)}}
}

// tracer makes the tracer of a provider that sends to a service of the mesh.
func (t *listenerTexts) tracer(p *extensionProviderSpec, to *site) *tracer {
	name := t.env.traits.ServiceCluster
	switch {
	case p.GetZipkin() != nil:
		return &tracer{http: tracerOf(zipkinTracer, t.zipkin(p.GetZipkin(), to)), longestPath: p.GetZipkin().GetMaxTagLength()}
	case p.GetDatadog() != nil:
		return &tracer{longestPath: p.GetDatadog().GetMaxTagLength(), http: tracerOf(datadogTracer, &trace.DatadogConfig{
			CollectorCluster: to.cluster(), CollectorHostname: to.host(), ServiceName: name,
		})}
	case p.GetSkywalking() != nil:
		out := &trace.SkyWalkingConfig{GrpcService: toService(to)}
		if token := p.GetSkywalking().GetAccessToken(); token != "" {
			out.ClientConfig = &trace.ClientConfig{BackendTokenSpecifier: &trace.ClientConfig_BackendToken{BackendToken: token}}
		}
		return &tracer{http: tracerOf(skywalkingTracer, out)}
	case p.GetOpentelemetry() != nil:
		o := p.GetOpentelemetry()
		m := t.opentelemetry(o, to)
		return &tracer{http: tracerOf(opentelemetryTracer, m), longestPath: o.GetMaxTagLength(), samples: m.GetSampler() != nil}
	}
	l := p.GetLightstep() //nolint:staticcheck // deprecated in the API, still in use
	return &tracer{http: tracerOf(opentelemetryTracer, lightstepOf(toService(to), name, l.GetAccessToken())), longestPath: l.GetMaxTagLength()}
}

// lightstepOf is what Lightstep takes by now: OpenTelemetry's protocol.
func lightstepOf(to *core.GrpcService, name, token string) *trace.OpenTelemetryConfig {
	to.InitialMetadata = []*core.HeaderValue{{Key: lightstepToken, Value: token}}
	return &trace.OpenTelemetryConfig{GrpcService: to, ServiceName: name}
}

func (t *listenerTexts) zipkin(p *meshconfig.MeshConfig_ExtensionProvider_ZipkinTracingProvider, to *site) *trace.ZipkinConfig {
	path := p.GetPath()
	if path == "" {
		path = zipkinPath
	}
	timeout := usable(p.GetTimeout())
	if timeout == nil {
		timeout = durationpb.New(zipkinTimeout)
	}
	out := &trace.ZipkinConfig{
		CollectorEndpointVersion: trace.ZipkinConfig_HTTP_JSON,
		TraceId_128Bit:           !p.GetEnable_64BitTraceId(),
		SharedSpanContext:        wrapperspb.Bool(false),
		CollectorService:         httpService(to, path, timeout, t.headers(p.GetHeaders(), true)),
	}
	if p.GetTraceContextOption() == meshconfig.MeshConfig_ExtensionProvider_ZipkinTracingProvider_USE_B3_WITH_W3C_PROPAGATION {
		out.TraceContextOption = trace.ZipkinConfig_USE_B3_WITH_W3C_PROPAGATION
	}
	return out
}

// headers are those of a provider's requests that have a value. One of a
// variable is secret, and taken as it is: formatted headers are those behind
// whose percent signs Envoy looks for variables of its own.
func (t *listenerTexts) headers(all []*meshconfig.MeshConfig_ExtensionProvider_HttpHeader, formatted bool) []*core.HeaderValue {
	var out []*core.HeaderValue
	for _, h := range all {
		value := h.GetValue()
		if name := h.GetEnvName(); name != "" && !t.env.traits.Unproven {
			value, _ = t.env.environment.Header(name)
			if formatted {
				value = strings.ReplaceAll(value, "%", "%%")
			}
		}
		if headerName.MatchString(h.GetName()) && value != "" {
			out = append(out, &core.HeaderValue{Key: h.GetName(), Value: value})
		}
	}
	return out
}

// httpService is an HTTP service of the mesh.
func httpService(to *site, path string, timeout *durationpb.Duration, headers []*core.HeaderValue) *core.HttpService {
	out := &core.HttpService{HttpUri: &core.HttpUri{
		Uri:              "http://" + to.host() + "/" + strings.TrimPrefix(path, "/"),
		HttpUpstreamType: &core.HttpUri_Cluster{Cluster: to.cluster()},
		Timeout:          timeout,
	}}
	for _, h := range headers {
		out.RequestHeadersToAdd = append(out.RequestHeadersToAdd, &core.HeaderValueOption{
			AppendAction: core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD, Header: h,
		})
	}
	return out
}

func httpTimeoutOf(d *durationpb.Duration) *durationpb.Duration {
	if d = usable(d); d == nil {
		return durationpb.New(httpTimeout)
	}
	return d
}

type otelProvider = meshconfig.MeshConfig_ExtensionProvider_OpenTelemetryTracingProvider

func (t *listenerTexts) opentelemetry(p *otelProvider, to *site) *trace.OpenTelemetryConfig {
	out := &trace.OpenTelemetryConfig{ServiceName: t.env.traits.ServiceCluster}
	if h := p.GetHttp(); h != nil {
		out.HttpService = httpService(to, h.GetPath(), httpTimeoutOf(h.GetTimeout()), t.headers(h.GetHeaders(), true))
	} else {
		out.GrpcService = toService(to)
		out.GrpcService.Timeout = usable(p.GetGrpc().GetTimeout())
		out.GrpcService.InitialMetadata = t.headers(p.GetGrpc().GetInitialMetadata(), false)
	}
	// Injection puts what serviceAttributeEnrichment asks for into the
	// environment.
	enriched := p.GetServiceAttributeEnrichment() == meshconfig.MeshConfig_ExtensionProvider_OTEL_SEMANTIC_CONVENTIONS
	if p.GetResourceDetectors().GetEnvironment() != nil || enriched {
		out.ResourceDetectors = append(out.ResourceDetectors, &core.TypedExtensionConfig{
			Name:        "envoy.tracers.opentelemetry.resource_detectors.environment",
			TypedConfig: packed(&detectors.EnvironmentResourceDetectorConfig{}),
		})
	}
	if p.GetResourceDetectors().GetDynatrace() != nil {
		out.ResourceDetectors = append(out.ResourceDetectors, &core.TypedExtensionConfig{
			Name:        "envoy.tracers.opentelemetry.resource_detectors.dynatrace",
			TypedConfig: packed(&detectors.DynatraceResourceDetectorConfig{}),
		})
	}
	switch s := p.GetDynatraceSampler(); {
	case s != nil:
		out.Sampler = t.dynatrace(p, s, to)
	case t.env.traits.FollowsParent:
		out.Sampler = followParent(t.share(t.env.telemetry.trace.sampling))
	}
	return out
}

// followParent samples what somebody before decided to sample, and a share of
// the rest (telemetry/v1alpha1 Tracing.randomSamplingPercentage). Without it
// Envoy's tracer drops by the share what was chosen before.
func followParent(percent float64) *core.TypedExtensionConfig {
	return &core.TypedExtensionConfig{Name: parentSampler, TypedConfig: packed(&samplers.ParentBasedSamplerConfig{
		WrappedSampler: &core.TypedExtensionConfig{Name: ratioSampler, TypedConfig: packed(&samplers.TraceIdRatioBasedSamplerConfig{
			SamplingPercentage: &xdstype.FractionalPercent{
				Numerator: uint32(math.Round(percent * 10_000)), Denominator: xdstype.FractionalPercent_MILLION, //nolint:gosec // from 0 to 1,000,000
			},
		})},
	})}
}

// dynatracePath is where Dynatrace says how much is to be sampled.
const dynatracePath = "/api/v2/samplingConfiguration"

// dynatrace is nil for a sampler that nobody tells how much to sample, which
// is a Problem.
func (t *listenerTexts) dynatrace(p *otelProvider, s *meshconfig.MeshConfig_ExtensionProvider_OpenTelemetryTracingProvider_DynatraceSampler, to *site) *core.TypedExtensionConfig {
	path, http := dynatracePath, p.GetHttp()
	if own := s.GetHttpService(); own != nil {
		to, path, http = t.env.telemetry.used[dynatraceName], own.GetHttp().GetPath(), own.GetHttp()
	}
	if http == nil || to == nil {
		return nil
	}
	t.refs.clusters = append(t.refs.clusters, to.cluster())
	return &core.TypedExtensionConfig{
		Name: "envoy.tracers.opentelemetry.samplers.dynatrace",
		TypedConfig: packed(&samplers.DynatraceSamplerConfig{
			Tenant: s.GetTenant(), ClusterId: s.GetClusterId(), RootSpansPerMinute: s.GetRootSpansPerMinute(),
			HttpService: httpService(to, path, httpTimeoutOf(http.GetTimeout()), t.headers(http.GetHeaders(), true)),
		}),
	}
}

// dynatraceName stands among the providers in use for the service that a
// Dynatrace sampler asks; no provider can have that name.
const dynatraceName = "\x00dynatrace"

// The clusters of the tracers that ProxyConfig.tracing has, by the names that
// Istio's bootstraps have for them.
const (
	zipkinCluster    = "zipkin"
	lightstepCluster = "lightstep"
	datadogCluster   = "datadog"
)

// olderTracer is that of ProxyConfig.tracing; nil without one that has an
// address.
func olderTracer(p *meshconfig.ProxyConfig, name string) *tracer {
	cluster, host, _ := olderTarget(p)
	switch cluster {
	case zipkinCluster:
		return &tracer{cluster: cluster, http: tracerOf(zipkinTracer, &trace.ZipkinConfig{
			CollectorCluster: cluster, CollectorEndpoint: zipkinPath, CollectorEndpointVersion: trace.ZipkinConfig_HTTP_JSON,
			CollectorHostname: host, TraceId_128Bit: true, SharedSpanContext: wrapperspb.Bool(false),
		})}
	case datadogCluster:
		return &tracer{cluster: cluster, http: tracerOf(datadogTracer, &trace.DatadogConfig{
			CollectorCluster: cluster, ServiceName: name, CollectorHostname: host,
		})}
	case lightstepCluster:
		to := &core.GrpcService{TargetSpecifier: &core.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &core.GrpcService_EnvoyGrpc{ClusterName: cluster, Authority: host},
		}}
		return &tracer{cluster: cluster, http: tracerOf(opentelemetryTracer, lightstepOf(to, name, p.GetTracing().GetLightstep().GetAccessToken()))}
	}
	return nil
}

// olderTarget is the cluster of ProxyConfig's tracer and where it is.
func olderTarget(p *meshconfig.ProxyConfig) (cluster, host string, port uint32) {
	t, address := p.GetTracing(), ""
	switch {
	case t.GetZipkin() != nil:
		cluster, address = zipkinCluster, t.GetZipkin().GetAddress()
	case t.GetDatadog() != nil:
		cluster, address = datadogCluster, t.GetDatadog().GetAddress()
	case t.GetLightstep() != nil:
		cluster, address = lightstepCluster, t.GetLightstep().GetAddress()
	case t.GetTracer() == nil:
		cluster, address = zipkinCluster, p.GetZipkinAddress() //nolint:staticcheck // deprecated in the API, still in use
	}
	host, port, ok := hostPort(address)
	if !ok {
		return "", "", 0
	}
	return cluster, host, port
}
