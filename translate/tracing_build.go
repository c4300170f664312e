package translate

import (
	"slices"

	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	uuid "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"
	tags "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	xdstype "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
	telemetry "istio.io/api/telemetry/v1alpha1"
)

// defaultSampling is Istio's, in percent.
const defaultSampling = 1.0

// tracing makes spans of a chain's requests.
func (t *listenerTexts) tracing(m *hcm.HttpConnectionManager) {
	e := &t.env
	if !e.telemetry.traces(e.mesh, e.proxy) {
		return
	}
	if r := &e.telemetry.trace; r.said {
		t.tracingByRule(m, r)
		return
	}
	tracer := olderTracer(e.proxy, e.traits.ServiceCluster)
	t.refs.clusters = append(t.refs.clusters, tracer.cluster)
	on := e.proxy.GetTracing().GetEnableIstioTags()
	m.Tracing = &hcm.HttpConnectionManager_Tracing{Provider: tracer.http}
	t.sampling(m.Tracing, t.share(nil))
	t.spanTags(m.Tracing, on == nil || on.GetValue(), nil)
	t.longestPath(m.Tracing, 0)
}

func (t *listenerTexts) tracingByRule(m *hcm.HttpConnectionManager, r *traceRule) {
	to := t.env.telemetry.used[r.provider]
	p := provider(t.env.mesh, r.provider)
	tracer := t.tracer(p, to)
	t.refs.clusters = append(t.refs.clusters, to.cluster())
	out := &hcm.HttpConnectionManager_Tracing{Provider: tracer.http, NoContextPropagation: r.noPropagation}
	// A gateway is a hop of its own, and Skywalking's spans have an entry and an exit:
	// both get a span for the request to the upstream besides that of the one received.
	if t.env.side == GatewaySide || p.GetSkywalking() != nil {
		out.SpawnUpstreamSpan = wrapperspb.Bool(true)
	}
	t.sampling(out, tracer.asked(t.share(r.sampling)))
	t.spanTags(out, r.istioTags, r.tags)
	t.longestPath(out, tracer.longestPath)
	m.Tracing = out
	if !r.requestID {
		m.RequestIdExtension = &hcm.RequestIDExtension{TypedConfig: packed(&uuid.UuidRequestIdConfig{
			UseRequestIdForTraceSampling: wrapperspb.Bool(false),
		})}
	}
}

// share is how much is traced of what nobody before decided about, in percent:
// as the rule says, or ProxyConfig.
func (t *listenerTexts) share(rule *float64) float64 {
	own := t.env.proxy.GetTracing().GetSampling()
	switch {
	case rule != nil:
		return *rule
	case own > 0 && own <= 100:
		return own
	}
	return defaultSampling
}

func (t *listenerTexts) sampling(out *hcm.HttpConnectionManager_Tracing, percent float64) {
	out.ClientSampling = &xdstype.Percent{Value: 100}
	out.OverallSampling = &xdstype.Percent{Value: 100}
	out.RandomSampling = &xdstype.Percent{Value: percent}
}

func (t *listenerTexts) longestPath(out *hcm.HttpConnectionManager_Tracing, provider uint32) {
	if provider == 0 {
		provider = t.env.proxy.GetTracing().GetMaxPathTagLength()
	}
	if provider != 0 {
		out.MaxPathTagLength = wrapperspb.UInt32(provider)
	}
}

// spanTags adds Istio's tags, and the rule's or else ProxyConfig's, as far as the
// Envoy knows their kinds.
func (t *listenerTexts) spanTags(out *hcm.HttpConnectionManager_Tracing, istio bool, own map[string]*telemetry.Tracing_CustomTag) {
	t.allSpanTags(out, istio, own)
	if t.env.traits.PlainTags {
		out.CustomTags = slices.DeleteFunc(out.CustomTags, func(tag *tags.CustomTag) bool {
			_, format := tag.GetType().(*tags.CustomTag_Value)
			return format
		})
	}
}

func (t *listenerTexts) allSpanTags(out *hcm.HttpConnectionManager_Tracing, istio bool, own map[string]*telemetry.Tracing_CustomTag) {
	if istio {
		out.CustomTags = append(out.CustomTags, istioTags...)
		if slices.ContainsFunc(t.env.policies.access.policies, dryRun) {
			out.CustomTags = append(out.CustomTags, dryRunTags...)
		}
	}
	for _, name := range sortedKeys(own) {
		if tag := spanTag(name, own[name]); tag != nil {
			out.CustomTags = append(out.CustomTags, tag)
		}
	}
	if len(own) > 0 {
		return
	}
	older := t.env.proxy.GetTracing().GetCustomTags()
	for _, name := range sortedKeys(older) {
		if tag := olderTag(name, older[name]); tag != nil {
			out.CustomTags = append(out.CustomTags, tag)
		}
	}
}
