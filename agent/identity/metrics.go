package identity

import (
	"crypto/x509"
	"fmt"
	"io"
	"time"
)

// WriteMetrics writes how obtaining certificates went and how long the present
// one lasts, in Prometheus' text format. Those named istio_agent_* are those of
// Istio's agent.
func (s *Source) WriteMetrics(w io.Writer) {
	obtained, failed := s.Attempts()
	write := func(name, kind, help, labels string, v any) {
		_, _ = fmt.Fprintf(w, "# HELP %[1]s %[2]s\n# TYPE %[1]s %[3]s\n%[1]s%[4]s %[5]v\n", name, help, kind, labels, v)
	}
	const csr = `{request_type="csr"}`
	write("istio_agent_num_outgoing_requests", "counter", "Attempts to obtain a certificate.", csr, obtained+failed)
	write("istio_agent_num_failed_outgoing_requests", "counter", "Failed attempts to obtain a certificate.", csr, failed)
	write("istio_agent_outgoing_latency", "counter", "Milliseconds that attempts to obtain a certificate took in all.", csr, time.Duration(s.took.Load()).Milliseconds())
	c := s.Certificate()
	if c == nil {
		return
	}
	const expiry = "istio_agent_cert_expiry_seconds"
	write(expiry, "gauge", "Seconds until the present certificate ends; negative after its end.", `{resource_name="default"}`, seconds(time.Until(c.NotAfter)))
	if root, err := x509.ParseCertificate(c.Root); err == nil {
		_, _ = fmt.Fprintf(w, "%s{resource_name=\"ROOTCA\"} %v\n", expiry, seconds(time.Until(root.NotAfter)))
	}
	write("pilotfish_agent_cert_lifetime_seconds", "gauge", "How long the present certificate lasted when it came, in seconds.", "", seconds(c.NotAfter.Sub(c.Obtained)))
}

// seconds are whole ones, written without an exponent.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }
