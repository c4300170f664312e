package ca

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count what a Service does, under the names that dashboards for Istio
// know.
type Metrics struct {
	requests, issued, unauthenticated, unreadable, nameless prometheus.Counter
	failures                                                *prometheus.CounterVec
}

// NewMetrics returns the metrics of an Authority, registered unless r is nil.
// It panics if r has others of the same names.
func NewMetrics(a *Authority, r prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "citadel_server_" + name, Help: help})
	}
	m := &Metrics{
		requests:        counter("csr_count", "Certificate requests received."),
		issued:          counter("success_cert_issuance_count", "Certificates issued."),
		unauthenticated: counter("authentication_failure_count", "Certificate requests refused for their credential."),
		unreadable:      counter("csr_parsing_err_count", "Certificate requests that cannot be read, or whose key or signature is unacceptable."),
		nameless:        counter("id_extraction_err_count", "Certificate requests that ask for names that the caller has not proven."),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "citadel_server_csr_sign_err_count", Help: "Certificate requests not signed, by reason.",
		}, []string{"error"}),
	}
	if r == nil {
		return m
	}
	r.MustRegister(m.requests, m.issued, m.unauthenticated, m.unreadable, m.nameless, m.failures)
	gauge := func(name, help string, of func(*Root) time.Time, value func(time.Time) float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "citadel_server_" + name, Help: help}, func() float64 {
			root := a.Root()
			if root == nil {
				return 0
			}
			return value(of(root))
		}))
	}
	rootEnd := func(r *Root) time.Time { return r.roots[0].NotAfter }
	stamp := func(t time.Time) float64 { return float64(t.Unix()) }
	left := func(t time.Time) float64 { return t.Sub(a.options.Now()).Seconds() }
	gauge("root_cert_expiry_timestamp", "When the root certificate ends, in seconds since 1970; 0 without a root.", rootEnd, stamp)
	gauge("root_cert_expiry_seconds", "How long the root certificate is still valid, in seconds.", rootEnd, left)
	gauge("cert_chain_expiry_timestamp", "When the first certificate of the signing chain ends, in seconds since 1970; 0 without a root.", (*Root).expiry, stamp)
	gauge("cert_chain_expiry_seconds", "How long the signing chain is still valid, in seconds.", (*Root).expiry, left)
	return m
}

// refused counts a request that was not answered with a certificate.
func (m *Metrics) refused(err error) {
	reason := "internal"
	if r := (*Refusal)(nil); errors.As(err, &r) {
		reason = string(r.Reason)
		switch r.Reason {
		case BadRequest, WeakKey, BadSignature:
			m.unreadable.Inc()
		case OtherIdentity:
			m.nameless.Inc()
		}
	}
	m.failures.WithLabelValues(reason).Inc()
}
