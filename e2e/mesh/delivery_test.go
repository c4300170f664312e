package mesh

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pilotfish-mesh/pilotfish/manifests/images"
)

// delivered is a version of an application; a broken one fails every second
// request.
func delivered(deployment, app, version string, broken bool) string {
	role, selector := "serve", "app: "+app
	if broken {
		role = "broken"
	}
	if deployment != app { // one of several
		selector += ", version: " + version
	}
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  selector:
    matchLabels: {%[3]s}
  template:
    metadata:
      labels: {app: %[2]s, version: %[4]s}
    spec:
      terminationGracePeriodSeconds: 15
      containers:
      - name: app
        image: %[5]s
        args: [%[6]s, "8080"]
        env:
        - {name: VERSION, value: %[4]s}
        - {name: WORKLOAD, value: %[1]s}
        ports:
        - {name: http, containerPort: 8080}
        readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1, timeoutSeconds: 10}
---
`, deployment, app, selector, version, appImage, role)
}

// TestDelivery promotes good versions and takes bad ones back, under load, by
// pilotfish rollout and by the controllers of Flagger and Argo Rollouts, with a
// real Prometheus that scrapes the sidecars.
func TestDelivery(t *testing.T) {
	w := need(t)
	t.Parallel() // it mostly waits
	w.namespace(t, "monitoring")
	w.prometheus(t)
	t.Run("all", func(t *testing.T) {
		t.Run("rollout", func(t *testing.T) {
			t.Parallel()
			w.rollsOut(t)
		})
		t.Run("Flagger", func(t *testing.T) {
			t.Parallel()
			w.flagger(t)
		})
		t.Run("Argo Rollouts", func(t *testing.T) {
			t.Parallel()
			w.rollouts(t)
		})
	})
}

// image writes an image of one binary and gives it to the cluster.
func (w *world) image(t *testing.T, name string, layers ...[]images.File) string {
	t.Helper()
	image, archive := hub+"/"+name+":"+tag, filepath.Join(t.TempDir(), name+".tar")
	i := images.Image{Layers: layers, Entrypoint: []string{"/" + name}}
	if err := i.Write(archive, image); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.node != nil {
		err = w.node.Load(t.Context(), archive)
	} else {
		loader := strings.Fields(os.Getenv("LOAD_IMAGES"))
		_, err = w.command(t.Context(), loader[0], append(loader[1:], archive)...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// writable is a folder for temporary files.
var writable = images.File{Path: "/tmp", Folder: true, Mode: 0o1777}

// scraped is the Service by whose name Prometheus finds a namespace's proxies:
// Debian's is built without its knowledge of Kubernetes. It is no part of the
// mesh.
const scraped = `
apiVersion: v1
kind: Service
metadata: {name: proxies, annotations: {networking.istio.io/exportTo: "~"}}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {security.istio.io/tlsMode: istio}
  ports: [{name: http-metrics, port: 15020}]
---
`

// prometheus runs Debian's in a pod, which scrapes the proxies of the
// namespaces of this test.
func (w *world) prometheus(t *testing.T) {
	t.Helper()
	binary, err := exec.LookPath("prometheus")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs Debian's package prometheus")
		}
		t.Skip("needs Debian's package prometheus")
	}
	libraries, err := images.Libraries(binary)
	if err != nil {
		t.Fatal(err)
	}
	image := w.image(t, "prometheus", append(libraries, images.File{Path: "/prometheus", Source: binary}, writable))
	w.apply(t, "monitoring", fmt.Sprintf(`
apiVersion: v1
kind: ConfigMap
metadata: {name: prometheus}
data:
  prometheus.yml: |
    global: {scrape_interval: 1s, scrape_timeout: 1s}
    scrape_configs:
    - job_name: proxies
      metrics_path: /stats/prometheus
      dns_sd_configs:
      - names: [proxies.delivery.svc.cluster.local, proxies.flagged.svc.cluster.local, proxies.rolled.svc.cluster.local]
        type: A
        port: 15020
        refresh_interval: 1s
---
apiVersion: v1
kind: Pod
metadata: {name: prometheus, labels: {app: prometheus}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: prometheus
    image: %s
    imagePullPolicy: Never
    args: [--config.file=/etc/prometheus/prometheus.yml, --storage.tsdb.path=/tmp/data]
    readinessProbe: {httpGet: {path: /-/ready, port: 9090}, periodSeconds: 1}
    volumeMounts: [{name: config, mountPath: /etc/prometheus}]
  volumes: [{name: config, configMap: {name: prometheus}}]
---
apiVersion: v1
kind: Service
metadata: {name: prometheus}
spec: {selector: {app: prometheus}, ports: [{port: 9090}]}
`, image))
	w.ready(t, "monitoring", "app=prometheus", 1)
}

// admin gives the pods of a namespace every right, for a test.
func (w *world) admin(t *testing.T, namespace string) {
	t.Helper()
	name := "e2e-" + namespace
	w.apply(t, namespace, fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: %s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: default, namespace: %s}]
`, name, namespace))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := w.kubectl(ctx, "", "delete", "clusterrolebinding", name); err != nil {
			t.Error(err)
		}
	})
}

// forward is a URL of this machine that leads to a Service.
func (w *world) forward(t *testing.T, namespace, service string, port int) string {
	t.Helper()
	cmd := exec.Command(w.tool("kubectl"), "--kubeconfig", w.kubeconfig, "port-forward", "-n", namespace, "service/"+service, fmt.Sprintf(":%d", port))
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		// Forwarding from 127.0.0.1:40123 -> 9090
		if from, _, ok := strings.Cut(strings.TrimPrefix(lines.Text(), "Forwarding from "), " ->"); ok && strings.HasPrefix(from, "127.") {
			go func() {
				for lines.Scan() { // whoever does not read holds it up
				}
			}()
			return "http://" + from
		}
	}
	t.Fatalf("kubectl port-forward: %v", lines.Err())
	return ""
}

// weightsOf are those of a VirtualService's first rule, at a version of the API.
func (w *world) weightsOf(ctx context.Context, apiVersion, namespace, name string) (string, error) {
	o, err := w.objects.Resource(schema.GroupVersionResource{Group: "networking.istio.io", Version: apiVersion, Resource: "virtualservices"}).
		Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	rules, _, _ := unstructured.NestedSlice(o.Object, "spec", "http")
	if len(rules) == 0 {
		return "", errors.New("no rules")
	}
	list, _, _ := unstructured.NestedSlice(rules[0].(map[string]any), "route")
	var out []string
	for _, d := range list {
		n, _, _ := unstructured.NestedInt64(d.(map[string]any), "weight")
		out = append(out, fmt.Sprint(n))
	}
	return strings.Join(out, "/"), nil
}

// only waits until all of a load's answers come from one version: a hundred in
// a row.
func only(t *testing.T, d *driver, name, version string) {
	t.Helper()
	row := 0
	d.w.await(t, "load "+name+" to reach "+version+" only", func(context.Context) error {
		c := d.drain(t, name)
		if row += c.Requests; c.Versions[version] != c.Requests {
			row = 0
		}
		if row < 100 {
			return fmt.Errorf("%d in a row; of the last %d requests %d failed, %v", row, c.Requests, c.Failed, c.Versions)
		}
		return nil
	})
}

// drain takes a load's counts; failures are the caller's matter.
func (d *driver) drain(t *testing.T, name string) (c counts) {
	t.Helper()
	b, err := d.call(t.Context(), "GET", "/load/"+name, nil)
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		t.Fatalf("load %s: %v: %s", name, err, b)
	}
	return c
}

// rollsOut is pilotfish rollout, from the command line to the sidecars.
func (w *world) rollsOut(t *testing.T) {
	const ns = "delivery"
	w.namespace(t, ns, "istio-injection=enabled")
	w.apply(t, ns, scraped+service("myapp")+delivered("myapp-v1", "myapp", "v1", false)+delivered("myapp-v2", "myapp", "v2", false)+delivered("myapp-v3", "myapp", "v3", true)+`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: myapp}
spec:
  host: myapp
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}, {name: v3, labels: {version: v3}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: myapp}
spec:
  hosts: [myapp]
  http:
  - route: [{destination: {host: myapp, subset: v1}}]
`)
	client := w.drive(t, ns, "client")
	w.ready(t, ns, "app=myapp", 3)
	client.reaches(t, "http://myapp.delivery/")
	client.start(t, "load", load{URL: "http://myapp.delivery/", Rate: 50})
	prometheus := w.forward(t, "monitoring", "prometheus", 9090)
	rollout := func(to string) (string, error) {
		return w.pilotfish(t.Context(), "rollout", "vs/myapp", "-n", ns, "--to", to, "--steps", "30,100", "--interval", "8s",
			"--deadline", patience.String(), "--min-requests", "50", "--max-p99", "5s", "--prometheus", prometheus, "-o", "json")
	}
	report, err := rollout("v2")
	if err != nil || !strings.Contains(report, `"result": "promoted"`) || !strings.Contains(report, `"source"`) || !strings.Contains(report, `"destination"`) {
		t.Fatalf("%v\n%s", err, report)
	}
	// No request failed on the way, and both had their share.
	if c := client.take(t, "load"); c.Versions["v1"] == 0 || c.Versions["v2"] == 0 {
		t.Errorf("versions %v", c.Versions)
	}
	only(t, client, "load", "v2")

	report, err = rollout("v3")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(report, `"result": "rolledBack"`) ||
		!strings.Contains(report, "requests failed, more than 1%") {
		t.Fatalf("%v\n%s", err, report)
	}
	if c := client.drain(t, "load"); c.Failed == 0 || c.Failed > c.Requests/2 {
		t.Errorf("%d of %d requests failed meanwhile", c.Failed, c.Requests)
	}
	only(t, client, "load", "v2")
	if got, err := w.weightsOf(t.Context(), "v1", ns, "myapp"); got != "0/100" || err != nil {
		t.Errorf("weights %s, %v", got, err)
	}
	client.end(t, "load")
}

// A controller drives rollouts: a binary of the tools, in a pod and a namespace
// of its own, as administrator.
type controller struct {
	name, namespace string
	crds            string // the file of its kinds, beside the binary
	args, ready     string // in YAML: a list's content, an httpGet
}

// controller runs one, with its kinds, until the test ends.
func (w *world) controller(t *testing.T, c controller) {
	t.Helper()
	binary := w.tool(c.name)
	if _, err := os.Stat(binary); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v: run make cluster-binaries", err)
		}
		t.Skipf("%v: run make cluster-binaries", err)
	}
	crds, err := os.ReadFile(w.tool(c.crds))
	if err != nil {
		t.Fatal(err)
	}
	// Schemas may be too large for the annotation of a client's apply.
	if out, err := w.kubectl(t.Context(), string(crds), "apply", "--server-side", "-f", "-"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := w.kubectl(ctx, string(crds), "delete", "-f", "-"); err != nil {
			t.Error(err)
		}
	})
	image := w.image(t, c.name, []images.File{{Path: "/" + c.name, Source: binary}, writable})
	w.namespace(t, c.namespace)
	w.admin(t, c.namespace)
	w.apply(t, c.namespace, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, labels: {app: %[1]s}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: %[1]s
    image: %[2]s
    imagePullPolicy: Never
    args: [%[3]s]
    readinessProbe: {httpGet: %[4]s, periodSeconds: 1}
`, c.name, image, c.args, c.ready))
	w.ready(t, c.namespace, "app="+c.name, 1)
}

// flagger is Flagger's controller: a canary that it promotes, and one that it
// takes back.
func (w *world) flagger(t *testing.T) {
	const ns = "flagged"
	w.controller(t, controller{
		name: "flagger", namespace: "flagger", crds: "flagger-crds.yaml",
		args:  "-mesh-provider=istio, -metrics-server=http://prometheus.monitoring:9090, -namespace=flagged, -control-loop-interval=1s",
		ready: "{path: /healthz, port: 8080}",
	})
	w.namespace(t, ns, "istio-injection=enabled")
	w.apply(t, ns, scraped+delivered("shop", "shop", "v1", false)+`
apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {name: shop}
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: shop}
  service: {port: 80, targetPort: 8080}
  analysis:
    interval: 10s
    threshold: 2
    stepWeight: 40
    maxWeight: 40
    metrics:
    - {name: request-success-rate, thresholdRange: {min: 99}, interval: 10s}
    - {name: request-duration, thresholdRange: {max: 5000}, interval: 10s}
`)
	client := w.drive(t, ns, "client")
	w.phase(t, ns, "Initialized")
	client.reaches(t, "http://shop.flagged/")
	client.start(t, "load", load{URL: "http://shop.flagged/", Rate: 50})

	w.apply(t, ns, delivered("shop", "shop", "v2", false))
	w.phase(t, ns, "Succeeded")
	// No request failed on the way, not even while pods came and went.
	if c := client.take(t, "load"); c.Versions["v1"] == 0 || c.Versions["v2"] == 0 {
		t.Errorf("versions %v", c.Versions)
	}
	only(t, client, "load", "v2")
	for _, version := range []string{"v1alpha3", "v1beta1", "v1"} {
		if got, err := w.weightsOf(t.Context(), version, ns, "shop"); got != "100/0" || err != nil {
			t.Errorf("at %s weights %s, %v", version, got, err)
		}
	}

	w.apply(t, ns, delivered("shop", "shop", "v3", true))
	w.phase(t, ns, "Failed")
	if c := client.drain(t, "load"); c.Failed == 0 || c.Failed > c.Requests/2 {
		t.Errorf("%d of %d requests failed meanwhile", c.Failed, c.Requests)
	}
	only(t, client, "load", "v2")
	client.end(t, "load")

	// What Flagger manages is not for a rollout.
	_, err := w.pilotfish(t.Context(), "rollout", "vs/shop", "-n", ns, "--to", "shop-canary", "--prometheus", "http://127.0.0.1:1")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(err.Error(), "is managed by Canary shop, its owner") {
		t.Errorf("a rollout of Flagger's VirtualService: %v", err)
	}
}

// phase waits until the canary shop is in a phase; one that it cannot leave
// any more fails the test at once.
func (w *world) phase(t *testing.T, namespace, want string) {
	t.Helper()
	last := map[string]string{"Succeeded": "Failed", "Failed": "Succeeded"}[want]
	began := false
	w.await(t, "the canary to be "+want, func(ctx context.Context) error {
		o, err := w.objects.Resource(schema.GroupVersionResource{Group: "flagger.app", Version: "v1beta1", Resource: "canaries"}).
			Namespace(namespace).Get(ctx, "shop", metav1.GetOptions{})
		if err != nil {
			return err
		}
		phase, _, _ := unstructured.NestedString(o.Object, "status", "phase")
		began = began || phase == "Progressing"
		switch {
		case phase == want && (began || want == "Initialized"):
			return nil
		case phase == last && began:
			log, _ := w.kubectl(ctx, "", "logs", "-n", "flagger", "flagger", "--tail=40")
			t.Fatalf("the canary is %s, want %s\n%s", phase, want, log)
		}
		return fmt.Errorf("it is %q", phase)
	})
}
