package mesh

import (
	"context"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// rolled is a version of an application of Argo Rollouts: a Deployment of
// another kind, with a strategy.
func rolled(app, version string, broken bool, strategy string) string {
	text := strings.Replace(delivered(app, app, version, broken), "apiVersion: apps/v1\nkind: Deployment", "apiVersion: argoproj.io/v1alpha1\nkind: Rollout", 1)
	return strings.Replace(text, "spec:\n", "spec:\n  replicas: 1\n  strategy:\n    canary:\n"+strategy, 1)
}

// byHost splits between two Services, bySubset between two subsets of one.
const (
	byHost = `
      stableService: shop-stable
      canaryService: shop-canary
      trafficRouting: {istio: {virtualService: {name: shop, routes: [primary]}}}
      steps: [{setWeight: 40}, {pause: {duration: 10s}}]
`
	bySubset = `
      trafficRouting:
        istio:
          virtualService: {name: cart, routes: [primary]}
          destinationRule: {name: cart, stableSubsetName: stable, canarySubsetName: canary}
      analysis: {templates: [{templateName: succeeds}], startingStep: 1}
      steps: [{setWeight: 40}, {pause: {}}]
`
)

// splits are the objects that Argo Rollouts writes weights and labels into.
const splits = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop]
  http:
  - name: primary
    route: [{destination: {host: shop-stable}, weight: 100}, {destination: {host: shop-canary}, weight: 0}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart}
spec:
  hosts: [cart]
  http:
  - name: primary
    route: [{destination: {host: cart, subset: stable}, weight: 100}, {destination: {host: cart, subset: canary}, weight: 0}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cart}
spec:
  host: cart
  subsets: [{name: stable, labels: {app: cart}}, {name: canary, labels: {app: cart}}]
---
apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {name: succeeds}
spec:
  metrics:
  - name: success-rate
    interval: 5s
    initialDelay: 10s
    successCondition: result[0] >= 0.95
    provider:
      prometheus:
        address: http://prometheus.monitoring:9090
        query: |
          sum(rate(istio_requests_total{reporter="source", destination_service="cart.rolled.svc.cluster.local", response_code!~"5.."}[10s]))
          / sum(rate(istio_requests_total{reporter="source", destination_service="cart.rolled.svc.cluster.local"}[10s]))
---
`

// rollouts is Argo Rollouts' controller: a version that it promotes, split by
// hosts, and one that its analysis aborts, split by subsets.
func (w *world) rollouts(t *testing.T) {
	const ns = "rolled"
	w.controller(t, controller{
		name: "rollouts-controller", namespace: "argo-rollouts", crds: "rollouts-crds.yaml",
		args: "--leader-elect=false, --loglevel=info", ready: "{path: /metrics, port: 8090}",
	})
	w.namespace(t, ns, "istio-injection=enabled")
	of := func(name string) string { return strings.Replace(service("shop"), "name: shop", "name: "+name, 1) }
	w.apply(t, ns, scraped+service("shop")+of("shop-stable")+of("shop-canary")+service("cart")+splits+
		rolled("shop", "v1", false, byHost)+rolled("cart", "v1", false, bySubset))
	client := w.drive(t, ns, "client")
	for _, name := range []string{"shop", "cart"} {
		w.rolloutIs(t, ns, name, "Healthy")
		client.reaches(t, "http://"+name+".rolled/")
		client.start(t, name, load{URL: "http://" + name + ".rolled/", Rate: 40})
	}

	w.apply(t, ns, rolled("shop", "v2", false, byHost))
	w.apply(t, ns, rolled("cart", "v2", true, bySubset))
	w.rolloutIs(t, ns, "shop", "Healthy")
	only(t, client, "shop", "v2")
	for _, version := range []string{"v1alpha3", "v1beta1", "v1"} {
		if got, err := w.weightsOf(t.Context(), version, ns, "shop"); got != "100/0" || err != nil {
			t.Errorf("at %s weights %s, %v", version, got, err)
		}
	}
	client.end(t, "shop")

	w.rolloutIs(t, ns, "cart", "Degraded")
	if c := client.drain(t, "cart"); c.Failed == 0 || c.Failed > c.Requests/2 || c.Versions["v2"] == 0 {
		t.Errorf("%d of %d requests failed meanwhile, %v", c.Failed, c.Requests, c.Versions)
	}
	only(t, client, "cart", "v1")
	if got, err := w.weightsOf(t.Context(), "v1", ns, "cart"); got != "100/0" || err != nil {
		t.Errorf("weights %s, %v", got, err)
	}
	client.end(t, "cart")
}

// rolloutIs waits until a Rollout is in a phase with its newest version.
func (w *world) rolloutIs(t *testing.T, namespace, name, want string) {
	t.Helper()
	defer func() {
		if t.Failed() {
			log, _ := w.kubectl(context.WithoutCancel(t.Context()), "", "logs", "-n", "argo-rollouts", "rollouts-controller", "--tail=60")
			t.Log(log)
		}
	}()
	w.await(t, "Rollout "+name+" to be "+want, func(ctx context.Context) error {
		o, err := w.objects.Resource(schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "rollouts"}).
			Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		phase, _, _ := unstructured.NestedString(o.Object, "status", "phase")
		message, _, _ := unstructured.NestedString(o.Object, "status", "message")
		seen, _, _ := unstructured.NestedString(o.Object, "status", "observedGeneration")
		if phase != want || seen != fmt.Sprint(o.GetGeneration()) {
			return fmt.Errorf("it is %q: %s (generation %d, seen %s)", phase, message, o.GetGeneration(), seen)
		}
		return nil
	})
}
