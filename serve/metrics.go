package serve

import (
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// planeMetrics tell of the sources, of what is wrong, and of this process.
// Those named pilot_*, istio_build and istiod_* are istiod's.
type planeMetrics struct {
	plane *Plane
	began time.Time

	uptime, registry, objects, triggers, problems *prometheus.Desc
	updates, keys, keyFailures                    *prometheus.Desc
	noInstances, noIP, notReady, rejected         *prometheus.Desc
	byCode                                        []codeMetric
	tally                                         tally
}

// codeMetric is the number of objects with a problem of some codes.
type codeMetric struct {
	desc  *prometheus.Desc
	codes []string
}

func newPlaneMetrics(p *Plane) *planeMetrics {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &planeMetrics{
		plane: p, began: time.Now(),
		uptime:   d("istiod_uptime_seconds", "Seconds since the control plane began."),
		registry: d("pilot_k8s_reg_events", "Changes of Kubernetes' objects that came into effect.", "type", "event"),
		objects:  d("pilot_k8s_cfg_events", "Changes of Istio's objects that came into effect.", "type", "event"),
		triggers: d("pilot_push_triggers", "Changes of the mesh, by what in it had changed.", "type"),
		problems: d("pilotfish_problems", "Problems of the configuration at present, by severity, code and kind of the object.",
			"severity", "code", "kind"),
		updates:     d("pilot_inbound_updates", "Changes that came into effect, by sort.", "type"),
		noInstances: d("pilot_eds_no_instances", "Ports of services at present without an endpoint that can be used."),
		noIP:        d("pilot_no_ip", "Workloads at present that are ready and have no address."),
		notReady:    d("pilot_endpoint_not_ready", "Workloads at present that have an address and are not ready."),
		rejected:    d("pilot_total_rejected_configs", "Objects at present of which a part is wrong and not in effect."),
		byCode: []codeMetric{
			{d("pilot_vservice_dup_domain", "VirtualServices at present that name a host which another one has."), []string{"HostClaimed", "DuplicateDomain"}},
			{d("pilot_duplicate_envoy_clusters", "ServiceEntries at present with a host that another object defines otherwise."), []string{"HostTaken"}},
			{d("pilot_destrule_subsets", "DestinationRules at present with a subset that another one of the host has."), []string{"SubsetTaken"}},
			{d("pilot_conflict_inbound_listener", "Services at present whose port says another protocol than another Service's of the same workload's port."), []string{"InboundProtocolConflict"}},
			{d("pilot_conflict_outbound_listener_tcp_over_current_tcp", "Services at present whose address and port another one has."), []string{"ListenerConflict"}},
		},
		keys:        d("pilot_jwks_resolver_network_fetch_success_total", "Successful fetches of token issuers' keys."),
		keyFailures: d("pilot_jwks_resolver_network_fetch_fail_total", "Failed fetches of token issuers' keys."),
	}
}

// Describe implements prometheus.Collector.
func (m *planeMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		m.uptime, m.registry, m.objects, m.triggers, m.problems, m.updates, m.keys, m.keyFailures, m.noInstances, m.noIP, m.notReady, m.rejected,
	} {
		out <- d
	}
	for _, c := range m.byCode {
		out <- c.desc
	}
}

// reasons are those that there may be for a push: told as zero before they
// happen.
var reasons = []string{"config", "endpoint", "global", "namespaceupdate", "secret", "service"}

// registryType is Kubernetes' kind as istiod names it.
func registryType(kind string) string {
	switch kind {
	case "Service", "Pod", "Node", "Namespace":
		return kind + "s"
	}
	return kind
}

// updateType is the sort of a change as istiod counts it, "" for others.
func updateType(e *discovery.Event) string {
	switch {
	case e.Istio:
		return "config"
	case e.Kind == "Service" && e.Event == "delete":
		return "svcdelete"
	case e.Kind == "Service":
		return "svc"
	case e.Kind == "EndpointSlice", e.Kind == "Pod":
		return "eds"
	}
	return ""
}

// Collect implements prometheus.Collector.
func (m *planeMetrics) Collect(out chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(m.uptime, time.Since(m.began).Seconds())
	updates := map[string]uint64{"config": 0, "eds": 0, "svc": 0, "svcdelete": 0}
	for _, e := range m.plane.Store.Events() {
		if sort := updateType(&e.Event); sort != "" {
			updates[sort] += e.N
		}
		if e.Istio {
			counter(m.objects, e.N, e.Kind, e.Event.Event)
		} else {
			counter(m.registry, e.N, registryType(e.Kind), e.Event.Event)
		}
	}
	for sort, n := range updates {
		counter(m.updates, n, sort)
	}
	triggers := m.plane.Store.Triggers()
	for _, r := range reasons {
		counter(m.triggers, triggers[r], r)
	}
	problems := m.plane.Problems()
	counts, objects := countProblems(problems)
	for p, n := range counts {
		gauge(m.problems, float64(n), p.severity, p.code, p.kind)
	}
	for _, c := range m.byCode {
		these := map[config.Key]bool{}
		for _, code := range c.codes {
			maps.Copy(these, objects[code])
		}
		gauge(c.desc, float64(len(these)))
	}
	gauge(m.rejected, float64(inError(problems)))
	now := m.tally.of(m.plane.Store.Mesh())
	gauge(m.noInstances, float64(now.noInstances))
	gauge(m.noIP, float64(now.noIP))
	gauge(m.notReady, float64(now.notReady))
	if m.plane.keys != nil {
		fetched, failed := m.plane.keys.Attempts()
		counter(m.keys, fetched)
		counter(m.keyFailures, failed)
	}
}

// inError counts the objects with an error.
func inError(problems []config.Problem) int {
	objects := map[config.Key]bool{}
	for _, p := range problems {
		if p.Severity == config.Error {
			objects[p.Object] = true
		}
	}
	return len(objects)
}

type problemLabels struct{ severity, code, kind string }

// countProblems counts them; each severity is there, if only as zero. objects
// are those with a problem, by its code.
func countProblems(problems []config.Problem) (counts map[problemLabels]int, objects map[string]map[config.Key]bool) {
	counts = map[problemLabels]int{}
	for _, s := range []config.Severity{config.Info, config.Warning, config.Error} {
		counts[problemLabels{severity: s.String()}] = 0
	}
	objects = map[string]map[config.Key]bool{}
	for _, p := range problems {
		counts[problemLabels{p.Severity.String(), p.Code, p.Object.Kind}]++
		if objects[p.Code] == nil {
			objects[p.Code] = map[config.Key]bool{}
		}
		objects[p.Code][p.Object] = true
	}
	return counts, objects
}

// buildMetrics say which version runs.
func buildMetrics(b Build) []prometheus.Collector {
	one := func(name, help string, labels prometheus.Labels) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return 1 })
	}
	return []prometheus.Collector{
		one("istio_build", "The version that runs; always 1.", prometheus.Labels{"component": "pilot", "tag": b.Version}),
		one("pilot_info", "The version that runs; always 1.", prometheus.Labels{"version": b.Version}),
	}
}

// TellBuild adds the version that runs to the Plane's metrics. It is called at
// most once.
func (p *Plane) TellBuild(b Build) { p.Registry.MustRegister(buildMetrics(b)...) }
