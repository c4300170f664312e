package translate

import (
	"strings"

	meshconfig "istio.io/api/mesh/v1alpha1"
	telemetry "istio.io/api/telemetry/v1alpha1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// traceRule says where spans go and of which requests. Without said, nobody
// has asked for any by name, and ProxyConfig.tracing counts.
type traceRule struct {
	said     bool
	provider string // empty: no spans
	disabled bool
	// sampling is in percent; nil leaves ProxyConfig's.
	sampling *float64
	// tags replace those of ProxyConfig unless they are nil.
	tags          map[string]*telemetry.Tracing_CustomTag
	requestID     bool // sampling follows the request's id
	istioTags     bool
	noPropagation bool
}

// traceRule follows telemetry/v1alpha1 Tracing: what an entry says goes
// before what those above it said, field by field, and tags replace all tags.
func (s *settler) traceRule(sources []*config.Telemetry) traceRule {
	mesh := s.ix.mesh.Settings.Mesh
	out := traceRule{requestID: true, istioTags: true}
	if on := mesh.GetDefaultConfig().GetTracing().GetEnableIstioTags(); on != nil {
		out.istioTags = on.GetValue()
	}
	defaults := mesh.GetDefaultProviders().GetTracing()
	out.said = len(defaults) > 0
	if names := s.usable(defaults, useTracing); len(names) > 0 {
		out.provider = names[0]
	}
	for _, t := range sources {
		for _, e := range t.Spec.GetTracing() {
			out.said = true
			names, counts := s.named(e.GetProviders(), useTracing)
			if counts && inMode(e.GetMatch().GetMode(), s.mode) {
				out.take(names, e)
			}
		}
	}
	return out
}

func (r *traceRule) take(names []string, e *telemetry.Tracing) {
	if len(names) > 0 {
		r.provider = names[0] // one at a time, says the API
	}
	if e.GetDisableSpanReporting() != nil {
		r.disabled = e.GetDisableSpanReporting().GetValue()
	}
	if e.GetCustomTags() != nil {
		r.tags = e.GetCustomTags()
	}
	if p := e.GetRandomSamplingPercentage(); p != nil {
		v := min(max(p.GetValue(), 0), 100)
		r.sampling = &v
	}
	if e.GetUseRequestIdForTraceSampling() != nil {
		r.requestID = e.GetUseRequestIdForTraceSampling().GetValue()
	}
	if e.GetEnableIstioTags() != nil {
		r.istioTags = e.GetEnableIstioTags().GetValue()
	}
	if e.GetDisableContextPropagation() != nil {
		r.noPropagation = e.GetDisableContextPropagation().GetValue()
	}
}

// traces reports whether proxies make spans of requests. Listeners and routes
// (the operations' names) go by it alike.
func (r *telemetryRules) traces(mesh *meshconfig.MeshConfig, proxy *meshconfig.ProxyConfig) bool {
	if r.trace.said {
		return !r.trace.disabled && r.used[r.trace.provider] != nil
	}
	cluster, _, _ := olderTarget(proxy)
	return mesh.GetEnableTracing() && cluster != ""
}

// tracedAs is a proxy's service cluster if a tracer of it wants to be told;
// others, such as Zipkin's, read it off Envoy. Classes are shared where nobody
// asks.
func (ix *Index) tracedAs(p *config.Proxy) string {
	mesh := ix.mesh.Settings.Mesh
	asks := false
	for _, x := range mesh.GetExtensionProviders() {
		asks = asks || asksName(x)
	}
	if asks {
		sources := ix.telemetriesFor(p.Namespace, p.Labels)
		for _, mode := range []telemetry.WorkloadMode{telemetry.WorkloadMode_CLIENT, telemetry.WorkloadMode_SERVER} {
			s := &settler{ix: ix, mode: mode, namespace: p.Namespace, used: map[string]*site{}}
			if r := s.traceRule(sources); r.said && !r.disabled && asksName(provider(mesh, r.provider)) {
				return p.ServiceCluster
			}
		}
	}
	if !mesh.GetEnableTracing() {
		return ""
	}
	own := p.Raw["PROXY_CONFIG"]
	if !strings.Contains(own, `"tracing"`) { // it is parsed for each proxy only where it matters
		own = ""
	}
	if cluster, _, _ := olderTarget(proxyConfigOf(ix.mesh.Settings, own)); cluster == lightstepCluster || cluster == datadogCluster {
		return p.ServiceCluster
	}
	return ""
}

// asksName reports whether a provider's tracer is told who it is in its
// configuration.
func asksName(p *extensionProviderSpec) bool {
	return p.GetOpentelemetry() != nil || p.GetDatadog() != nil ||
		p.GetLightstep() != nil //nolint:staticcheck // deprecated in the API, still in use
}
