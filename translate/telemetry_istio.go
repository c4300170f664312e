package translate

import (
	udpa "github.com/cncf/xds/go/udpa/type/v1"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"istio.io/api/envoy/extensions/stats"
	meshconfig "istio.io/api/mesh/v1alpha1"
	telemetry "istio.io/api/telemetry/v1alpha1"
)

// Istio's own filters, which only Envoys built with them have: they make the
// standard metrics inside of Envoy, and tell peers who the proxy is by headers.
const (
	istioStats = "istio.stats"
	istioPeers = "istio.metadata_exchange"
	peersType  = "type.googleapis.com/io.istio.http.peer_metadata.Config"
)

// countsInside reports whether Envoy makes the metrics itself.
func (e *listenerEnv) countsInside() bool { return e.traits.IstioFilters && e.telemetry.metrics.on }

func (e *listenerEnv) istioStatsFilter() []*hcm.HttpFilter {
	if !e.countsInside() || e.telemetry.metrics.without(requestMetrics) {
		return nil
	}
	return httpFilter(istioStats, e.istioStats(requestMetrics))
}

func (e *listenerEnv) istioConnectionStatsFilter() []*listener.Filter {
	if !e.countsInside() || e.telemetry.metrics.without(connectionMetrics) {
		return nil
	}
	return []*listener.Filter{networkFilter(istioStats, e.istioStats(connectionMetrics))}
}

// istioStats is what overrides come to in the words of Istio's filter.
func (e *listenerEnv) istioStats(metrics []istioMetric) *stats.PluginConfig {
	out := &stats.PluginConfig{
		// Who calls a workload chooses the header; it must not choose labels.
		DisableHostHeaderFallback: e.side != Outbound,
		TcpReportingDuration:      e.telemetry.metrics.interval,
	}
	names := map[istioMetric]string{}
	for name, m := range metricNames {
		names[m] = name
	}
	for _, m := range metrics {
		rule := e.telemetry.metrics.metrics[m]
		if rule == nil {
			continue
		}
		c := &stats.MetricConfig{Name: names[m], Drop: rule.disabled}
		for _, label := range sortedKeys(rule.tags) {
			tag := rule.tags[label]
			switch {
			case tag.GetOperation() == telemetry.MetricsOverrides_TagOverride_REMOVE:
				c.TagsToRemove = append(c.TagsToRemove, label)
			case labelFault(label) == "" && parseCEL(tag.GetValue()).fault == "":
				if c.Dimensions == nil {
					c.Dimensions = map[string]string{}
				}
				c.Dimensions[label] = tag.GetValue()
			}
		}
		out.Metrics = append(out.Metrics, c)
	}
	return out
}

// istioPeersFilter tells the other side who this proxy is, and learns who the
// other is (MeshConfig ProxyHeaders.metadataExchangeHeaders).
func (e *listenerEnv) istioPeersFilter(c *httpChain) []*hcm.HttpFilter {
	if !e.countsInside() {
		return nil
	}
	headers := map[string]any{}
	inMesh := e.proxy.GetProxyHeaders().GetMetadataExchangeHeaders().GetMode() == meshconfig.ProxyConfig_ProxyHeaders_IN_MESH
	side := "downstream"
	if c.from != Inbound {
		side = "upstream"
		if inMesh {
			headers["skip_external_clusters"] = true
		}
	}
	fields, err := structpb.NewStruct(map[string]any{
		side + "_discovery":   []any{map[string]any{"istio_headers": map[string]any{}}},
		side + "_propagation": []any{map[string]any{"istio_headers": headers}},
	})
	if err != nil {
		return nil // it consists of texts and truths
	}
	return httpFilter(istioPeers, &udpa.TypedStruct{TypeUrl: peersType, Value: fields})
}
