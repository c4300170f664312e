package translate

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	telemetry "istio.io/api/telemetry/v1alpha1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// metricRules say which standard metrics are made, and with which labels.
type metricRules struct {
	on bool
	// interval is how often connections that last are reported.
	interval *durationpb.Duration
	metrics  map[telemetry.MetricSelector_IstioMetric]*metricRule
}

// metricRule is what overrides come to for one metric.
type metricRule struct {
	disabled bool
	tags     map[string]*telemetry.MetricsOverrides_TagOverride
}

// reportingInterval is the API's default.
const reportingInterval = 5 * time.Second

// metricNames are the standard metrics by their names in Prometheus, without
// istio_ before them.
var metricNames = map[string]telemetry.MetricSelector_IstioMetric{
	"requests_total":                telemetry.MetricSelector_REQUEST_COUNT,
	"request_duration_milliseconds": telemetry.MetricSelector_REQUEST_DURATION,
	"request_bytes":                 telemetry.MetricSelector_REQUEST_SIZE,
	"response_bytes":                telemetry.MetricSelector_RESPONSE_SIZE,
	"request_messages_total":        telemetry.MetricSelector_GRPC_REQUEST_MESSAGES,
	"response_messages_total":       telemetry.MetricSelector_GRPC_RESPONSE_MESSAGES,
	"tcp_connections_opened_total":  telemetry.MetricSelector_TCP_OPENED_CONNECTIONS,
	"tcp_connections_closed_total":  telemetry.MetricSelector_TCP_CLOSED_CONNECTIONS,
	"tcp_sent_bytes_total":          telemetry.MetricSelector_TCP_SENT_BYTES,
	"tcp_received_bytes_total":      telemetry.MetricSelector_TCP_RECEIVED_BYTES,
}

// defaultMetrics are the mesh's default providers of metrics. A mesh that
// names none has the standard metrics.
func (s *settler) defaultMetrics() []string {
	if names := s.ix.mesh.Settings.Mesh.GetDefaultProviders().GetMetrics(); len(names) > 0 {
		return s.usable(names, useMetrics)
	}
	return []string{builtinMetrics}
}

// metricRules follow telemetry/v1alpha1 Metrics: providers replace those of
// the level above, overrides come on top of those before them.
func (s *settler) metricRules(sources []*config.Telemetry) metricRules {
	out := metricRules{metrics: map[telemetry.MetricSelector_IstioMetric]*metricRule{}, interval: durationpb.New(reportingInterval)}
	inherited := s.defaultMetrics()
	scope := inherited
	for _, t := range sources {
		var level []string
		for _, m := range t.Spec.GetMetrics() {
			names, _ := s.named(m.GetProviders(), useMetrics)
			level = append(level, names...)
		}
		if len(level) > 0 {
			scope = level
		}
	}
	if len(scope) == 0 {
		return out
	}
	// All providers of metrics are one kind, and make the same: the first.
	out.on = true
	for _, t := range sources {
		for _, m := range t.Spec.GetMetrics() {
			names, counts := s.named(m.GetProviders(), useMetrics)
			if !counts {
				continue
			}
			if len(names) == 0 {
				names = inherited
			}
			inherited = names
			if slices.Contains(names, scope[0]) {
				out.take(m, s.mode)
			}
		}
	}
	return out
}

func (r *metricRules) take(m *telemetry.Metrics, mode telemetry.WorkloadMode) {
	if d := usable(m.GetReportingInterval()); d.AsDuration() >= time.Millisecond {
		r.interval = d
	}
	for _, o := range m.GetOverrides() {
		if !inMode(o.GetMatch().GetMode(), mode) {
			continue
		}
		for _, metric := range selected(o.GetMatch()) {
			have := r.metrics[metric]
			if have == nil {
				have = &metricRule{tags: map[string]*telemetry.MetricsOverrides_TagOverride{}}
				r.metrics[metric] = have
			}
			if o.GetDisabled() != nil {
				have.disabled = o.GetDisabled().GetValue()
			}
			maps.Copy(have.tags, o.GetTagOverrides())
		}
	}
}

// selected are the metrics that a selector is about: all without one, none for
// a custom metric that nobody makes.
func selected(m *telemetry.MetricSelector) []telemetry.MetricSelector_IstioMetric {
	if name := m.GetCustomMetric(); name != "" {
		if metric, ok := customMetric(name); ok {
			return []telemetry.MetricSelector_IstioMetric{metric}
		}
		return nil
	}
	if m.GetMetric() != telemetry.MetricSelector_ALL_METRICS {
		return []telemetry.MetricSelector_IstioMetric{m.GetMetric()}
	}
	out := slices.Collect(maps.Values(metricNames))
	slices.Sort(out)
	return out
}

// customMetric is the metric of a free-form name: a standard one by its name
// in Prometheus.
func customMetric(name string) (telemetry.MetricSelector_IstioMetric, bool) {
	const prefix = "istio_"
	if len(name) > len(prefix) && name[:len(prefix)] == prefix {
		name = name[len(prefix):]
	}
	metric, ok := metricNames[name]
	return metric, ok
}
