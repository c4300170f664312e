package serve_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
	"github.com/pilotfish-mesh/pilotfish/serve"
)

const statusObjects = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: shop}
spec:
  hosts: [web.example.com]
  addresses: [10.9.9.9]
  resolution: STATIC
  ports: [{name: http, number: 80, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec: {hosts: [web.example.com], http: [{timeout: TIMEOUT, route: [{destination: {host: web.example.com}}]}]}
`

// statusWorld is a cluster whose objects' status a test watches.
type statusWorld struct {
	t       *testing.T
	client  *kubetest.Client
	objects dynamic.Interface
}

func (w *statusWorld) get(plural, name string) *unstructured.Unstructured {
	w.t.Helper()
	o, err := w.objects.Resource(schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: plural}).Namespace("shop").
		Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

type objectStatus struct {
	ObservedGeneration int64
	Conditions         []struct {
		Type, Status, Reason, Message string
	}
	ValidationMessages []struct {
		Level string
		Type  struct{ Name string }
	}
}

// says waits until an object's status is as told, as
// "generation: condition status reason message, ...".
func (w *statusWorld) says(plural, name, want string) {
	w.t.Helper()
	envoytest.Eventually(w.t, 90*time.Second, func() string {
		o := w.get(plural, name)
		text, err := json.Marshal(o.Object["status"])
		if err != nil {
			return err.Error()
		}
		var s objectStatus
		if err := json.Unmarshal(text, &s); err != nil {
			return fmt.Sprintf("%v: %s", err, text)
		}
		got := fmt.Sprintf("%d of %d:", s.ObservedGeneration, o.GetGeneration())
		for _, c := range s.Conditions {
			got += fmt.Sprintf(" %s %s %s %s,", c.Type, c.Status, c.Reason, c.Message)
		}
		for _, m := range s.ValidationMessages {
			got += fmt.Sprintf(" %s %s", m.Level, m.Type.Name)
		}
		if strings.HasPrefix(got, want) {
			return ""
		}
		return got + "\nwant " + want
	})
}

func timeout(seconds int) string {
	return strings.Replace(statusObjects, "TIMEOUT", fmt.Sprint(seconds, "s"), 1)
}

// Status counts the proxies of all replicas, follows each version, says what is
// wrong, keeps what others wrote there, and is not written without need.
func TestObjectStatus(t *testing.T) {
	s := kubetest.Start(t)
	w := &statusWorld{t: t, client: s.Client(t)}
	w.client.InstallCRDs(t)
	w.client.Apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}")
	w.client.Apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}")
	w.client.Apply(t, timeout(1))
	var err error
	if w.objects, err = dynamic.NewForConfig(rest.CopyConfig(s.Config())); err != nil {
		t.Fatal(err)
	}
	start := func(name string) *replica {
		return startReplica(t, s, func(o *serve.Options) { o.Identity = name }).ready()
	}
	one, two := start("one"), start("two")
	w.says("virtualservices", "web", "1 of 1: Reconciled True NoProxies no proxy is connected, PassedValidation True Valid ,")

	near, far := newAcker(t, one.at["serving ADS in plaintext"], "near"), newAcker(t, two.at["serving ADS in plaintext"], "far")
	near.mu.Unlock()
	far.mu.Unlock()
	w.says("virtualservices", "web", "1 of 1: Reconciled True InEffect 2 of 2 proxies have this version,")
	w.says("serviceentries", "web", "1 of 1: Reconciled True InEffect 2 of 2 proxies have this version,")

	// A version that is on its way.
	far.mu.Lock()
	w.client.Apply(t, timeout(2))
	w.says("virtualservices", "web", "2 of 2: Reconciled False Distributing 1 of 2 proxies have this version,")
	far.mu.Unlock()
	w.says("virtualservices", "web", "2 of 2: Reconciled True InEffect 2 of 2 proxies have this version,")

	// One that is wrong: there is no webhook here that would refuse it.
	w.client.Apply(t, strings.Replace(timeout(2), "{host: web.example.com}}", "{host: web.example.com}, weight: -1}", 1))
	w.says("virtualservices", "web", "3 of 3: Reconciled False Refused")
	w.client.Apply(t, timeout(3))
	w.says("virtualservices", "web", "4 of 4: Reconciled True InEffect 2 of 2 proxies have this version, PassedValidation True Valid ,")

	// What others write stays, and our own writes lead to no others.
	r := w.objects.Resource(schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"}).Namespace("shop")
	o := w.get("virtualservices", "web")
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	conditions = append([]any{map[string]any{"type": "Theirs", "status": "True"}}, conditions[1:]...) // and takes one of ours away
	if err := unstructured.SetNestedSlice(o.Object, conditions, "status", "conditions"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.UpdateStatus(t.Context(), o, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.client.Apply(t, timeout(4))
	w.says("virtualservices", "web", "5 of 5: Theirs True  , Reconciled True InEffect 2 of 2 proxies have this version, PassedValidation True Valid ,")
	before := w.get("virtualservices", "web").GetResourceVersion()
	for _, n := range []string{"one", "two"} { // several turns of the writer
		w.client.Apply(t, strings.NewReplacer("{name: web,", "{name: "+n+",", "web.example.com", n+".example.com", "10.9.9.9", "10.9.9."+fmt.Sprint(len(n)+len(n)*int(n[0])%200)).Replace(timeout(1)))
		w.says("virtualservices", n, "1 of 1: Reconciled True InEffect 2 of 2 proxies have this version,")
	}
	if after := w.get("virtualservices", "web").GetResourceVersion(); after != before {
		t.Errorf("an object that did not change was written: version %s, then %s", before, after)
	}

	// A replica that goes takes its proxies with it.
	two.stop()
	w.client.Apply(t, timeout(5))
	w.says("virtualservices", "web", "6 of 6: Theirs True  , Reconciled True InEffect 1 of 1 proxies have this version,")
}

// A replica that begins to lead knows from its watches what the objects say, and
// reads only those that it has something new to say of.
func TestNewLeaderReadsNothing(t *testing.T) {
	s := kubetest.Start(t)
	w := &statusWorld{t: t, client: s.Client(t)}
	w.client.InstallCRDs(t)
	w.client.Apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}")
	w.client.Apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}")
	object := func(name string) string {
		return strings.NewReplacer("{name: web,", "{name: "+name+",", "web.example.com", name+".example.com").Replace(timeout(1))
	}
	var err error
	if w.objects, err = dynamic.NewForConfig(rest.CopyConfig(s.Config())); err != nil {
		t.Fatal(err)
	}
	const told = "1 of 1: Reconciled True NoProxies no proxy is connected, PassedValidation True Valid ,"
	names := []string{"a", "b", "c", "d", "e", "f"}
	for _, n := range names {
		w.client.Apply(t, object(n))
	}
	one := startReplica(t, s, func(o *serve.Options) { o.Identity = "one" }).ready()
	for _, n := range names {
		w.says("virtualservices", n, told)
		w.says("serviceentries", n, told)
	}
	one.stop()
	two := startReplica(t, s, func(o *serve.Options) { o.Identity = "two" }).ready()
	w.client.Apply(t, object("later"))
	w.says("virtualservices", "later", told)
	w.says("serviceentries", "later", told)
	metrics := two.metrics()
	reads := metrics["pilotfish_status_reads_total"]
	// The two new ones, each perhaps before its own writing was seen.
	if reads < 2 || reads > 4 {
		t.Errorf("%v objects were read; %d say all along what they should", reads, 2*len(names))
	}
	written := metrics[`pilotfish_status_writes_total{result="written"}`]
	if written < 2 || written > reads || metrics[`pilotfish_status_writes_total{result="failed"}`] > 0 {
		t.Errorf("%v of the %v that were read were written", written, reads)
	}
}

// metrics are those of the replica, by name and labels.
func (r *replica) metrics() map[string]float64 {
	r.t.Helper()
	_, text := get(r.t, "http://"+r.at["serving metrics and debug pages"]+"/metrics")
	out := map[string]float64{}
	for line := range strings.Lines(text) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			n, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64)
			if err != nil {
				r.t.Fatal(err)
			}
			out[line[:i]] = n
		}
	}
	return out
}
