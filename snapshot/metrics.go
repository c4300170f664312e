package snapshot

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// metrics are a Cache's and its Servers' instruments. Those named pilot_* are
// istiod's, so that existing dashboards and alerts work.
type metrics struct {
	clients, services, virtualServices             *prometheus.GaugeVec
	pushes, rejects, staleNonces                   *prometheus.CounterVec
	convergence, queue, send                       prometheus.Histogram
	pushTime, size                                 *prometheus.HistogramVec
	rejectsByNode                                  [kinds]*prometheus.GaugeVec
	writeTimeouts, coalesced, unknown, outOfOrder  prometheus.Counter
	internalErrors                                 prometheus.Counter
	unansweredBy, shedBy, translations, assignment *prometheus.CounterVec

	// Those of one kind, resolved once.
	pushed   [kinds]prometheus.Counter
	pushTook [kinds]prometheus.Observer
	sizes    [kinds]prometheus.Observer
	all      []prometheus.Collector
}

func newMetrics() *metrics {
	m := &metrics{}
	m.istiod()
	m.own()
	for k := range kinds {
		m.pushed[k] = m.pushes.WithLabelValues(k.String())
		m.pushTook[k] = m.pushTime.WithLabelValues(k.String())
		m.sizes[k] = m.size.WithLabelValues(k.url())
		m.rejects.WithLabelValues(k.String())
		m.unansweredBy.WithLabelValues(k.String())
	}
	for _, limit := range limits {
		m.shedBy.WithLabelValues(limit)
	}
	return m
}

// limits are those that end or refuse streams. They, and the kinds, are told as
// zero before anything happens: the increase of a counter that begins with 1 is
// nothing to Prometheus.
var limits = []string{"connections", "streams", "connects", "proxy", "requests", "silence", "size", "strangers"}

// istiod makes the instruments that carry istiod's names.
func (m *metrics) istiod() {
	quick := []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 3, 5, 10, 20, 30}
	m.clients = gauges(m, "pilot_xds", "Connected proxies by their Istio version.", "version")
	m.services = gauges(m, "pilot_services", "Services of the mesh in service.")
	m.virtualServices = gauges(m, "pilot_virt_services", "VirtualServices of the mesh in service.")
	m.pushes = counters(m, "pilot_xds_pushes", "Responses sent by type; with _senderr, those that could not be.", "type")
	m.rejects = counters(m, "pilot_total_xds_rejects", "Responses that a proxy rejected.", "type")
	m.staleNonces = counters(m, "pilot_xds_expired_nonce", "Requests about a response that is no longer open.", "type")
	m.convergence = histogram(m, "pilot_proxy_convergence_time",
		"Seconds from noticing a change until a proxy that it concerns has acknowledged all of it.", quick)
	m.queue = histogram(m, "pilot_proxy_queue_time", "Seconds from a new view until a proxy's stream takes it up.", quick)
	m.send = histogram(m, "pilot_xds_send_time", "Seconds that sending a response took, blocking included.", quick)
	m.pushTime = histograms(m, "pilot_xds_push_time", "Seconds that composing a response took.", quick, "type")
	m.size = histograms(m, "pilot_xds_config_size_bytes", "Sizes of responses.",
		[]float64{100, 1000, 10_000, 100_000, 1e6, 4e6, 1e7, 4e7}, "type")
	m.internalErrors = counter(m, "pilot_total_xds_internal_errors", "Responses that could not be sent for another reason than that the proxy left.")
	m.writeTimeouts = counter(m, "pilot_xds_write_timeout", "Streams closed since their client did not read.")
	for _, k := range []kind{clusters, endpoints, listeners, routes} {
		m.rejectsByNode[k] = gauges(m, "pilot_xds_"+k.String()+"_reject", "Rejections by connected proxy.", "node", "err")
	}
}

// own makes the instruments that only pilotfish has.
func (m *metrics) own() {
	m.coalesced = counter(m, "pilotfish_xds_coalesced_total",
		"Views that a proxy never saw, since a newer one came before it had acknowledged the last.")
	m.unknown = counter(m, "pilotfish_xds_unknown_type_total", "Requests for types that are not served.")
	m.outOfOrder = counter(m, "pilotfish_xds_order_timeouts_total",
		"Times that listeners or routes were sent although clusters were not ready.")
	m.unansweredBy = counters(m, "pilotfish_xds_unanswered_total", "Responses that a client never answered.", "type")
	m.shedBy = counters(m, "pilotfish_xds_shed_total", "Streams refused or ended by a limit.", "limit")
	m.translations = counters(m, "pilotfish_xds_class_refreshes_total",
		"Classes brought to a new mesh, by whether they had to be translated.", "result")
	m.assignment = counters(m, "pilotfish_xds_assignments_total",
		"Endpoint assignments needed, by whether they had to be made.", "result")
}

// register offers the instruments to r, which may be nil. Instruments that
// another Server over the same Cache has registered stay.
func (m *metrics) register(r prometheus.Registerer) {
	if r == nil {
		return
	}
	for _, c := range m.all {
		var already prometheus.AlreadyRegisteredError
		if err := r.Register(c); err != nil && (!errors.As(err, &already) || already.ExistingCollector != c) {
			panic(err) // two Caches in one registry: a mistake in wiring
		}
	}
}

func add[T prometheus.Collector](m *metrics, c T) T {
	m.all = append(m.all, c)
	return c
}

func gauges(m *metrics, name, help string, labels ...string) *prometheus.GaugeVec {
	return add(m, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels))
}

func counters(m *metrics, name, help string, labels ...string) *prometheus.CounterVec {
	return add(m, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels))
}

func counter(m *metrics, name, help string) prometheus.Counter {
	return add(m, prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help}))
}

func histogram(m *metrics, name, help string, buckets []float64) prometheus.Histogram {
	return add(m, prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}))
}

func histograms(m *metrics, name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return add(m, prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels))
}

// inService records what the Mesh in service holds.
func (m *metrics) inService(mesh *config.Mesh) {
	m.services.WithLabelValues().Set(float64(mesh.Services.Len()))
	m.virtualServices.WithLabelValues().Set(float64(mesh.VirtualServices.Len()))
}

// composed records one response: its length in bytes and how long it took.
func (m *metrics) composed(k kind, size int, took time.Duration) {
	m.pushed[k].Inc()
	m.sizes[k].Observe(float64(size))
	m.pushTook[k].Observe(took.Seconds())
}

// sendFailed counts a response that the transport did not take.
func (m *metrics) sendFailed(k kind, code codes.Code) {
	if code != codes.Unavailable && code != codes.Canceled { // a proxy that left is no failure
		m.pushes.WithLabelValues(k.String() + "_senderr").Inc()
		m.internalErrors.Inc()
	}
}

func (m *metrics) rejected(k kind, p *config.Proxy, detail *rpc.Status) {
	m.rejects.WithLabelValues(k.String()).Inc()
	if m.rejectsByNode[k] != nil {
		m.rejectsByNode[k].WithLabelValues(p.ID, codes.Code(detail.GetCode()).String()).Inc()
	}
}

func (m *metrics) connected(p *config.Proxy) { m.clients.WithLabelValues(istioVersion(p)).Inc() }

func (m *metrics) disconnected(p *config.Proxy) {
	m.clients.WithLabelValues(istioVersion(p)).Dec()
	for _, v := range m.rejectsByNode {
		if v != nil {
			v.DeletePartialMatch(prometheus.Labels{"node": p.ID})
		}
	}
}

func istioVersion(p *config.Proxy) string {
	if v := p.Raw["ISTIO_VERSION"]; v != "" {
		return v
	}
	return "unknown"
}

func (m *metrics) staleNonce(k kind)    { m.staleNonces.WithLabelValues(k.String()).Inc() }
func (m *metrics) unanswered(k kind)    { m.unansweredBy.WithLabelValues(k.String()).Inc() }
func (m *metrics) shed(limit string)    { m.shedBy.WithLabelValues(limit).Inc() }
func (m *metrics) reused(what bool)     { m.translations.WithLabelValues(result(what)).Inc() }
func (m *metrics) remembered(what bool) { m.assignment.WithLabelValues(result(what)).Inc() }

func result(reused bool) string {
	if reused {
		return "reused"
	}
	return "made"
}
