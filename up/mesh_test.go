package up_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/up"
	"github.com/pilotfish-mesh/pilotfish/up/echo"
)

// notes collects what a mesh says.
type notes struct {
	mu    sync.Mutex
	lines []string
}

func (n *notes) add(line string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, line)
}

func (n *notes) text() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.lines, "\n")
}

// inModes runs a test in every mode that this machine has.
func inModes(t *testing.T, f func(t *testing.T, mode up.Mode)) {
	t.Run("netns", func(t *testing.T) {
		if err := up.CanUseNamespaces(); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("needs root: %v", err)
			}
			t.Skipf("needs root: %v", err)
		}
		f(t, up.Namespaces)
	})
	t.Run("loopback", func(t *testing.T) { f(t, up.Loopback) })
}

// canary is a copy of the example that a test may edit.
func canary(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../examples/canary")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func start(t *testing.T, o up.Options) (*up.Mesh, *notes) {
	t.Helper()
	said := &notes{}
	o.Note = said.add
	if o.Envoy == "" {
		o.Envoy = envoytest.Binary(t)
	}
	m, err := up.Start(context.Background(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, said.text())
	}
	t.Cleanup(func() {
		m.Close()
		if t.Failed() {
			t.Log(said.text())
		}
	})
	return m, said
}

// edit replaces text in a file, in one step as editors do.
func edit(t *testing.T, dir, file string, oldNew ...string) {
	t.Helper()
	path := filepath.Join(dir, file)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for i := 0; i < len(oldNew); i += 2 {
		if !strings.Contains(text, oldNew[i]) {
			t.Fatalf("%s holds no %q:\n%s", file, oldNew[i], text)
		}
		text = strings.ReplaceAll(text, oldNew[i], oldNew[i+1])
	}
	write(t, dir, file, text)
}

func write(t *testing.T, dir, file, text string) {
	t.Helper()
	tmp := filepath.Join(dir, ".edit")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, file)); err != nil {
		t.Fatal(err)
	}
}

// request is one request that a client made.
type request struct {
	started time.Time
	version string
	err     string // what went wrong, or ""
}

// traffic sends steadily until it is stopped.
type traffic struct {
	stop chan struct{}
	done chan struct{}
	mu   sync.Mutex
	all  []request
}

func startTraffic(t *testing.T, c *http.Client, url string) *traffic {
	tr := &traffic{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(tr.done)
		tick := time.NewTicker(4 * time.Millisecond)
		defer tick.Stop()
		var flying sync.WaitGroup
		defer flying.Wait()
		for {
			select {
			case <-tr.stop:
				return
			case <-tick.C:
				flying.Go(func() {
					r := get(c, url)
					tr.mu.Lock()
					defer tr.mu.Unlock()
					tr.all = append(tr.all, r)
				})
			}
		}
	}()
	t.Cleanup(func() { tr.end() })
	return tr
}

func (tr *traffic) end() []request {
	select {
	case <-tr.stop:
	default:
		close(tr.stop)
	}
	<-tr.done
	return tr.all
}

// latest returns the last n requests so far.
func (tr *traffic) latest(n int) []request {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return append([]request(nil), tr.all[max(0, len(tr.all)-n):]...)
}

func get(c *http.Client, url string) request {
	r := request{started: time.Now()}
	resp, err := c.Get(url)
	if err != nil {
		r.err = err.Error()
		return r
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	r.version = resp.Header.Get(echo.VersionHeader)
	switch {
	case err != nil:
		r.err = err.Error()
	case resp.StatusCode != http.StatusOK:
		r.err = fmt.Sprintf("%s: %s", resp.Status, body)
	case r.version == "":
		r.err = fmt.Sprintf("nobody answered: %s", body)
	}
	return r
}

func newClient(t *testing.T) *http.Client {
	tr := &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func failures(all []request) (out []string) {
	for _, r := range all {
		if r.err != "" {
			out = append(out, r.started.Format("15:04:05.000 ")+r.err)
		}
	}
	return out
}

// within5Sigma reports whether k of n is what probability p would give but
// once in a million times.
func within5Sigma(k, n int, p float64) bool {
	return math.Abs(float64(k)-p*float64(n)) <= 5*math.Sqrt(p*(1-p)*float64(n))
}

func share(all []request, version string) int {
	k := 0
	for _, r := range all {
		if r.version == version {
			k++
		}
	}
	return k
}

// after returns n requests that began from now on.
func (tr *traffic) after(t *testing.T, n int) []request {
	t.Helper()
	from := time.Now()
	var got []request
	envoytest.Eventually(t, 30*time.Second, func() string {
		got = got[:0]
		for _, r := range tr.latest(10 * n) {
			if r.started.After(from) {
				got = append(got, r)
			}
		}
		if len(got) < n {
			return fmt.Sprintf("%d of %d requests", len(got), n)
		}
		return ""
	})
	return got[:n]
}

// An edit shifts the traffic within a second, a workload grows and shrinks,
// and no request fails. Package e2e/story tells the rest of the story.
func TestEditsShiftTraffic(t *testing.T) {
	inModes(t, func(t *testing.T, mode up.Mode) {
		dir := canary(t)
		m, said := start(t, up.Options{Paths: []string{dir}, Mode: mode})
		addr, err := m.Gateway("myapp-gateway", 80)
		if err != nil {
			t.Fatal(err)
		}
		tr := startTraffic(t, newClient(t), "http://"+addr+"/")
		if got := tr.after(t, 400); !within5Sigma(share(got, "v2"), len(got), 0.3) {
			t.Errorf("at 70/30 %d of %d requests went to v2", share(got, "v2"), len(got))
		}
		edit(t, dir, "myapp.yaml", "weight: 70", "weight: 0", "weight: 30", "weight: 100")
		<-time.After(time.Second) // the promise that is tested
		if got := tr.after(t, 200); share(got, "v2") != len(got) {
			t.Errorf("a second after the edit to 0/100 %d of %d requests went to v2", share(got, "v2"), len(got))
		}

		const replicas = "name: myapp-v2\nspec:\n  replicas: "
		edit(t, dir, "deployments.yaml", replicas+"1", replicas+"3")
		pods := func(n int) {
			t.Helper()
			envoytest.Eventually(t, 30*time.Second, func() string {
				for _, w := range m.Workloads() {
					if w.Name == "myapp-v2" && len(w.Pods) == n {
						return ""
					}
				}
				return fmt.Sprintf("v2 has not %d pods", n)
			})
		}
		pods(3)
		tr.after(t, 200)
		edit(t, dir, "deployments.yaml", replicas+"3", replicas+"1")
		pods(1)
		envoytest.Eventually(t, 30*time.Second, func() string {
			if n := strings.Count(said.text(), ": stopped"); n != 2 {
				return fmt.Sprintf("%d pods have stopped, want 2", n)
			}
			return ""
		})
		all := tr.end()
		if f := failures(all); len(f) > 0 {
			t.Errorf("%d of %d requests failed:\n%s", len(f), len(all), strings.Join(f[:min(len(f), 10)], "\n"))
		}
	})
}

// An application's own request goes through its sidecar, which routes it.
func TestClientSendsThroughTheSidecar(t *testing.T) {
	inModes(t, func(t *testing.T, mode up.Mode) {
		dir := canary(t)
		edit(t, dir, "myapp.yaml", "gateways: [myapp-gateway]", "gateways: [myapp-gateway, mesh]", `hosts: ["*"]
  gateways`, `hosts: [myapp]
  gateways`)
		m, _ := start(t, up.Options{Paths: []string{dir}, Mode: mode})
		for _, from := range []string{"myapp-v1", "default/myapp-v2"} {
			c, err := m.Client(from)
			if err != nil {
				t.Fatal(err)
			}
			v2 := 0
			const n = 300
			for range n {
				r := get(c, "http://myapp/")
				if r.err != "" {
					t.Fatal(r.err)
				}
				if r.version == "v2" {
					v2++
				}
			}
			c.CloseIdleConnections()
			if !within5Sigma(v2, n, 0.3) {
				t.Errorf("from %s %d of %d requests went to v2, want 30%%", from, v2, n)
			}
		}
		c, err := m.Client("myapp-v1")
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseIdleConnections()
		resp, err := c.Get("http://myapp/path?q=1")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var a echo.Answer
		if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
			t.Fatal(err)
		}
		if a.Host != "myapp" || a.Path != "/path?q=1" || a.Port != 8080 || a.Headers.Get("X-Request-Id") == "" {
			t.Errorf("the application saw %+v: not a request through a sidecar", a)
		}
	})
}

// Addresses that the folder gives itself are the workloads' own.
func TestFixedAddresses(t *testing.T) {
	inModes(t, func(t *testing.T, mode up.Mode) {
		dir := canary(t)
		write(t, dir, "vm.yaml", `
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-1, labels: {app: vm, version: vm}}
spec:
  address: 192.168.77.5
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: vm}
spec:
  hosts: [vm.example.com]
  addresses: [240.10.0.1]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {number: 80, name: http, protocol: HTTP, targetPort: 8081}
  workloadSelector: {labels: {app: vm}}
`)
		m, said := start(t, up.Options{Paths: []string{dir}, Mode: mode})
		if mode == up.Loopback {
			if want := "WorkloadEntry default/vm-1 at 192.168.77.5 is not run here: only mode netns can give it this address"; !strings.Contains(said.text(), want) {
				t.Errorf("not told: %s", want)
			}
			return
		}
		c, err := m.Client("myapp-v1")
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseIdleConnections()
		if r := get(c, "http://vm.example.com/"); r.err != "" || r.version != "vm" {
			t.Errorf("answered by %q: %s", r.version, r.err)
		}
		// And the other way round, from outside of the pods' range.
		c, err = m.Client("vm-1")
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseIdleConnections()
		if r := get(c, "http://myapp.default.svc.cluster.local/"); r.err != "" {
			t.Error(r.err)
		}
	})
}

// The older variant of ADS works as well.
func TestStateOfTheWorld(t *testing.T) {
	m, _ := start(t, up.Options{Paths: []string{canary(t)}, Mode: up.Loopback, StateOfTheWorld: true})
	addr, err := m.Gateway("default/myapp-gateway", 0)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t)
	for range 20 {
		if r := get(c, "http://"+addr+"/"); r.err != "" {
			t.Fatal(r.err)
		}
	}
	for _, p := range m.Plane().Server.Proxies() {
		if p.Protocol != "sotw" {
			t.Errorf("%s speaks %s", p.Proxy.ID, p.Protocol)
		}
	}
}

// A Gateway that selects no workload of the folder gets one.
func TestMissingGatewayIsMade(t *testing.T) {
	inModes(t, func(t *testing.T, mode up.Mode) {
		dir := canary(t)
		if err := os.Remove(filepath.Join(dir, "gateway.yaml")); err != nil {
			t.Fatal(err)
		}
		m, said := start(t, up.Options{Paths: []string{dir}, Mode: mode})
		addr, err := m.Gateway("myapp-gateway", 80)
		if err != nil {
			t.Fatal(err)
		}
		if r := get(newClient(t), "http://"+addr+"/"); r.err != "" {
			t.Error(r.err)
		}
		if want := "istio-system/istio-ingressgateway: gateway (made for a Gateway that selects no workload here)"; !strings.Contains(said.text(), want) {
			t.Errorf("not told: %s", want)
		}
	})
}

// A change of a pod's labels is a new pod; nobody notices.
func TestChangedTemplateRollsOver(t *testing.T) {
	inModes(t, func(t *testing.T, mode up.Mode) {
		dir := canary(t)
		m, said := start(t, up.Options{Paths: []string{dir}, Mode: mode})
		addr, err := m.Gateway("myapp-gateway", 80)
		if err != nil {
			t.Fatal(err)
		}
		tr := startTraffic(t, newClient(t), "http://"+addr+"/")
		edit(t, dir, "deployments.yaml", "labels: {app: myapp, version: v1}\n    spec", "labels: {app: myapp, version: v1, more: label}\n    spec")
		envoytest.Eventually(t, 30*time.Second, func() string {
			if !strings.Contains(said.text(), ": stopped") {
				return "the old pod is still running"
			}
			return ""
		})
		all := tr.end()
		if f := failures(all); len(f) > 0 || share(all, "v1") == 0 {
			t.Errorf("%d of %d requests failed, %d reached v1:\n%s", len(f), len(all), share(all, "v1"), strings.Join(f[:min(len(f), 10)], "\n"))
		}
		for _, w := range m.Workloads() {
			if w.Name == "myapp-v1" && w.Pods[0].Labels["more"] != "label" {
				t.Errorf("v1 runs with %v", w.Pods[0].Labels)
			}
		}
	})
}

// What a proxy writes, its access log too, can be read.
func TestAccessLog(t *testing.T) {
	inModes(t, func(t *testing.T, mode up.Mode) {
		dir := canary(t)
		write(t, dir, "mesh.yaml", `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    accessLogFile: /dev/stdout
`)
		m, _ := start(t, up.Options{Paths: []string{dir}, Mode: mode})
		addr, err := m.Gateway("myapp-gateway", 80)
		if err != nil {
			t.Fatal(err)
		}
		c := newClient(t)
		if r := get(c, "http://"+addr+"/find-me-in-the-log"); r.err != "" {
			t.Fatal(r.err)
		}
		envoytest.Eventually(t, 20*time.Second, func() string { // Envoy flushes its log every 10 s
			lines, err := m.Log("istio-ingressgateway", 10)
			if err != nil {
				return err.Error()
			}
			if !strings.Contains(strings.Join(lines, "\n"), "find-me-in-the-log") {
				return fmt.Sprintf("not in %q", lines)
			}
			return ""
		})
	})
}
