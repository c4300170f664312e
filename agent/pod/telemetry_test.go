package pod_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// dialAsApplication connects as a user whose connections are redirected.
func dialAsApplication(ctx context.Context, network, to string) (net.Conn, error) {
	type result struct {
		c   net.Conn
		err error
	}
	out := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its user
		if _, err := unix.SetfsuidRetUid(1000); err != nil {
			out <- result{nil, err}
			return
		}
		c, err := (&net.Dialer{}).DialContext(ctx, network, to)
		out <- result{c, err}
	}()
	r := <-out
	return r.c, r.err
}

// teapots answers on the application's port, with 2000 bytes.
func teapots(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", ":8080")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, strings.Repeat("x", 2000))
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
}

// askApplication calls the service as an application does.
func askApplication(client *http.Client) error {
	resp, err := client.Get("http://10.96.0.7/hello")
	if err != nil {
		return err
	}
	b, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusTeapot || len(b) != 2000 {
		return fmt.Errorf("%s: %d bytes", resp.Status, len(b))
	}
	return nil
}

// A request and a connection from an application to a service, by mutual TLS,
// as both of its proxies report it. Here one proxy is both.
func TestStandardMetrics(t *testing.T) {
	w := newWorld(t, ca.Options{})
	interceptOwn(t)
	teapots(t)
	tl, err := net.Listen("tcp", ":9000")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tl.Close() })
	go func() {
		for {
			c, err := tl.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()

	r := w.start(w.options(nil))
	w.awaitReady(r)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: dialAsApplication}}
	defer client.CloseIdleConnections()
	for range 3 {
		if err := askApplication(client); err != nil {
			t.Fatal(err)
		}
	}
	c, err := dialAsApplication(context.Background(), "tcp", "10.96.0.7:9000")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()

	const identity = "spiffe://cluster.local/ns/shop/sa/app"
	side := func(prefix string) string {
		return fmt.Sprintf(`%[1]s_workload="app",%[1]s_workload_namespace="shop",%[1]s_principal="%[2]s",%[1]s_app="app",`+
			`%[1]s_version="v1",%[1]s_canonical_service="app",%[1]s_canonical_revision="v1",%[1]s_cluster="Kubernetes"`, prefix, identity)
	}
	const service = `destination_service="app.shop.svc.cluster.local",destination_service_name="app",destination_service_namespace="shop"`
	outbound := `{reporter="source",` + side("source") + "," + side("destination") + "," + service
	inbound := `{reporter="destination",` + side("source") + "," + side("destination") + "," + service
	for _, want := range []string{
		"istio_requests_total" + outbound + `,request_protocol="http",response_code="418",grpc_response_status="",response_flags="-",connection_security_policy="unknown"} 3`,
		"istio_requests_total" + inbound + `,request_protocol="http",response_code="418",grpc_response_status="",response_flags="-",connection_security_policy="mutual_tls"} 3`,
		"istio_request_duration_milliseconds_count" + inbound,
		"istio_request_bytes_count" + inbound,
		"istio_response_bytes_bucket" + inbound + `,request_protocol="http",response_code="418",grpc_response_status="",response_flags="-",connection_security_policy="mutual_tls",le="1000"} 0`,
		"istio_tcp_connections_opened_total" + outbound + `,request_protocol="tcp",response_flags="-",connection_security_policy="unknown"} 1`,
		"istio_tcp_connections_closed_total" + inbound + `,request_protocol="tcp",response_flags="-",connection_security_policy="mutual_tls"} 1`,
		"istio_tcp_received_bytes_total" + inbound + `,request_protocol="tcp",response_flags="-",connection_security_policy="mutual_tls"} 5`,
	} {
		envoytest.Eventually(t, 10*time.Second, func() string {
			_, body, err := get("http://127.0.0.1:15020/stats/prometheus")
			if err != nil {
				return err.Error()
			}
			if !strings.Contains(body, want) {
				name, _, _ := strings.Cut(want, "{")
				var have []string
				for _, line := range strings.Split(body, "\n") {
					if strings.HasPrefix(line, name) {
						have = append(have, line)
					}
				}
				return "no\n" + want + "\nbut\n" + strings.Join(have, "\n")
			}
			return ""
		})
	}
}

// A pod's annotations say which buckets histograms have, Envoy's own and the
// standard metrics', and for how long series stay that nothing is added to.
func TestAnnotatedMetrics(t *testing.T) {
	w := newWorld(t, ca.Options{})
	interceptOwn(t)
	teapots(t)
	w.file("/etc/istio/pod/annotations", `sidecar.istio.io/statsFlushInterval="100ms"
sidecar.istio.io/statsEvictionInterval="1s"
sidecar.istio.io/statsHistogramBuckets="{\"cluster.xds-grpc\":[2.5,99999],\"istiocustom.istio_response\":[1234]}"
`)
	w.awaitReady(w.start(w.options(nil)))
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: dialAsApplication}}
	defer client.CloseIdleConnections()
	const series = "istio_requests_total{"
	lacks := func(parts ...string) string {
		_, body, err := get("http://127.0.0.1:15020/stats/prometheus")
		if err != nil {
			return err.Error()
		}
		for _, want := range parts {
			found := false
			for line := range strings.Lines(body) {
				name, rest, _ := strings.Cut(want, " ")
				found = found || strings.HasPrefix(line, name) && strings.Contains(line, rest)
			}
			if !found {
				return "no " + want
			}
		}
		return ""
	}
	envoytest.Eventually(t, 30*time.Second, func() string {
		if err := askApplication(client); err != nil {
			return err.Error()
		}
		return lacks(series, `istio_response_bytes_bucket{ le="1234"`, `istio_request_bytes_bucket{ le="2500"`,
			`envoy_cluster_upstream_cx_connect_ms_bucket{ le="99999"`)
	})
	envoytest.Eventually(t, 30*time.Second, func() string {
		if lacks(series) == "" {
			return "the series of a client that is gone is still there"
		}
		return ""
	})
}
