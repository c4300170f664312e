package mesh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// patience bounds every wait. What is waited for takes seconds; a loaded
// machine may need many times that.
const patience = 3 * time.Minute

// apply does what a user does; without a namespace the objects name theirs.
func (w *world) apply(t *testing.T, namespace, text string) {
	t.Helper()
	args := []string{"apply", "-f", "-"}
	if namespace != "" {
		args = append(args, "-n", namespace)
	}
	if out, err := w.kubectl(t.Context(), text, args...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// remove deletes objects by kind/name.
func (w *world) remove(t *testing.T, namespace string, objects ...string) {
	t.Helper()
	if _, err := w.kubectl(t.Context(), "", append([]string{"delete", "-n", namespace, "--ignore-not-found"}, objects...)...); err != nil {
		t.Fatal(err)
	}
}

// namespace makes a namespace for a test and removes it at its end. Labels
// are key=value.
func (w *world) namespace(t *testing.T, name string, labels ...string) {
	t.Helper()
	set := map[string]string{}
	for _, l := range labels {
		k, v, _ := strings.Cut(l, "=")
		set[k] = v
	}
	w.await(t, "the namespace", func(ctx context.Context) error { // one of the same test, run again, may be on its way out
		_, err := w.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: set}}, metav1.CreateOptions{})
		return err
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if t.Failed() {
			if _, told := w.told.LoadOrStore(t.Name(), true); !told {
				t.Log(w.state(ctx))
			}
		}
		if err := w.kube.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	w.await(t, "the namespace's service account and trust bundle", func(ctx context.Context) error {
		if _, err := w.kube.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{}); err != nil {
			return err
		}
		_, err := w.kube.CoreV1().ConfigMaps(name).Get(ctx, "istio-ca-root-cert", metav1.GetOptions{})
		return err
	})
}

// await polls f until it succeeds.
func (w *world) await(t *testing.T, what string, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil || last == nil { // else it says no more than that patience is over
			last = err
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", what, last)
		case <-tick.C:
		}
	}
}

// ready waits until n pods of a selector, and no others, are ready, and
// returns them.
func (w *world) ready(t *testing.T, namespace, selector string, n int) []corev1.Pod {
	t.Helper()
	var out []corev1.Pod
	w.await(t, fmt.Sprintf("%d ready pods %s in %s", n, selector, namespace), func(ctx context.Context) error {
		pods, err := w.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return err
		}
		out = pods.Items
		if len(out) != n {
			return fmt.Errorf("there are %d", len(out))
		}
		for _, p := range out {
			if p.DeletionTimestamp != nil {
				return fmt.Errorf("%s is ending", p.Name)
			}
			if !podReady(&p) {
				return fmt.Errorf("%s is not ready: %s", p.Name, waitsFor(&p))
			}
		}
		return nil
	})
	return out
}

func podReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func waitsFor(p *corev1.Pod) string {
	var out []string
	for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		switch {
		case s.State.Waiting != nil:
			out = append(out, s.Name+": "+s.State.Waiting.Reason+" "+s.State.Waiting.Message)
		case s.State.Terminated != nil && s.State.Terminated.ExitCode != 0:
			out = append(out, fmt.Sprintf("%s: ended with %d", s.Name, s.State.Terminated.ExitCode))
		case !s.Ready:
			out = append(out, s.Name+": not ready")
		}
	}
	return strings.Join(out, "; ")
}

// hasProxy tells whether a pod has a sidecar, native or not.
func hasProxy(p *corev1.Pod) bool {
	for _, c := range append(p.Spec.InitContainers, p.Spec.Containers...) {
		if c.Name == "istio-proxy" {
			return true
		}
	}
	return false
}

// load is what e2e/app takes, and counts what it returns.
type load struct {
	URL  string `json:"url"`
	Host string `json:"host,omitempty"`
	Rate int    `json:"rate"`
}

type counts struct {
	Requests int            `json:"requests"`
	Failed   int            `json:"failed"`
	Failures []string       `json:"failures"`
	Versions map[string]int `json:"versions"`
	Pods     map[string]int `json:"pods"`
}

// driver is a pod that runs e2e/app's drive; it is spoken to through the API
// server, which works in any cluster.
type driver struct {
	w              *world
	namespace, pod string
}

// driverPod is its manifest. Port 9000 is not the mesh's: the test speaks to it.
func driverPod(name string, extra string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata:
  name: %[1]s
  labels: {app: %[1]s}
  annotations:
    traffic.sidecar.istio.io/excludeInboundPorts: "9000"
spec:
  terminationGracePeriodSeconds: 1
%[3]s
  containers:
  - name: app
    image: %[2]s
    imagePullPolicy: IfNotPresent
    args: [drive]
    readinessProbe: {tcpSocket: {port: 9000}, periodSeconds: 1}
`, name, appImage, extra)
}

// drive starts a driver in a namespace; whether it gets a sidecar is the
// namespace's matter.
func (w *world) drive(t *testing.T, namespace, name string) *driver {
	t.Helper()
	w.apply(t, namespace, driverPod(name, ""))
	w.ready(t, namespace, "app="+name, 1)
	return &driver{w, namespace, name}
}

// call speaks to the driver.
func (d *driver) call(ctx context.Context, method, path string, body any) ([]byte, error) {
	suffix, query, _ := strings.Cut(path, "?")
	r := d.w.kube.CoreV1().RESTClient().Verb(method).Namespace(d.namespace).Resource("pods").
		Name(d.pod + ":9000").SubResource("proxy").Suffix(suffix)
	for _, kv := range strings.Split(query, "&") {
		if k, v, ok := strings.Cut(kv, "="); ok {
			r = r.Param(k, v)
		}
	}
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = r.Body(b)
	}
	return r.DoRaw(ctx)
}

// start starts a load, which the test's end ends if nobody has before. A
// failed request of it fails the test.
func (d *driver) start(t *testing.T, name string, l load) {
	t.Helper()
	if b, err := d.call(t.Context(), "PUT", "/load/"+name, l); err != nil {
		t.Fatalf("start load %s: %v: %s", name, err, b)
	}
}

// take returns what a load has counted since the last time. Failed requests
// fail the test.
func (d *driver) take(t *testing.T, name string) counts {
	t.Helper()
	return d.counted(t, "GET", name)
}

// end ends a load.
func (d *driver) end(t *testing.T, name string) counts {
	t.Helper()
	return d.counted(t, "DELETE", name)
}

func (d *driver) counted(t *testing.T, method, name string) counts {
	t.Helper()
	var c counts
	b, err := d.call(t.Context(), method, "/load/"+name, nil)
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		t.Fatalf("load %s: %v: %s", name, err, b)
	}
	if c.Failed > 0 {
		t.Errorf("load %s: %d of %d requests failed:\n  %s", name, c.Failed, c.Requests, strings.Join(c.Failures, "\n  "))
	}
	return c
}

// fetched is the answer to one request.
type fetched struct {
	Error   string              `json:"error"`
	Status  int                 `json:"status"`
	Headers map[string][]string `json:"headers"`
	Body    string              `json:"body"`
}

// fetch makes one request.
func (d *driver) fetch(ctx context.Context, url string, headers map[string]string) (fetched, error) {
	var f fetched
	b, err := d.call(ctx, "POST", "/fetch", map[string]any{"url": url, "headers": headers, "host": headers["Host"]})
	if err != nil {
		return f, fmt.Errorf("%w: %s", err, b)
	}
	return f, json.Unmarshal(b, &f)
}

// reaches waits until a URL answers 200.
func (d *driver) reaches(t *testing.T, url string) {
	t.Helper()
	d.w.await(t, url+" to answer", func(ctx context.Context) error {
		f, err := d.fetch(ctx, url, nil)
		if err != nil {
			return err
		}
		if f.Status != 200 {
			return errors.New(f.Error + fmt.Sprint(f.Status, " ", f.Body))
		}
		return nil
	})
}
