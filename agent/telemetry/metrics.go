package telemetry

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"sync"
)

// bounds are the upper bounds of histograms, those of Envoy.
var bounds = [...]float64{
	0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
}

type histogram struct {
	counts [len(bounds) + 1]uint64 // the last one for all above
	sum    float64
}

func (h *histogram) observe(v float64) {
	i, _ := slices.BinarySearch(bounds[:], v)
	h.counts[i]++
	h.sum += v
}

// requests are an HTTP series.
type requests struct {
	labels                      string
	total                       uint64
	duration, request, response histogram
}

// connections are a TCP series.
type connections struct {
	labels                         string
	opened, closed, sent, received uint64
}

// maxSeries bounds memory: labels such as the host can be chosen by clients.
const maxSeries = 4000

// Metrics are Istio's standard metrics of one proxy.
type Metrics struct {
	mu       sync.Mutex // guards what follows
	requests map[labels]*requests
	conns    map[labels]*connections
	dropped  uint64
}

func newMetrics() *Metrics {
	return &Metrics{requests: map[labels]*requests{}, conns: map[labels]*connections{}}
}

// room reports whether another series may begin; m.mu is held.
func (m *Metrics) room() bool {
	if len(m.requests)+len(m.conns) < maxSeries {
		return true
	}
	m.dropped++
	return false
}

func (m *Metrics) request(l labels, milliseconds, in, out float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.requests[l]
	if s == nil {
		if !m.room() {
			return
		}
		s = &requests{labels: l.text(true)}
		m.requests[l] = s
	}
	s.total++
	s.duration.observe(milliseconds)
	s.request.observe(in)
	s.response.observe(out)
}

func (m *Metrics) connection(l labels, opened, closed bool, sent, received uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.conns[l]
	if s == nil {
		if !m.room() {
			return
		}
		s = &connections{labels: l.text(false)}
		m.conns[l] = s
	}
	if opened {
		s.opened++
	}
	if closed {
		s.closed++
	}
	s.sent += sent
	s.received += received
}

// Write writes all in Prometheus' text format.
func (m *Metrics) Write(w io.Writer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.requests) > 0 {
		head(w, "istio_requests_total", "counter")
		for _, s := range m.requests {
			_, _ = fmt.Fprintf(w, "istio_requests_total{%s} %d\n", s.labels, s.total)
		}
		for _, h := range []struct {
			name string
			of   func(*requests) *histogram
		}{
			{"istio_request_duration_milliseconds", func(s *requests) *histogram { return &s.duration }},
			{"istio_request_bytes", func(s *requests) *histogram { return &s.request }},
			{"istio_response_bytes", func(s *requests) *histogram { return &s.response }},
		} {
			head(w, h.name, "histogram")
			for _, s := range m.requests {
				h.of(s).write(w, h.name, s.labels)
			}
		}
	}
	if len(m.conns) > 0 {
		for _, c := range []struct {
			name string
			of   func(*connections) uint64
		}{
			{"istio_tcp_connections_opened_total", func(s *connections) uint64 { return s.opened }},
			{"istio_tcp_connections_closed_total", func(s *connections) uint64 { return s.closed }},
			{"istio_tcp_sent_bytes_total", func(s *connections) uint64 { return s.sent }},
			{"istio_tcp_received_bytes_total", func(s *connections) uint64 { return s.received }},
		} {
			head(w, c.name, "counter")
			for _, s := range m.conns {
				_, _ = fmt.Fprintf(w, "%s{%s} %d\n", c.name, s.labels, c.of(s))
			}
		}
	}
	if m.dropped > 0 {
		head(w, "pilotfish_agent_metrics_dropped_total", "counter")
		_, _ = fmt.Fprintf(w, "pilotfish_agent_metrics_dropped_total %d\n", m.dropped)
	}
}

func head(w io.Writer, name, kind string) { _, _ = fmt.Fprintf(w, "# TYPE %s %s\n", name, kind) }

func (h *histogram) write(w io.Writer, name, labels string) {
	var sum uint64
	for i, n := range h.counts {
		sum += n
		le := math.Inf(1)
		if i < len(bounds) {
			le = bounds[i]
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
