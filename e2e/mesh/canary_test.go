package mesh

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// application is a Deployment of one version, whose pods say who they are.
func application(name, version string, replicas int) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s-%[2]s}
spec:
  replicas: %[3]d
  selector:
    matchLabels: {app: %[1]s, version: %[2]s}
  template:
    metadata:
      labels: {app: %[1]s, version: %[2]s}
    spec:
      terminationGracePeriodSeconds: 15
      containers:
      - name: app
        image: %[4]s
        args: [serve, "8080"]
        env:
        - {name: VERSION, value: %[2]s}
        - {name: WORKLOAD, value: %[1]s-%[2]s}
        ports:
        - {name: http, containerPort: 8080}
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1, timeoutSeconds: 10}
---
`, name, version, replicas, appImage)
}

func service(name string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec:
  selector: {app: %[1]s}
  ports:
  - {name: http, port: 80, targetPort: 8080}
---
`, name)
}

// inMesh is a VirtualService for the sidecars, beside the gateway's.
func inMesh(v1, v2 int) string {
	return fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: myapp-in-mesh}
spec:
  hosts: [myapp]
  http:
  - route:
    - destination: {host: myapp, subset: v1}
      weight: %d
    - destination: {host: myapp, subset: v2}
      weight: %d
`, v1, v2)
}

// TestCanary is the story of a new version, from kubectl apply to the old
// one's end: through the ingress gateway and from a sidecar, under load, with
// no failed request and each weight seen in the answers.
func TestCanary(t *testing.T) {
	w := need(t)
	w.namespace(t, "canary", "istio-injection=enabled")
	w.namespace(t, "outside")
	w.apply(t, "canary", service("myapp")+application("myapp", "v1", 1)+application("myapp", "v2", 1))
	outside, inside := w.drive(t, "outside", "outside"), w.drive(t, "canary", "client")
	for _, p := range append(w.ready(t, "canary", "app=myapp", 2), w.ready(t, "canary", "app=client", 1)...) {
		if !hasProxy(&p) {
			t.Fatalf("pod %s has no sidecar", p.Name)
		}
	}
	inside.reaches(t, "http://myapp.canary/")
	inside.start(t, "sidecar", load{URL: "http://myapp.canary/", Rate: 50})

	// The user's file, as it is.
	file, err := os.ReadFile(filepath.Join(w.root, "examples", "canary", "myapp.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	myapp := string(file)
	w.apply(t, "canary", myapp)
	w.apply(t, "canary", inMesh(70, 30))
	const ingress = "http://istio-ingressgateway.istio-system/"
	outside.reaches(t, ingress)
	outside.start(t, "gateway", load{URL: ingress, Rate: 50})
	weights := func(v2 int) {
		t.Helper()
		shares(t, outside, "gateway", v2)
		shares(t, inside, "sidecar", v2)
	}
	weights(30)
	for _, v2 := range []int{50, 100} {
		text := strings.NewReplacer("weight: 70", fmt.Sprintf("weight: %d", 100-v2), "weight: 30", fmt.Sprintf("weight: %d", v2)).Replace(myapp)
		w.apply(t, "canary", text)
		w.apply(t, "canary", inMesh(100-v2, v2))
		weights(v2)
		w.everywhere(t, "canary", "virtualservice/myapp-virtualservice")
	}

	// The old version goes: first from the routes, then its pods, then its subset.
	routes := func(name, hosts, gateways string) string {
		return fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: %s}
spec:
  hosts: [%s]
  %s
  http:
  - route:
    - destination: {host: myapp, subset: v2}
---
`, name, hosts, gateways)
	}
	w.apply(t, "canary", routes("myapp-virtualservice", `"*"`, "gateways: [myapp-gateway]")+routes("myapp-in-mesh", "myapp", ""))
	w.remove(t, "canary", "deployment/myapp-v1")
	w.ready(t, "canary", "app=myapp", 1)
	w.apply(t, "canary", `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: myapp-destinationrule}
spec:
  host: myapp
  subsets:
  - {name: v2, labels: {version: v2}}
`)
	weights(100)
	outside.end(t, "gateway")
	inside.end(t, "sidecar")
}

// everywhere waits until an object's status says that every proxy has its newest
// version.
func (w *world) everywhere(t *testing.T, namespace, object string) {
	t.Helper()
	w.await(t, object+" to be everywhere", func(ctx context.Context) error {
		out, err := w.kubectl(ctx, "", "get", "-n", namespace, object, "-o",
			`jsonpath={.metadata.generation} {.status.observedGeneration} {.status.conditions[?(@.type=="Reconciled")].message}`)
		if err != nil {
			return err
		}
		var generation, observed, holders, proxies int
		if n, _ := fmt.Sscanf(out, "%d %d %d of %d proxies have this version", &generation, &observed, &holders, &proxies); n < 4 ||
			generation != observed || holders != proxies || proxies < 4 { // the gateway, two pods and the client
			return fmt.Errorf("its status says %q", out)
		}
		return nil
	})
}

// shares waits until a load's answers come from v2 as often as its weight
// says, within bounds that chance leaves less than once in ten thousand times,
// in a sample that a change is not in the middle of.
func shares(t *testing.T, d *driver, name string, weight int) {
	t.Helper()
	p := float64(weight) / 100
	d.take(t, name) // what came before
	var sample counts
	d.w.await(t, fmt.Sprintf("%d %% of load %s to reach v2", weight, name), func(context.Context) error {
		c := d.take(t, name)
		sample.Requests += c.Requests
		if sample.Versions == nil {
			sample.Versions = map[string]int{}
		}
		for v, n := range c.Versions {
			sample.Versions[v] += n
		}
		if sample.Requests < 200 {
			return fmt.Errorf("%d requests so far", sample.Requests)
		}
		n, v2 := float64(sample.Requests), float64(sample.Versions["v2"])
		said := fmt.Errorf("%v of %v requests reached v2", v2, n)
		sample = counts{}
		if bound := 3.9 * math.Sqrt(n*p*(1-p)); math.Abs(v2-n*p) > bound {
			return said
		}
		return nil
	})
}
