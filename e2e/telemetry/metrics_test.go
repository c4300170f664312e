package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// metricsOf are the standard metrics of a workload's pod, one line each.
func metricsOf(t *testing.T, s *stage.Stage, workload string) []string {
	t.Helper()
	var b bytes.Buffer
	for _, w := range s.Workloads() {
		if w.Name == workload {
			if err := s.WriteMetrics(t.Context(), &b, w.Namespace, w.Pods[0].Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	return slices.DeleteFunc(strings.Split(b.String(), "\n"), func(l string) bool { return !strings.HasPrefix(l, "istio_") })
}

// value is that of the series of a metric that has all of the labels; "" if
// there is none, and a failure if there are several.
func value(t *testing.T, metrics []string, name string, labels ...string) string {
	t.Helper()
	found := ""
	for _, l := range metrics {
		if !strings.HasPrefix(l, name+"{") || slices.ContainsFunc(labels, func(want string) bool { return !strings.Contains(l, want) }) {
			continue
		}
		if found != "" {
			t.Fatalf("several series of %s %v:\n%s", name, labels, strings.Join(metrics, "\n"))
		}
		found = l[strings.LastIndexByte(l, ' ')+1:]
	}
	return found
}

// All ten metrics of Istio, each from both sides of one call.
func TestTheTenMetrics(t *testing.T) {
	stage.NeedNamespaces(t)
	s := mesh(t, &collector{otlp: 4317, zipkin: 9411}, up.Namespaces, "")
	client := s.Inside("curl", "http://web:8080")
	for range 3 {
		if r := client.Get(t, "/?status=404"); r.Status != http.StatusNotFound {
			t.Fatal(r)
		}
	}
	callGRPC(t, s, 4)
	talk(t, s, "web:7070", "12345678\n")

	for _, side := range []struct{ workload, reporter, policy string }{
		{"curl", `{reporter="source",`, `connection_security_policy="unknown"`},
		{"web", `{reporter="destination",`, `connection_security_policy="mutual_tls"`},
	} {
		common := []string{
			side.reporter, side.policy, `source_workload="curl"`, `source_workload_namespace="default"`, `source_app="curl"`, `source_version="v2"`,
			`source_principal="spiffe://cluster.local/ns/default/sa/curl"`, `source_canonical_service="browser"`, `source_canonical_revision="v2"`,
			`source_cluster="Kubernetes"`, `destination_workload="web"`, `destination_workload_namespace="default"`, `destination_app="web"`,
			`destination_version="v1"`, `destination_principal="spiffe://cluster.local/ns/default/sa/web"`, `destination_canonical_service="web"`,
			`destination_canonical_revision="v1"`, `destination_cluster="Kubernetes"`, `destination_service="web.default.svc.cluster.local"`,
			`destination_service_name="web"`, `destination_service_namespace="default"`, `response_flags="-"`,
		}
		plain := []string{`request_protocol="http"`, `response_code="404"`, `grpc_response_status=""`}
		grpc := []string{`request_protocol="grpc"`, `response_code="200"`, `grpc_response_status="0"`}
		tcp := []string{`request_protocol="tcp"`}
		envoytest.Eventually(t, stage.Patience, func() string {
			all := metricsOf(t, s, side.workload)
			for _, m := range []struct {
				name   string
				labels []string
				want   string
			}{
				{"istio_requests_total", plain, "3"}, {"istio_requests_total", grpc, "1"},
				{"istio_request_duration_milliseconds_count", plain, "3"}, {"istio_request_bytes_count", plain, "3"},
				{"istio_response_bytes_count", plain, "3"}, {"istio_response_bytes_sum", grpc, ""},
				{"istio_request_messages_total", grpc, "4"}, {"istio_response_messages_total", grpc, "4"},
				{"istio_tcp_connections_opened_total", tcp, "1"}, {"istio_tcp_connections_closed_total", tcp, "1"},
				{"istio_tcp_received_bytes_total", tcp, "9"}, {"istio_tcp_sent_bytes_total", tcp, ""},
			} {
				got := value(t, all, m.name, append(slices.Clone(common), m.labels...)...)
				if m.want == "" { // how many bytes, the application decides
					if !regexp.MustCompile(`^[1-9][0-9]*$`).MatchString(got) {
						return fmt.Sprintf("%s at %s: %q", m.name, side.workload, got)
					}
				} else if got != m.want {
					return fmt.Sprintf("%s%v at %s: %q, want %s, of\n%s", m.name, m.labels, side.workload, got, m.want, strings.Join(slices.DeleteFunc(all, func(l string) bool { return strings.Contains(l, "_bucket{") }), "\n"))
				}
			}
			if value(t, all, "istio_request_messages_total", `request_protocol="http"`) != "" {
				return "messages of a request that is not gRPC"
			}
			return ""
		})
	}
}

// callGRPC sends messages in one call, which the application returns.
func callGRPC(t *testing.T, s *stage.Stage, messages int) {
	t.Helper()
	if err := tryGRPC(t.Context(), s, "curl", messages); err != nil {
		t.Fatal(err)
	}
}

func tryGRPC(ctx context.Context, s *stage.Stage, from string, messages int) error {
	dial, err := s.Dialer(from)
	if err != nil {
		return err
	}
	p := &http.Protocols{}
	p.SetUnencryptedHTTP2(true)
	c := &http.Client{Transport: &http.Transport{DialContext: dial, Protocols: p}, Timeout: stage.Patience}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://web:9090/shop.Cart/Get",
		strings.NewReader(strings.Repeat("\x00\x00\x00\x00\x02hi", messages)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && (len(b) != 7*messages || resp.Trailer.Get("Grpc-Status") != "0") {
		err = fmt.Errorf("%d bytes, trailer %v", len(b), resp.Trailer)
	}
	return err
}

// talk sends a line on a TCP connection and waits until it comes back.
func talk(t *testing.T, s *stage.Stage, address, line string) {
	t.Helper()
	if err := tryTalk(t.Context(), s, "curl", address, line); err != nil {
		t.Fatal(err)
	}
}

func tryTalk(ctx context.Context, s *stage.Stage, from, address, line string) error {
	dial, err := s.Dialer(from)
	if err != nil {
		return err
	}
	c, err := dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, line); err != nil {
		return err
	}
	var got []byte
	for !strings.HasSuffix(string(got), line) {
		b := make([]byte, 1024)
		n, err := c.Read(b)
		if err != nil {
			return fmt.Errorf("%q, then %w", got, err)
		}
		got = append(got, b[:n]...)
	}
	return nil
}
