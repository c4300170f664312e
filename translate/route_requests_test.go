package translate_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// traffic is a real Envoy with the routes of one sidecar's port 80. Each of
// its clusters is a server of this test's that says what reached it.
type traffic struct {
	url    string
	client *http.Client

	mu   sync.Mutex
	seen map[string]int // requests by cluster and path
}

// reached is what a server answers about the request that it got.
type reached struct {
	Cluster, Path, Host string
	Header              http.Header
}

func (tr *traffic) serve(cluster string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tr.mu.Lock()
		tr.seen[cluster+r.URL.Path]++
		tr.mu.Unlock()
		switch {
		case r.URL.Path == "/hang":
			<-r.Context().Done()
			return
		case strings.HasPrefix(r.URL.Path, "/fail"):
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("x-backend-only", "yes")
		_ = json.NewEncoder(w).Encode(reached{cluster, r.URL.Path, r.Host, r.Header})
	})
}

func (tr *traffic) count(key string) int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.seen[key]
}

// startTraffic runs an Envoy with the table that the mesh in file comes to.
func startTraffic(t *testing.T, file string) *traffic {
	t.Helper()
	mesh, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, &txtar.Archive{Files: []txtar.File{{Name: "mesh.yaml", Data: mesh}}})
	r := w.find("route", "80")
	table := &route.RouteConfiguration{}
	if err := proto.Unmarshal(r.Bytes(), table); err != nil {
		t.Fatal(err)
	}
	tr := &traffic{seen: map[string]int{}, client: &http.Client{
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	t.Cleanup(tr.client.CloseIdleConnections)
	var clusters []any
	for _, name := range r.Refs.Clusters {
		if strings.Contains(name, "nowhere") || strings.Contains(name, "never") {
			continue // a destination that does not exist has no cluster
		}
		s := httptest.NewServer(tr.serve(name))
		t.Cleanup(s.Close)
		clusters = append(clusters, plainCluster(name, s.Listener.Addr().String()))
	}
	var listener map[string]any
	if err := json.Unmarshal(listenerWithTable(t, "traffic", 0, table), &listener); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "admin")
	bootstrap, err := json.Marshal(map[string]any{
		"node":             map[string]string{"id": "traffic", "cluster": "traffic"},
		"admin":            map[string]any{"address": map[string]any{"pipe": map[string]string{"path": socket}}},
		"static_resources": map[string]any{"listeners": []any{listener}, "clusters": clusters},
	})
	if err != nil {
		t.Fatal(err)
	}
	envoytest.Start(t, bootstrap)
	admin := envoytest.Admin(t, socket)
	envoytest.Eventually(t, 20*time.Second, func() string {
		_, body, err := envoytest.Get(admin, "/listeners")
		name, addr, ok := strings.Cut(strings.TrimSpace(body), "::")
		if err != nil || !ok || name != "traffic" {
			return fmt.Sprintf("no listener yet: %q, %v", body, err)
		}
		tr.url = "http://" + addr
		return ""
	})
	return tr
}

func plainCluster(name, addr string) map[string]any {
	host, port, _ := strings.Cut(addr, ":")
	return map[string]any{
		"name": name, "type": "STATIC", "connect_timeout": "5s",
		"load_assignment": map[string]any{"cluster_name": name, "endpoints": []any{map[string]any{
			"lb_endpoints": []any{map[string]any{"endpoint": map[string]any{"address": map[string]any{
				"socket_address": map[string]any{"address": host, "port_value": json.Number(port)},
			}}}},
		}}},
	}
}

// answer is the response to one request.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) reached(t *testing.T) (r reached) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), &r); err != nil {
		t.Fatalf("status %d, body %q: %v", a.status, a.body, err)
	}
	return r
}

// ask sends a request; headers are "name: value".
func (tr *traffic) ask(t *testing.T, method, host, path string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequest(method, tr.url+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	resp, err := tr.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var body bytes.Buffer
	if _, err := io.Copy(&body, resp.Body); err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, body.String()}
}

const (
	clusterOne = "outbound|80||one.default.svc.cluster.local"
	clusterTwo = "outbound|80||two.default.svc.cluster.local"
)

// TestRequests sends requests through a real Envoy with the routes of
// testdata/route/requests.yaml.
func TestRequests(t *testing.T) {
	tr := startTraffic(t, "testdata/route/requests.yaml")
	t.Run("match", tr.matches)
	t.Run("host", tr.hosts)
	t.Run("weight", tr.weights)
	t.Run("rewrite", tr.rewrites)
	t.Run("redirect", tr.redirects)
	t.Run("headers", tr.headerChanges)
	t.Run("fault", tr.faults)
	t.Run("timeout and retries", tr.patience)
	t.Run("mirror", tr.mirrors)
	t.Run("cors", tr.cors)
}

func (tr *traffic) matches(t *testing.T) {
	for _, c := range []struct {
		method, path, want string
		headers            []string
	}{
		{"GET", "/exact", "exact", nil},
		{"GET", "/exact?x=1", "exact", nil},
		{"GET", "/exact/", "", nil},
		{"GET", "/EXACT", "", nil},
		{"GET", "/prefix/and/more", "prefix", nil},
		{"GET", "/prefixed", "prefix", nil},
		{"GET", "/v12/x", "regex", nil},
		{"GET", "/v/x", "", nil},
		{"GET", "/any-CASE", "any-case", nil},
		{"POST", "/m", "post", nil},
		{"GET", "/m", "", nil},
		{"GET", "/", "header-exact", []string{"end-user: jason"}},
		{"GET", "/", "header-prefix", []string{"end-user: jane"}},
		{"GET", "/", "header-regex", []string{"end-user: 42"}},
		{"GET", "/", "header-present", []string{"end-user: someone"}},
		{"GET", "/", "", nil},
		{"GET", "/q?v=2&debug", "query", nil},
		{"GET", "/q?v=2", "", nil},
		{"GET", "/q?v=3&debug=1", "", nil},
		{"GET", "/w", "without-value", nil},
		{"GET", "/w", "without-value", []string{"x-internal: false"}},
		{"GET", "/w", "", []string{"x-internal: true"}},
		{"GET", "/p", "without-any", nil},
		{"GET", "/p", "", []string{"x-internal: false"}},
		{"GET", "/s", "scheme", nil},
		{"GET", "/a", "authority", nil},
	} {
		a := tr.ask(t, c.method, "match.test", c.path, c.headers...)
		if c.want == "" && a.status != http.StatusNotFound || c.want != "" && a.body != c.want {
			t.Errorf("%s %s %v: status %d, body %q; want %q", c.method, c.path, c.headers, a.status, a.body, c.want)
		}
	}
}

func (tr *traffic) hosts(t *testing.T) {
	for host, want := range map[string]string{
		"one": clusterOne, "one.default": clusterOne, "one.default.svc": clusterOne, "ONE.default.svc.cluster.local": clusterOne,
		"one.default.svc.cluster.local.": clusterOne, "one:80": clusterOne, "one.default.svc.cluster.local:80": clusterOne,
		"10.0.0.1": clusterOne, "10.0.0.2": clusterTwo, "two.default": clusterTwo,
		"unknown.example.com": "PassthroughCluster", "two.other": "PassthroughCluster",
	} {
		if got := tr.ask(t, "GET", host, "/").reached(t).Cluster; got != want {
			t.Errorf("%s reached %s, want %s", host, got, want)
		}
	}
	for _, host := range []string{"a.wild.test", "a.b.wild.test", "A.Wild.Test:80"} {
		if got := tr.ask(t, "GET", host, "/"); got.body != "wild" {
			t.Errorf("%s: status %d, body %q", host, got.status, got.body)
		}
	}
	if got := tr.ask(t, "GET", "nowhere.test", "/"); got.status != http.StatusServiceUnavailable {
		t.Errorf("a destination that does not exist: status %d, want 503", got.status)
	}
}

func (tr *traffic) weights(t *testing.T) {
	const n, share = 1000, 0.3
	two := 0
	for range n {
		a := tr.ask(t, "GET", "weights.test", "/")
		if a.reached(t).Cluster != clusterTwo {
			continue
		}
		two++
		if a.header.Get("x-weighted") != "two" {
			t.Fatalf("the destination's own header is missing: %v", a.header)
		}
	}
	// Five standard deviations: one run in a million fails by chance.
	if off, most := math.Abs(float64(two)-n*share), 5*math.Sqrt(n*share*(1-share)); off > most {
		t.Errorf("%d of %d requests went to a destination of weight 30", two, n)
	}
}

func (tr *traffic) rewrites(t *testing.T) {
	for path, want := range map[string][2]string{
		"/old/x?y=1":         {"/new/x", "other.test"},
		"/whole":             {"/other", "rewrite.test"},
		"/service/foo/v1/ab": {"/v1/ab/instance/foo", "rewrite.test"},
	} {
		got := tr.ask(t, "GET", "rewrite.test", path).reached(t)
		if got.Path != want[0] || got.Host != want[1] {
			t.Errorf("%s became %s on %s, want %s on %s", path, got.Path, got.Host, want[0], want[1])
		}
	}
}

func (tr *traffic) redirects(t *testing.T) {
	for _, c := range []struct {
		path, want string
		status     int
	}{
		{"/uri?q=1", "http://new.test/there?q=1", 302},
		{"/from/here", "http://redirect.test/to/here", 301},
		{"/https", "https://redirect.test/https", 301},
		{"/port", "https://redirect.test:8443/port", 301},
	} {
		a := tr.ask(t, "GET", "redirect.test", c.path)
		if got := a.header.Get("Location"); got != c.want || a.status != c.status {
			t.Errorf("%s: %d to %s, want %d to %s", c.path, a.status, got, c.status, c.want)
		}
	}
}

func (tr *traffic) headerChanges(t *testing.T) {
	a := tr.ask(t, "GET", "headers.test", "/", "x-set: old", "x-add: some", "x-gone: soon")
	r := a.reached(t)
	if got := r.Header.Values("x-set"); len(got) != 1 || got[0] != "new" {
		t.Errorf("x-set is %q", got)
	}
	if got := strings.Join(r.Header.Values("x-add"), ","); got != "some,more" {
		t.Errorf("x-add is %q", got)
	}
	if r.Header.Get("x-gone") != "" || r.Host != "set.test" {
		t.Errorf("x-gone is %q, Host %q", r.Header.Get("x-gone"), r.Host)
	}
	if a.header.Get("x-served") != "mesh" || a.header.Get("x-backend-only") != "" {
		t.Errorf("the response has %v", a.header)
	}
}

func (tr *traffic) faults(t *testing.T) {
	if a := tr.ask(t, "GET", "fault.test", "/abort"); a.status != 418 {
		t.Errorf("abort: status %d", a.status)
	}
	a := tr.ask(t, "POST", "fault.test", "/grpc", "content-type: application/grpc")
	if a.header.Get("grpc-status") != "14" {
		t.Errorf("gRPC abort: status %d, %v", a.status, a.header)
	}
	if a := tr.ask(t, "GET", "fault.test", "/never"); a.status != 200 {
		t.Errorf("an abort without a percentage: status %d", a.status)
	}
	start := time.Now() // Envoy counts its 300 ms from when its loop last read the clock, so a little less may pass
	if a := tr.ask(t, "GET", "fault.test", "/"); a.status != 200 || time.Since(start) < 250*time.Millisecond {
		t.Errorf("delay: status %d after %v", a.status, time.Since(start))
	}
}

func (tr *traffic) patience(t *testing.T) {
	if a := tr.ask(t, "GET", "patience.test", "/hang"); a.status != http.StatusGatewayTimeout {
		t.Errorf("timeout: status %d", a.status)
	}
	for path, want := range map[string]int{"/fail-retried": 4, "/fail-once": 1} {
		if a := tr.ask(t, "GET", "patience.test", path); a.status != http.StatusServiceUnavailable {
			t.Errorf("%s: status %d", path, a.status)
		}
		if got := tr.count(clusterOne + path); got != want {
			t.Errorf("%s was tried %d times, want %d", path, got, want)
		}
	}
}

func (tr *traffic) mirrors(t *testing.T) {
	if got := tr.ask(t, "GET", "mirror.test", "/mirrored").reached(t).Cluster; got != clusterOne {
		t.Errorf("the answer is that of %s", got)
	}
	envoytest.Eventually(t, 10*time.Second, func() string {
		if n := tr.count(clusterTwo + "/mirrored"); n != 1 {
			return fmt.Sprintf("the mirror got %d requests", n)
		}
		return ""
	})
}

func (tr *traffic) cors(t *testing.T) {
	preflight := []string{"Access-Control-Request-Method: PUT"}
	a := tr.ask(t, "OPTIONS", "cors.test", "/", append(preflight, "Origin: https://shop.example.com")...)
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin": "https://shop.example.com", "Access-Control-Allow-Methods": "GET,PUT",
		"Access-Control-Allow-Headers": "x-foo", "Access-Control-Max-Age": "3600", "Access-Control-Allow-Credentials": "true",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("preflight: %s is %q, want %q", name, got, want)
		}
	}
	a = tr.ask(t, "OPTIONS", "cors.test", "/", append(preflight, "Origin: https://evil.test")...)
	if a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("another origin may: %v", a.header)
	}
	a = tr.ask(t, "GET", "cors.test", "/", "Origin: https://shop.example.com")
	if a.header.Get("Access-Control-Expose-Headers") != "x-bar" || a.header.Get("Access-Control-Allow-Origin") != "https://shop.example.com" {
		t.Errorf("simple request: %v", a.header)
	}
}
