package pod_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/pilotfish-mesh/pilotfish/agent/pod"
	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/promtest"
)

// listen opens a port of the application on the pod's address.
func listen(t *testing.T) (net.Listener, string) {
	t.Helper()
	l, err := net.Listen("tcp", podIP+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return l, port
}

// application serves HTTP, plain or over TLS, and returns its port.
func application(t *testing.T, secure bool, h http.HandlerFunc) string {
	t.Helper()
	l, port := listen(t)
	s := httptest.NewUnstartedServer(h)
	_ = s.Listener.Close()
	s.Listener = l
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return port
}

// Kubelet's probes by way of the agent.
func TestProbesOfTheApplication(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			w.Header().Set("X-Answer", "yes")
			_, _ = fmt.Fprintf(w, "%s %s %s", r.Host, r.Header.Get("X-Probe"), r.RemoteAddr[:strings.LastIndex(r.RemoteAddr, ":")])
		case "/bad":
			http.Error(w, "sick", http.StatusServiceUnavailable)
		case "/slow":
			<-r.Context().Done()
		case "/elsewhere":
			http.Redirect(w, r, "http://example.com/", http.StatusFound)
		case "/here":
			http.Redirect(w, r, "/bad", http.StatusFound)
		}
	}
	plain, secure := application(t, false, handler), application(t, true, handler)
	gl, gport := listen(t)
	g := grpc.NewServer()
	hs := health.NewServer()
	hs.SetServingStatus("good", grpc_health_v1.HealthCheckResponse_SERVING)
	hs.SetServingStatus("bad", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	grpc_health_v1.RegisterHealthServer(g, hs)
	go func() { _ = g.Serve(gl) }()
	t.Cleanup(g.Stop)
	closed, closedPort := listen(t)
	_ = closed.Close()

	probers := fmt.Sprintf(`{
		"/app-health/a/livez":    {"httpGet": {"path": "/ok", "port": %[1]s, "httpHeaders": [{"name": "Host", "value": "me"}, {"name": "X-Probe", "value": "p"}]}},
		"/app-health/a/readyz":   {"httpGet": {"path": "bad", "port": %[1]s}, "timeoutSeconds": 2},
		"/app-health/a/startupz": {"httpGet": {"path": "/slow", "port": %[1]s}, "timeoutSeconds": 1},
		"/app-health/b/livez":    {"httpGet": {"path": "/ok", "port": %[2]s, "scheme": "HTTPS"}},
		"/app-health/b/readyz":   {"httpGet": {"path": "/elsewhere", "port": %[1]s}},
		"/app-health/b/startupz": {"httpGet": {"path": "/here", "port": %[1]s}},
		"/app-health/c/livez":    {"tcpSocket": {"port": %[1]s}},
		"/app-health/c/readyz":   {"tcpSocket": {"port": %[4]s}},
		"/app-health/d/livez":    {"grpc": {"port": %[3]s, "service": "good"}},
		"/app-health/d/readyz":   {"grpc": {"port": %[3]s, "service": "bad"}},
		"/app-health/d/startupz": {"grpc": {"port": %[3]s}}
	}`, plain, secure, gport, closedPort)
	w := newWorld(t, ca.Options{})
	r := w.start(w.options(nil, "ISTIO_KUBE_APP_PROBERS="+probers))
	w.awaitReady(r)
	for path, want := range map[string]struct {
		status int
		body   string
	}{
		"/app-health/a/livez":    {200, "me p 127.0.0.6"},
		"/app-health/a/readyz":   {503, "sick"},
		"/app-health/a/startupz": {500, "deadline"},
		"/app-health/b/livez":    {200, podIP},
		"/app-health/b/readyz":   {200, ""},
		"/app-health/b/startupz": {503, "sick"},
		"/app-health/c/livez":    {200, ""},
		"/app-health/c/readyz":   {500, "refused"},
		"/app-health/d/livez":    {200, ""},
		"/app-health/d/readyz":   {500, "NOT_SERVING"},
		"/app-health/d/startupz": {200, ""},
		"/app-health/e/livez":    {404, "no probe"},
	} {
		status, body, err := get("http://" + podIP + ":15020" + path)
		if err != nil || status != want.status || !strings.Contains(body, want.body) {
			t.Errorf("%s: %d %q %v, want %d with %q", path, status, body, err, want.status, want.body)
		}
	}
}

var update = flag.Bool("update", false, "write docs/metrics.md anew")

// One scrape holds the metrics of all three, and lacks only those that fail.
func TestMetricsAreMerged(t *testing.T) {
	answer := "app_requests_total 7\n# EOF\n"
	port := application(t, false, func(w http.ResponseWriter, r *http.Request) {
		if answer == "" {
			http.Error(w, "no", http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, answer)
	})
	// The agent asks localhost, as the application's own port is bound to all.
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	go forward(l, podIP+":"+port)
	t.Cleanup(func() { _ = l.Close() })
	w := newWorld(t, ca.Options{})
	w.file("/etc/resolv.conf", "nameserver 127.0.0.77\n")
	r := w.start(w.options(nil, `ISTIO_PROMETHEUS_ANNOTATIONS={"scrape":"true","path":"/m","port":"`+port+`"}`, "ISTIO_META_DNS_CAPTURE=true"))
	w.awaitReady(r)
	scrape := func() string {
		status, body, err := get("http://" + podIP + ":15020/stats/prometheus")
		if err != nil || status != http.StatusOK {
			t.Fatal(status, err)
		}
		return body
	}
	body := scrape()
	for _, want := range []string{"\napp_requests_total 7\n", "\nenvoy_server_live", "\nistio_agent_num_outgoing_requests{request_type=\"csr\"} 1\n",
		"\nistio_agent_cert_expiry_seconds{resource_name=\"default\"} ", "\nistio_agent_cert_expiry_seconds{resource_name=\"ROOTCA\"} ",
		"\nistio_agent_process_resident_memory_bytes ", "\npilotfish_proxy_process_cpu_seconds_total ", "\nistio_agent_startup_duration_seconds ",
		"\nistio_agent_outgoing_latency{request_type=\"csr\"} ", "\nistio_agent_scrapes_total 1\n", "\nistio_agent_num_failed_outgoing_requests{request_type=\"csr\"} 0\n",
		"\npilotfish_agent_cert_lifetime_seconds 86", "\nistio_agent_wasm_remote_fetch_count{result=\"success\"} 0\n",
		"\nistio_agent_process_cpu_seconds_total ", "\npilotfish_proxy_process_resident_memory_bytes ",
		"\nistio_build{component=\"proxy\",tag=\"test\"} 1\n"} {
		if !strings.Contains("\n"+body, want) {
			t.Errorf("no %q in the merged metrics", strings.TrimSpace(want))
		}
	}
	own := ownMetrics(body)
	promtest.Page(t, "../..", "agent", *update, own)
	for _, name := range promtest.Untested(t, "../..", own, "alerts_test.go") {
		t.Errorf("no test names %s", name)
	}
	if strings.Contains(body, "# EOF") {
		t.Error("an end mark within the metrics")
	}
	answer = ""
	if body = scrape(); !strings.Contains(body, "envoy_server_live") || strings.Contains(body, "app_requests_total") {
		t.Error("an application that fails must cost only its own metrics")
	}
	if body = scrape(); !strings.Contains(body, `istio_agent_scrape_failures_total{type="application"} 1`) {
		t.Error("the failure is not counted")
	}
}

var (
	help      = regexp.MustCompile(`(?m)^# HELP ((?:istio_agent|pilotfish)_\w+) (.*)$`)
	labelName = regexp.MustCompile(`(\w+)="`)
)

// ownMetrics are the agent's in a text of metrics.
func ownMetrics(text string) []promtest.Metric {
	var out []promtest.Metric
	for _, m := range help.FindAllStringSubmatch(text, -1) {
		metric := promtest.Metric{Name: m[1], Help: m[2]}
		if series := regexp.MustCompile(`(?m)^` + m[1] + `(?:_bucket)?\{(.*)\}`).FindStringSubmatch(text); series != nil {
			var names []string
			for _, l := range labelName.FindAllStringSubmatch(series[1], -1) {
				if l[1] != "le" {
					names = append(names, l[1])
				}
			}
			metric.Labels = strings.Join(names, ", ")
		}
		out = append(out, metric)
	}
	return out
}

func forward(l net.Listener, to string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = c.Close() }()
			d, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer func() { _ = d.Close() }()
			go func() { _, _ = io.Copy(d, c) }()
			_, _ = io.Copy(c, d)
		}()
	}
}

func post(url string) (int, error) {
	resp, err := http.Post(url, "", nil)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// A pod is not ready without configuration, and waiting for it says so.
func TestNotReadyWithoutConfiguration(t *testing.T) {
	w := newWorld(t, ca.Options{})
	// Nobody speaks ADS here; certificates come from the authority.
	o := w.options(map[string]any{"discoveryAddress": "localhost:1"}, "CA_ADDR="+w.address)
	r := w.start(o)
	envoytest.Eventually(t, 20*time.Second, func() string {
		status, body, err := get("http://" + podIP + ":15020/healthz/ready")
		if status != http.StatusServiceUnavailable || !strings.Contains(body, "was not reached yet") {
			return fmt.Sprint(status, body, err)
		}
		return ""
	})
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if err := pod.Wait(ctx, readyURL, 100*time.Millisecond, 50*time.Millisecond); err == nil {
		t.Error("waiting reports a pod ready that is not")
	}
	if status, err := post("http://" + podIP + ":15020/quitquitquit"); status != http.StatusForbidden {
		t.Errorf("quitting from elsewhere: %d %v", status, err)
	}
	if status, err := post("http://127.0.0.1:15020/quitquitquit"); status != http.StatusOK {
		t.Errorf("quitting: %d %v", status, err)
	}
	select {
	case <-r.done:
	case <-time.After(10 * time.Second):
		t.Error("the agent does not quit")
	}
}
