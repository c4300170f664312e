package telemetry

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"
)

// bounds are the upper bounds of histograms, those of Envoy.
var bounds = []float64{
	0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
}

type histogram struct {
	bounds []float64
	counts []uint64 // the last one for all above
	sum    float64
}

func newHistogram(bounds []float64) *histogram {
	return &histogram{bounds: bounds, counts: make([]uint64, len(bounds)+1)}
}

func (h *histogram) observe(v float64) {
	i, _ := slices.BinarySearch(h.bounds, v)
	h.counts[i]++
	h.sum += v
}

// series is what is counted under one set of labels. Of its metrics those are
// told that were counted.
type series struct {
	labels                      string
	used                        bool // since the last eviction
	counted                     metric
	counts                      [10]uint64 // by metric, in the order of their bits
	duration, request, response *histogram // nil until observed
}

func (s *series) count(m metric, n uint64) {
	s.counted |= m
	s.counts[index(m)] += n
}

// observe notes a value of a histogram, which is made with the first.
func (s *series) observe(m metric, h **histogram, bounds []float64, v float64) {
	s.counted |= m
	if *h == nil {
		*h = newHistogram(bounds)
	}
	(*h).observe(v)
}

// index is a metric's bit.
func index(m metric) int {
	i := 0
	for m > 1 {
		m >>= 1
		i++
	}
	return i
}

// maxSeries bounds memory: labels such as the host can be chosen by clients.
const maxSeries = 4000

// Metrics are Istio's standard metrics of one proxy.
type Metrics struct {
	mu sync.Mutex // guards what follows
	// all are by their labels' text; the others find the usual ones without
	// making that.
	all             map[string]*series
	requests, conns map[labels]*series
	dropped         uint64
	// The bounds of the histograms, which stay as they are.
	durations, requestSizes, responseSizes []float64
}

func newMetrics(buckets func(metric string) []float64) *Metrics {
	m := &Metrics{all: map[string]*series{}, requests: map[labels]*series{}, conns: map[labels]*series{}}
	for name, to := range map[string]*[]float64{
		durationName: &m.durations, requestBytesName: &m.requestSizes, responseBytesName: &m.responseSizes,
	} {
		*to = bounds
		if buckets == nil {
			continue
		}
		if own := buckets(name); len(own) > 0 {
			*to = own
		}
	}
	return m
}

// Evict forgets the series that nothing was added to since it was called the
// last time.
func (m *Metrics) Evict() {
	m.mu.Lock()
	defer m.mu.Unlock()
	unused := func(s *series) bool { return !s.used }
	maps.DeleteFunc(m.requests, func(_ labels, s *series) bool { return unused(s) })
	maps.DeleteFunc(m.conns, func(_ labels, s *series) bool { return unused(s) })
	maps.DeleteFunc(m.all, func(_ string, s *series) bool { return unused(s) })
	for _, s := range m.all {
		s.used = false
	}
}

// series finds or begins one; nil if there is no room. m.mu is held.
func (m *Metrics) series(l *labels, http bool, g *group, tags map[string]string) *series {
	usual := m.conns
	if http {
		usual = m.requests
	}
	if g.plain() {
		if s := usual[*l]; s != nil {
			s.used = true
			return s
		}
	}
	text := l.text(http, g, tags)
	s := m.all[text]
	if s == nil {
		if len(m.all) >= maxSeries {
			m.dropped++
			return nil
		}
		s = &series{labels: text}
		m.all[text] = s
	}
	if g.plain() {
		usual[*l] = s
	}
	s.used = true
	return s
}

// request is what one request adds.
type request struct {
	milliseconds, in, out float64 // bytes, headers counted
	// messages of gRPC, in and out; counted tells that they are known.
	sent, received uint64
	counted        bool
}

func (m *Metrics) request(l labels, groups []group, tags map[string]string, r *request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range groups {
		g := &groups[i]
		on := g.metrics & ofRequests
		if !r.counted {
			on &^= requestMessages | responseMessages
		}
		if on == 0 {
			continue
		}
		s := m.series(&l, true, g, tags)
		if s == nil {
			continue
		}
		if on&requestCount != 0 {
			s.count(requestCount, 1)
		}
		if on&requestDuration != 0 {
			s.observe(requestDuration, &s.duration, m.durations, r.milliseconds)
		}
		if on&requestSize != 0 {
			s.observe(requestSize, &s.request, m.requestSizes, r.in)
		}
		if on&responseSize != 0 {
			s.observe(responseSize, &s.response, m.responseSizes, r.out)
		}
		if on&requestMessages != 0 {
			s.count(requestMessages, r.sent)
		}
		if on&responseMessages != 0 {
			s.count(responseMessages, r.received)
		}
	}
}

// connection is what one entry about a connection adds.
type connection struct {
	opened, closed uint64
	sent, received uint64
}

func (m *Metrics) connection(l labels, groups []group, tags map[string]string, c *connection) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range groups {
		g := &groups[i]
		on := g.metrics & ofConnections
		if on == 0 {
			continue
		}
		s := m.series(&l, false, g, tags)
		if s == nil {
			continue
		}
		for _, n := range []struct {
			of metric
			n  uint64
		}{{opened, c.opened}, {closed, c.closed}, {sent, c.sent}, {received, c.received}} {
			if on&n.of != 0 {
				s.count(n.of, n.n)
			}
		}
	}
}

var counters = []struct {
	of   metric
	name string
}{
	{requestCount, "istio_requests_total"},
	{requestMessages, "istio_request_messages_total"},
	{responseMessages, "istio_response_messages_total"},
	{opened, "istio_tcp_connections_opened_total"},
	{closed, "istio_tcp_connections_closed_total"},
	{sent, "istio_tcp_sent_bytes_total"},
	{received, "istio_tcp_received_bytes_total"},
}

const (
	durationName      = "istio_request_duration_milliseconds"
	requestBytesName  = "istio_request_bytes"
	responseBytesName = "istio_response_bytes"
)

var histograms = []struct {
	of   metric
	name string
	get  func(*series) *histogram
}{
	{requestDuration, durationName, func(s *series) *histogram { return s.duration }},
	{requestSize, requestBytesName, func(s *series) *histogram { return s.request }},
	{responseSize, responseBytesName, func(s *series) *histogram { return s.response }},
}

// Write writes all in Prometheus' text format.
func (m *Metrics) Write(w io.Writer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	labels := slices.Sorted(maps.Keys(m.all))
	with := func(of metric, name, kind string, write func(*series)) {
		first := true
		for _, l := range labels {
			if s := m.all[l]; s.counted&of != 0 {
				if first {
					head(w, name, kind)
					first = false
				}
				write(s)
			}
		}
	}
	for _, c := range counters {
		with(c.of, c.name, "counter", func(s *series) {
			_, _ = fmt.Fprintf(w, "%s{%s} %d\n", c.name, s.labels, s.counts[index(c.of)])
		})
	}
	for _, h := range histograms {
		with(h.of, h.name, "histogram", func(s *series) { h.get(s).write(w, h.name, s.labels) })
	}
	const dropped = "pilotfish_agent_metrics_dropped_total"
	_, _ = fmt.Fprintf(w, "# HELP %s Requests and connections that are in no metric, since there are too many series.\n", dropped)
	head(w, dropped, "counter")
	_, _ = fmt.Fprintf(w, "%s %d\n", dropped, m.dropped)
}

func head(w io.Writer, name, kind string) { _, _ = fmt.Fprintf(w, "# TYPE %s %s\n", name, kind) }

func (h *histogram) write(w io.Writer, name, labels string) {
	var sum uint64
	for i, n := range h.counts {
		sum += n
		le := math.Inf(1)
		if i < len(h.bounds) {
			le = h.bounds[i]
		}
		_, _ = fmt.Fprintf(w, "%s_bucket{%s,le=\"%s\"} %d\n", name, labels, formatBound(le), sum)
	}
	_, _ = fmt.Fprintf(w, "%s_sum{%s} %g\n%s_count{%s} %d\n", name, labels, h.sum, name, labels, sum)
}

func formatBound(v float64) string {
	if math.IsInf(v, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}
