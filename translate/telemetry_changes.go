package translate

import (
	"encoding/json"
	"reflect"
	"slices"
	"strconv"

	telemetry "istio.io/api/telemetry/v1alpha1"
)

type istioMetric = telemetry.MetricSelector_IstioMetric

// The metrics of one kind of entry of the log.
var (
	requestMetrics = []istioMetric{
		telemetry.MetricSelector_REQUEST_COUNT, telemetry.MetricSelector_REQUEST_DURATION, telemetry.MetricSelector_REQUEST_SIZE,
		telemetry.MetricSelector_RESPONSE_SIZE, telemetry.MetricSelector_GRPC_REQUEST_MESSAGES, telemetry.MetricSelector_GRPC_RESPONSE_MESSAGES,
	}
	messageMetrics    = []istioMetric{telemetry.MetricSelector_GRPC_REQUEST_MESSAGES, telemetry.MetricSelector_GRPC_RESPONSE_MESSAGES}
	connectionMetrics = []istioMetric{
		telemetry.MetricSelector_TCP_OPENED_CONNECTIONS, telemetry.MetricSelector_TCP_CLOSED_CONNECTIONS,
		telemetry.MetricSelector_TCP_SENT_BYTES, telemetry.MetricSelector_TCP_RECEIVED_BYTES,
	}
)

// without reports whether none of the metrics is made.
func (r *metricRules) without(metrics []istioMetric) bool {
	return !slices.ContainsFunc(metrics, func(m istioMetric) bool { return r.metrics[m] == nil || !r.metrics[m].disabled })
}

// change is what is not as usual about some metrics, in the form in which the
// agent reads it (agent/telemetry).
type change struct {
	Metrics  []string `json:"metrics"`
	Disabled bool     `json:"disabled,omitempty"`
	// Remove are labels that are left out.
	Remove []string `json:"remove,omitempty"`
	// Set are labels and the custom tags of entries that hold their values.
	Set map[string]string `json:"set,omitempty"`
}

// valueTagName is the custom tag of an expression's value.
func valueTagName(i int) string { return "x" + strconv.Itoa(i) }

// changes are those of some metrics as they stand behind the log's name, empty
// without any, and the formats of the values that they need.
func (r *metricRules) changes(metrics []istioMetric) (text string, values []string) {
	var list []*change
	for _, m := range metrics {
		rule := r.metrics[m]
		if rule == nil {
			continue
		}
		c := &change{Disabled: rule.disabled}
		if !rule.disabled {
			values = c.labels(rule, values)
		}
		if c.Disabled || len(c.Remove) > 0 || len(c.Set) > 0 {
			list = withChange(list, c, m.String())
		}
	}
	if len(list) == 0 {
		return "", nil
	}
	b, err := json.Marshal(list)
	if err != nil {
		return "", nil // of texts, it has always a form
	}
	return " " + string(b), values
}

// labels reads the rule's tags in order of their names.
func (c *change) labels(rule *metricRule, values []string) []string {
	for _, label := range sortedKeys(rule.tags) {
		tag := rule.tags[label]
		if tag.GetOperation() == telemetry.MetricsOverrides_TagOverride_REMOVE {
			c.Remove = append(c.Remove, label)
			continue
		}
		format, fault := parseCEL(tag.GetValue()).format()
		if fault != "" || labelFault(label) != "" {
			continue // a Problem of the Telemetry
		}
		i := slices.Index(values, format)
		if i < 0 {
			i = len(values)
			values = append(values, format)
		}
		if c.Set == nil {
			c.Set = map[string]string{}
		}
		c.Set[label] = valueTagName(i)
	}
	return values
}

// withChange adds a metric to the equal change, or a new one.
func withChange(list []*change, c *change, metric string) []*change {
	for _, have := range list {
		names := have.Metrics
		have.Metrics = nil
		same := reflect.DeepEqual(have, c)
		have.Metrics = names
		if same {
			have.Metrics = append(have.Metrics, metric)
			return list
		}
	}
	c.Metrics = []string{metric}
	return append(list, c)
}
