package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
	"github.com/pilotfish-mesh/pilotfish/e2e/promtest"
	"github.com/pilotfish-mesh/pilotfish/rollout"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// patience bounds waits; a loaded machine needs many times what they take.
const patience = time.Minute

// traffic is what the proxies of one namespace would tell of its requests: at
// each scrape both versions have had some more.
type traffic struct {
	requests1, errors1 int // since the last scrape, to v1
	requests2, errors2 int
	slow2              int // of requests2, took 0.9 s
	nan                bool

	total map[string]int
}

// proxies is where a Prometheus reads the traffic of every namespace.
type proxies struct {
	*httptest.Server
	mu sync.Mutex
	of map[string]*traffic
}

func newProxies(t *testing.T) *proxies {
	p := &proxies{of: map[string]*traffic{}}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		var b strings.Builder
		for ns, of := range p.of {
			of.grow()
			of.write(&b, ns)
		}
		_, _ = w.Write([]byte(b.String()))
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *proxies) set(ns string, t traffic) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.total = map[string]int{}
	if before := p.of[ns]; before != nil {
		t.total = before.total
	}
	p.of[ns] = &t
}

func (t *traffic) grow() {
	for key, n := range map[string]int{
		"v1 200": t.requests1 - t.errors1, "v1 500": t.errors1, "v2 200": t.requests2 - t.errors2, "v2 500": t.errors2,
		"v2 slow": t.slow2, "v2 timed": t.requests2, "v1 timed": t.requests1,
	} {
		if t.total[key] += n; t.total[key] == 0 {
			delete(t.total, key)
		}
	}
}

func (t *traffic) write(b *strings.Builder, ns string) {
	for _, version := range []string{"v1", "v2"} {
		labels := fmt.Sprintf(`reporter="destination",destination_service_name="myapp",destination_service_namespace=%q,destination_version=%q,destination_canonical_revision=%q`, ns, version, version)
		for _, code := range []string{"200", "500"} {
			n, ok := t.total[version+" "+code]
			value := fmt.Sprint(n)
			if t.nan && version == "v2" {
				value, ok = "NaN", true
			}
			if ok {
				fmt.Fprintf(b, "istio_requests_total{%s,response_code=%q} %s\n", labels, code, value)
			}
		}
		if n := t.total[version+" timed"]; n > 0 {
			for le, n := range map[string]int{"100": n - t.total[version+" slow"], "500": n - t.total[version+" slow"], "1000": n, "+Inf": n} {
				fmt.Fprintf(b, "istio_request_duration_milliseconds_bucket{%s,response_code=\"200\",le=%q} %d\n", labels, le, n)
			}
		}
	}
}

// rolloutWorld is an API server, a control plane, a Prometheus, and a proxy.
type rolloutWorld struct {
	kube       *kubetest.Client
	objects    dynamic.Interface
	kubeconfig string
	debug      string
	prometheus string
	proxies    *proxies
	proxy      *heldProxy
}

func newRolloutWorld(t *testing.T) *rolloutWorld {
	t.Helper()
	server := kubetest.Start(t)
	w := &rolloutWorld{kube: server.Client(t), kubeconfig: server.Kubeconfig(), proxies: newProxies(t)}
	w.kube.InstallCRDs(t)
	var err error
	if w.objects, err = dynamic.NewForConfig(server.Config()); err != nil {
		t.Fatal(err)
	}
	c := startServe(t, "--kubeconfig", w.kubeconfig)
	w.debug = "http://" + logged(c, "serving metrics and debug pages")
	w.prometheus = promtest.Start(t, strings.TrimPrefix(w.proxies.URL, "http://")).URL
	w.proxy = newHeldProxy(t, logged(c, "serving ADS in plaintext"))
	return w
}

const rolloutObjects = `
apiVersion: v1
kind: Service
metadata: {name: myapp, namespace: NS}
spec: {selector: {app: myapp}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: myapp, namespace: NS}
spec:
  host: myapp
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: myapp, namespace: NS}
spec:
  hosts: [myapp]
  http:
  - name: main
    timeout: 3s
    route: [{destination: {host: myapp, subset: v1}, weight: 100}, {destination: {host: myapp, subset: v2}, weight: 0}]
`

var virtualServices = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"}

// app makes an application with two versions in a namespace, with traffic to
// the old one.
func (w *rolloutWorld) app(t *testing.T, ns string, of traffic) {
	t.Helper()
	w.proxies.set(ns, of)
	w.kube.Apply(t, strings.ReplaceAll(rolloutObjects, "NS", ns))
}

func (w *rolloutWorld) get(t *testing.T, ns string) *unstructured.Unstructured {
	t.Helper()
	o, err := w.objects.Resource(virtualServices).Namespace(ns).Get(t.Context(), "myapp", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// weights is "100/0" for v1 and v2 of a VirtualService's first rule.
func weightsOf(o *unstructured.Unstructured) string {
	rules, _, _ := unstructured.NestedSlice(o.Object, "spec", "http")
	list, _ := rules[0].(map[string]any)["route"].([]any)
	var out []string
	for _, d := range list {
		n, _ := d.(map[string]any)["weight"].(int64)
		out = append(out, fmt.Sprint(n))
	}
	return strings.Join(out, "/")
}

// noted is the annotation of a rollout in progress.
func noted(o *unstructured.Unstructured) string { return o.GetAnnotations()["pilotfish.io/rollout"] }

func (w *rolloutWorld) args(ns string, more ...string) []string {
	return append([]string{"rollout", "vs/myapp", "-n", ns, "--kubeconfig", w.kubeconfig, "--control-plane", w.debug,
		"--prometheus", w.prometheus, "--to", "v2", "--interval", "1s", "--deadline", patience.String()}, more...)
}

// rollout runs the command to its end.
func (w *rolloutWorld) rollout(t *testing.T, ns string, more ...string) (int, string) {
	t.Helper()
	c := startCommand(t, nil, w.args(ns, more...)...)
	code := c.wait(t, 3*patience)
	return code, c.output()
}

// says waits for a text in a command's output.
func says(t *testing.T, c *command, text string) {
	t.Helper()
	envoytest.Eventually(t, patience, func() string {
		if !strings.Contains(c.output(), text) {
			return fmt.Sprintf("want %q in %s", text, c.output())
		}
		return ""
	})
}

func expectEnd(t *testing.T, code, want int, output, text string) {
	t.Helper()
	if code != want || !strings.Contains(output, text) {
		t.Errorf("exit code %d, want %d with %q:\n%s", code, want, text, output)
	}
}

// untouched fails unless the routes are as they were and no rollout is noted.
func (w *rolloutWorld) untouched(t *testing.T, ns string) {
	t.Helper()
	if o := w.get(t, ns); weightsOf(o) != "100/0" || noted(o) != "" {
		t.Errorf("weights %s, annotation %q", weightsOf(o), noted(o))
	}
}

var goodTraffic = traffic{requests1: 100, requests2: 50}

func TestRollout(t *testing.T) {
	w := newRolloutWorld(t)

	// Those that hold up the one proxy come first, one after the other.
	t.Run("waits for every proxy", w.waitsForProxies)
	t.Run("a proxy rejects", w.proxyRejects)
	t.Run("while a proxy answers", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T){
			"errors": w.errors, "slow": w.slow, "holds": w.holds,
			"killed": w.killed, "interrupted": w.interrupted, "kept": w.kept, "edited": w.edited, "managed": w.managed,
			"dry run": w.dryRun, "blue-green": w.blueGreen, "mirror": w.mirror, "cannot run": w.cannotRun, "script": w.script,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t)
			})
		}
	})
}

// The weight rises only when every proxy has the one before, and a promoted
// rollout leaves nothing but the weights behind.
func (w *rolloutWorld) waitsForProxies(t *testing.T) {
	w.app(t, "waits", goodTraffic)
	w.proxy.hold()
	report := filepath.Join(t.TempDir(), "report.json")
	c := startCommand(t, nil, w.args("waits", "--steps", "30,60,100", "--report", report)...)
	envoytest.Eventually(t, patience, func() string {
		if got := weightsOf(w.get(t, "waits")); got != "70/30" {
			return "weights " + got
		}
		return ""
	})
	// The page of the control plane is what the command waits for.
	envoytest.Eventually(t, patience, func() string {
		_, body := page(t, w.debug+"/debug/held?kind=VirtualService&namespace=waits&name=myapp")
		if !strings.Contains(body, `"generation":2,`) || !strings.Contains(body, `"proxy":"sidecar~10.0.0.9~held.waits~waits.svc.cluster.local","newest":false`) {
			return body
		}
		return ""
	})
	if got := weightsOf(w.get(t, "waits")); got != "70/30" {
		t.Errorf("weights %s before the proxy has acknowledged", got)
	}
	w.proxy.release()
	code := c.wait(t, 3*patience)
	expectEnd(t, code, exitOK, c.output(), "promoted: v2 has all of the traffic")
	o := w.get(t, "waits")
	if weightsOf(o) != "0/100" || noted(o) != "" {
		t.Errorf("weights %s, annotation %q", weightsOf(o), noted(o))
	}
	owner := ""
	for _, m := range o.GetManagedFields() {
		if m.Manager == "pilotfish-rollout" {
			owner = string(m.Operation)
		}
	}
	if owner != "Apply" {
		t.Errorf("field manager pilotfish-rollout: %q", owner)
	}
	var r rollout.Report
	b, err := os.ReadFile(report)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil || r.Result != rollout.Promoted || len(r.Steps) != 3 {
		t.Fatalf("report %s: %v", b, err)
	}
	for i, s := range r.Steps {
		if f := s.New["destination"]; s.Percent != []int{30, 60, 100}[i] || !s.Passed || s.Proxies != 1 || s.Acknowledged == nil ||
			f.Requests < 100 || f.Errors != 0 || f.P99 != 99 || s.Old["destination"].Requests == 0 {
			t.Errorf("step %d: %+v", i, s)
		}
	}
	// Again there is nothing to do.
	code, output := w.rollout(t, "waits", "--steps", "30,60,100")
	expectEnd(t, code, exitOK, output, "promoted")
}

func (w *rolloutWorld) proxyRejects(t *testing.T) {
	w.app(t, "rejects", goodTraffic)
	w.proxy.rejects("outbound|80|v2|myapp.rejects.svc.cluster.local")
	code, output := w.rollout(t, "rejects", "--steps", "50,100")
	expectEnd(t, code, exitFailure, output, "not today")
	expectEnd(t, code, exitFailure, output, "rolls back: proxy sidecar~10.0.0.9~held.waits~waits.svc.cluster.local rejected the rds resource")
	w.untouched(t, "rejects")
}

func (w *rolloutWorld) errors(t *testing.T) {
	w.app(t, "errors", traffic{requests1: 100, requests2: 50, errors2: 5})
	before := w.get(t, "errors").Object["spec"]
	code, output := w.rollout(t, "errors", "--steps", "10,100", "-o", "json")
	expectEnd(t, code, exitFailure, output, `"result": "rolledBack"`)
	expectEnd(t, code, exitFailure, output, "requests failed, more than 1% (as the servers' proxies tell)")
	w.untouched(t, "errors")
	if after := w.get(t, "errors").Object["spec"]; fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("before %v\nafter %v", before, after)
	}
}

func (w *rolloutWorld) slow(t *testing.T) {
	w.app(t, "slow", traffic{requests1: 100, requests2: 50, slow2: 5})
	code, output := w.rollout(t, "slow", "--steps", "10,100", "--max-p99", "500ms")
	expectEnd(t, code, exitFailure, output, "the 99th percentile is ")
	w.untouched(t, "slow")
}

// Without a number there is no verdict, and at the deadline a rollback: a
// Prometheus that knows nothing, one that says NaN, and one that goes away.
func (w *rolloutWorld) holds(t *testing.T) {
	w.app(t, "nodata", traffic{requests1: 100})
	w.app(t, "nan", goodTraffic)
	w.app(t, "ends", goodTraffic)
	own := promtest.Start(t, strings.TrimPrefix(w.proxies.URL, "http://"))
	flags := []string{"--steps", "10,100", "--interval", "3s", "--deadline", "20s"}
	started := map[string]*command{}
	for _, ns := range []string{"nodata", "nan", "ends"} {
		args := w.args(ns, flags...)
		if ns == "ends" {
			args = append(args, "--prometheus", own.URL)
		}
		started[ns] = startCommand(t, nil, args...)
	}
	says(t, started["nan"], "10% of requests go to v2")
	bad := goodTraffic
	bad.nan = true
	w.proxies.set("nan", bad)
	says(t, started["ends"], "10% of requests go to v2")
	own.Stop()
	for ns, held := range map[string]string{
		"nodata": "prometheus has no data about the new version", "nan": "prometheus: a counter has the value NaN", "ends": "prometheus: ",
	} {
		code, output := started[ns].wait(t, 3*patience), started[ns].output()
		expectEnd(t, code, exitFailure, output, "holds: "+held)
		expectEnd(t, code, exitFailure, output, "rolled back: no verdict within 20s: "+held)
		w.untouched(t, ns)
	}
}

// A killed rollout is gone on with by the same command, refused to another
// one, and undone by --abort.
func (w *rolloutWorld) killed(t *testing.T) {
	w.app(t, "killed", goodTraffic)
	kill := func() {
		c := startCommand(t, nil, w.args("killed", "--steps", "20,100", "--interval", "50s")...)
		says(t, c, "proxies have acknowledged it")
		_ = c.cmd.Process.Kill()
		<-c.exited
		if o := w.get(t, "killed"); weightsOf(o) != "80/20" || noted(o) == "" {
			t.Fatalf("weights %s, annotation %q", weightsOf(o), noted(o))
		}
	}
	kill()
	code, output := w.rollout(t, "killed", "--to", "v1", "--steps", "20,100")
	expectEnd(t, code, exitUsage, output, `a rollout of killed/myapp to "v2" in steps [20% 100%] is in progress at 20%`)
	code, output = w.rollout(t, "killed", "--abort")
	expectEnd(t, code, exitFailure, output, "rolled back: aborted")
	w.untouched(t, "killed")
	code, output = w.rollout(t, "killed", "--abort")
	expectEnd(t, code, exitUsage, output, "no rollout of VirtualService killed/myapp is in progress")
	kill()
	code, output = w.rollout(t, "killed", "--steps", "20,100")
	expectEnd(t, code, exitOK, output, "goes on at step 1 of 2, 20%, where another run left it")
	if got := weightsOf(w.get(t, "killed")); got != "0/100" {
		t.Errorf("weights %s", got)
	}
}

func (w *rolloutWorld) interrupted(t *testing.T) {
	w.app(t, "interrupted", goodTraffic)
	c := startCommand(t, nil, w.args("interrupted", "--steps", "20,100", "--interval", "50s")...)
	says(t, c, "proxies have acknowledged it")
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	expectEnd(t, c.wait(t, patience), exitFailure, c.output(), "rolled back: interrupted")
	w.untouched(t, "interrupted")
}

func (w *rolloutWorld) kept(t *testing.T) {
	w.app(t, "kept", goodTraffic)
	c := startCommand(t, nil, w.args("kept", "--steps", "20,100", "--interval", "50s", "--on-interrupt", "keep")...)
	says(t, c, "proxies have acknowledged it")
	_ = c.cmd.Process.Signal(os.Interrupt)
	expectEnd(t, c.wait(t, patience), exitLeft, c.output(), "left as it is: interrupted")
	if o := w.get(t, "kept"); weightsOf(o) != "80/20" || noted(o) == "" {
		t.Errorf("weights %s, annotation %q", weightsOf(o), noted(o))
	}
}

// Somebody else's change ends a rollout, and stays.
func (w *rolloutWorld) edited(t *testing.T) {
	w.app(t, "edited", goodTraffic)
	c := startCommand(t, nil, w.args("edited", "--steps", "20,100", "--interval", "50s")...)
	says(t, c, "proxies have acknowledged it")
	w.kube.Apply(t, strings.ReplaceAll(strings.ReplaceAll(rolloutObjects, "NS", "edited"), "weight: 100", "weight: 42"))
	expectEnd(t, c.wait(t, patience), exitLeft, c.output(), "left as it is: the routes were changed by kubetest")
	if got := weightsOf(w.get(t, "edited")); got != "42/0" {
		t.Errorf("weights %s", got)
	}
}

func (w *rolloutWorld) managed(t *testing.T) {
	w.app(t, "managed", goodTraffic)
	patch := `{"metadata":{"ownerReferences":[{"apiVersion":"flagger.app/v1beta1","kind":"Canary","name":"myapp","uid":"1","controller":true}]}}`
	if _, err := w.objects.Resource(virtualServices).Namespace("managed").Patch(t.Context(), "myapp", "application/merge-patch+json", []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	before := w.get(t, "managed").GetResourceVersion()
	code, output := w.rollout(t, "managed")
	expectEnd(t, code, exitUsage, output, "refused: VirtualService managed/myapp is managed by Canary myapp, its owner")
	if w.get(t, "managed").GetResourceVersion() != before {
		t.Error("it was changed all the same")
	}
	code, output = w.rollout(t, "managed", "--force")
	expectEnd(t, code, exitOK, output, "promoted")
}

func (w *rolloutWorld) dryRun(t *testing.T) {
	w.app(t, "dry", traffic{}) // what Prometheus knows differs from run to run
	before := w.get(t, "dry").GetResourceVersion()
	var said strings.Builder
	for _, format := range []string{"text", "json", "yaml"} {
		flags := []string{"--steps", "30,50", "--mirror-first", "--dry-run", "-o", format}
		code, output := w.rollout(t, "dry", flags...)
		if code != exitOK {
			t.Errorf("exit code %d: %s", code, output)
		}
		said.WriteString("$ pilotfish rollout vs/myapp -n dry --to v2 " + strings.Join(flags, " ") + "\n" + output)
	}
	golden(t, "rollout-dry-run.txt", said.String())
	if w.get(t, "dry").GetResourceVersion() != before {
		t.Error("a dry run changed it")
	}
}

func (w *rolloutWorld) blueGreen(t *testing.T) {
	w.app(t, "bluegreen", goodTraffic)
	code, output := w.rollout(t, "bluegreen", "--mode", "blue-green", "--mirror-first")
	expectEnd(t, code, exitOK, output, "step 1/2 (100%): mirror 100% of requests go to v2")
	expectEnd(t, code, exitOK, output, "step 2/2 (100%): 100% of requests go to v2")
	o := w.get(t, "bluegreen")
	rules, _, _ := unstructured.NestedSlice(o.Object, "spec", "http")
	if weightsOf(o) != "0/100" || rules[0].(map[string]any)["mirror"] != nil {
		t.Errorf("rules %v", rules)
	}
}

func (w *rolloutWorld) mirror(t *testing.T) {
	w.app(t, "mirror", goodTraffic)
	code, output := w.rollout(t, "mirror", "--mode", "mirror", "--steps", "10,100")
	expectEnd(t, code, exitOK, output, "done: v2 keeps the limits with copies of requests")
	w.untouched(t, "mirror")
	rules, _, _ := unstructured.NestedSlice(w.get(t, "mirror").Object, "spec", "http")
	if rules[0].(map[string]any)["mirror"] != nil {
		t.Errorf("still mirrors: %v", rules)
	}
}

// What is wrong before the first change is exit code 2, and no change.
func (w *rolloutWorld) cannotRun(t *testing.T) {
	w.app(t, "cannot", goodTraffic)
	before := w.get(t, "cannot").GetResourceVersion()
	for text, args := range map[string][]string{
		"there is no VirtualService myapp in namespace nowhere": {"-n", "nowhere"},
		`no rule of spec.http has a destination "v9"`:           {"--to", "v9"},
		`no rule of spec.http has the name "other"`:             {"--route", "other"},
		"prometheus: ":    {"--prometheus", "http://127.0.0.1:1"},
		"control plane: ": {"--control-plane", "http://127.0.0.1:1"},
		`--max-error-rate "many": want a percentage such as 1%`: {"--max-error-rate", "many"},
		`--on-interrupt "panic": want rollback or keep`:         {"--on-interrupt", "panic"},
		"--prometheus is missing":                               {"--prometheus", ""},
		`--prometheus "prometheus:9090": want a URL such as`:    {"--prometheus", "prometheus:9090"},
		"prometheus: client_error: client error: 404":           {"--prometheus", w.prometheus + "/nowhere"},
		"prometheus: bad_response: ":                            {"--prometheus", w.proxies.URL},
		`--prometheus-header: want "NAME: VALUE"`:               {"--prometheus-header", "secret"},
		"--report /nonexistent/report.json: there is no folder": {"--report", "/nonexistent/report.json"},
		"is a folder":                      {"--report", t.TempDir()},
		`"deployment/myapp": want vs/NAME`: nil,
		"no pod with label app=istiod is ready in namespace istio-system": nil,
	} {
		all := w.args("cannot", args...)
		switch {
		case strings.Contains(text, "want vs"):
			all[1] = "deployment/myapp"
		case strings.Contains(text, "no pod"):
			all = []string{"rollout", "vs/myapp", "-n", "cannot", "--kubeconfig", w.kubeconfig, "--prometheus", w.prometheus, "--to", "v2"}
		}
		code, _, stderr := run(all...)
		expectEnd(t, code, exitUsage, stderr, text)
	}
	if w.get(t, "cannot").GetResourceVersion() != before {
		t.Error("it was changed all the same")
	}
}

// The script of examples/ci is the rollout of a pipeline.
func (w *rolloutWorld) script(t *testing.T) {
	w.app(t, "script", goodTraffic)
	bin := t.TempDir()
	if err := os.Symlink(os.Args[0], filepath.Join(bin, "pilotfish")); err != nil {
		t.Fatal(err)
	}
	c := &command{exited: make(chan struct{})}
	c.cmd = exec.Command("../../examples/ci/rollout.sh", "myapp", "v2")
	c.start(t, []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "KUBECONFIG=" + w.kubeconfig, "NAMESPACE=script", "PROMETHEUS=" + w.prometheus,
		"STEPS=50,100", "INTERVAL=1s", "REPORT=" + filepath.Join(bin, "report.json"), "PILOTFISH_FLAGS=--control-plane " + w.debug,
	})
	code := c.wait(t, 3*patience)
	expectEnd(t, code, exitOK, c.output(), "v2 is promoted")
	if b, err := os.ReadFile(filepath.Join(bin, "report.json")); err != nil || !strings.Contains(string(b), `"result": "promoted"`) {
		t.Errorf("report %s: %v", b, err)
	}
}

// The workflow of examples/ci runs the script that this package tests.
func TestWorkflowExample(t *testing.T) {
	b, err := os.ReadFile("../../examples/ci/.github/workflows/rollout.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var flow struct {
		Jobs map[string]struct {
			Env   map[string]string
			Steps []struct{ Run string }
		}
	}
	if err := yaml.Unmarshal(b, &flow); err != nil {
		t.Fatal(err)
	}
	job, ran := flow.Jobs["rollout"], false
	for _, s := range job.Steps {
		ran = ran || strings.TrimSpace(s.Run) == `exec examples/ci/rollout.sh myapp-virtualservice "${{ inputs.version }}"`
	}
	script, err := os.ReadFile("../../examples/ci/rollout.sh")
	if err != nil || !ran {
		t.Fatalf("the workflow does not run the script: %v", err)
	}
	for name := range job.Env {
		if name != "KUBECONFIG" && !strings.Contains(string(script), "$"+name) && !strings.Contains(string(script), "${"+name) {
			t.Errorf("the script does not read %s", name)
		}
	}
}

// heldProxy is a proxy that takes all that it is sent, as soon as it may.
type heldProxy struct {
	stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	mu     sync.Mutex // held: routes are not answered
	reject string     // routes that hold it
}

func newHeldProxy(t *testing.T, address string) *heldProxy {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p := &heldProxy{stream: stream}
	node := &core.Node{Id: "sidecar~10.0.0.9~held.waits~waits.svc.cluster.local"}
	for _, r := range []*discovery.DeltaDiscoveryRequest{
		{Node: node, TypeUrl: translate.ClusterType}, {TypeUrl: translate.ListenerType},
		{TypeUrl: translate.RouteType, ResourceNamesSubscribe: []string{"80"}},
	} {
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	go p.run()
	return p
}

func (p *heldProxy) run() {
	for {
		got, err := p.stream.Recv()
		if err != nil {
			return
		}
		r := &discovery.DeltaDiscoveryRequest{TypeUrl: got.GetTypeUrl(), ResponseNonce: got.GetNonce()}
		if got.GetTypeUrl() == translate.RouteType {
			p.mu.Lock()
			for _, res := range got.GetResources() {
				if p.reject != "" && bytes.Contains(res.GetResource().GetValue(), []byte(p.reject)) {
					r.ErrorDetail = &rpc.Status{Code: 3, Message: "not today"}
				}
			}
			p.mu.Unlock()
		}
		if p.stream.Send(r) != nil {
			return
		}
	}
}

func (p *heldProxy) hold()    { p.mu.Lock() }
func (p *heldProxy) release() { p.mu.Unlock() }

func (p *heldProxy) rejects(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reject = what
}

// A terminal has one line that keeps up; a pipeline has lines.
func TestRolloutDisplay(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	events := []rollout.Event{
		{Time: at, Message: "begins"},
		{Time: at, Tick: true, Message: "one", Stage: 1, Stages: 2, Percent: 30, Watched: 30 * time.Second, Interval: time.Minute},
		{Time: at, Tick: true, Message: "two, which is longer than the terminal is wide", Stage: 1, Stages: 2, Percent: 30, Watched: time.Minute, Interval: time.Minute},
		{Time: at, Message: "passed", Stage: 1, Stages: 2, Percent: 30},
	}
	for want, width := range map[string]func() int{
		"03:04:05 begins\n03:04:05 step 1/2 (30%): passed\n": nil,
		"03:04:05 begins\n[==========          ] step 1/2 (30%): one\r\x1b[K" +
			"[====================] step 1/2 (30%): two, \r\x1b[K03:04:05 step 1/2 (30%): passed\n": func() int { return 45 },
	} {
		var b strings.Builder
		d := &rolloutDisplay{to: &b, width: width}
		for _, e := range events {
			d.show(e)
		}
		d.clear()
		if b.String() != want {
			t.Errorf("got %q\nwant %q", b.String(), want)
		}
	}
}
