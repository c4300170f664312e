package mesh

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// revision installs a control plane of one replica beside the others, until the
// test's end.
func (w *world) revision(t *testing.T, name string) {
	t.Helper()
	t.Cleanup(func() {
		out, err := w.pilotfish(context.Background(), "uninstall", "--revision", name, "--force")
		if err != nil && !strings.Contains(err.Error(), "is not installed") { // the test may have ended it
			t.Errorf("%v\n%s", err, out)
		}
	})
	out, err := w.pilotfish(t.Context(), "install", "--timeout=3m", "--revision", name, "--set", "tag="+tag, "--set", "imagePullPolicy=Never",
		"--set", "replicas=1", "--set", "autoscaling.enabled=false", "--set", "podDisruptionBudget.enabled=false", "--set", "resources.requests.cpu=50m")
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, w.state(t.Context()))
	}
}

// must runs the command line and wants it to succeed.
func (w *world) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := w.pilotfish(t.Context(), args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// configuredBy waits until all pods of a namespace have their proxy from a
// revision, and are as many as they should be.
func (w *world) configuredBy(t *testing.T, namespace, revision string, pods int) {
	t.Helper()
	w.await(t, fmt.Sprintf("%d pods of revision %s", pods, revision), func(ctx context.Context) error {
		list, err := w.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=server"})
		if err != nil {
			return err
		}
		if len(list.Items) != pods {
			return fmt.Errorf("there are %d pods", len(list.Items))
		}
		for _, p := range list.Items {
			if got := discoveryAddress(&p); !strings.Contains(got, "istiod-"+revision+".istio-system.svc") {
				return fmt.Errorf("%s asks %q", p.Name, got)
			}
			if !podReady(&p) {
				return fmt.Errorf("%s is not ready: %s", p.Name, waitsFor(&p))
			}
		}
		return nil
	})
}

// discoveryAddress is the control plane of a pod's proxy.
func discoveryAddress(p *corev1.Pod) string {
	for _, c := range append(p.Spec.InitContainers, p.Spec.Containers...) {
		if c.Name != "istio-proxy" {
			continue
		}
		for _, e := range c.Env {
			if e.Name == "CA_ADDR" || e.Name == "PROXY_CONFIG" && strings.Contains(e.Value, "discoveryAddress") {
				return e.Value
			}
		}
	}
	return ""
}

// TestControlPlaneCanary upgrades the control plane itself by revisions: two
// side by side, a namespace moved by its label, then by a tag, and the old one
// removed, while requests go on between namespaces and through the gateway.
func TestControlPlaneCanary(t *testing.T) {
	w := need(t)
	w.revision(t, "old")
	w.must(t, "tag", "set", "prod", "--revision", "old")
	t.Cleanup(func() {
		if out, err := w.pilotfish(context.Background(), "tag", "remove", "prod", "--force"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	p := w.pair(t, "upgraded", "istio.io/rev=prod")
	w.configuredBy(t, "upgraded", "old", 2)

	w.revision(t, "new")
	move := func(label string) {
		t.Helper()
		if _, err := w.kubectl(t.Context(), "", "label", "--overwrite", "namespace", "upgraded", label); err != nil {
			t.Fatal(err)
		}
		if _, err := w.kubectl(t.Context(), "", "rollout", "restart", "-n", "upgraded", "deployment/server-v1"); err != nil {
			t.Fatal(err)
		}
	}
	move("istio.io/rev=new")
	w.configuredBy(t, "upgraded", "new", 2)
	p.changes(t, "by-its-label")
	move("istio.io/rev=prod") // and back, to be moved by the tag
	w.configuredBy(t, "upgraded", "old", 2)
	w.must(t, "tag", "set", "prod", "--revision", "new")
	move("istio.io/rev=prod")
	w.configuredBy(t, "upgraded", "new", 2)
	p.changes(t, "by-its-tag")

	// What is labelled with the tag is the new one's to judge.
	out, err := w.kubectl(t.Context(), strings.Replace(invalidRoute, "LABELS", "istio.io/rev: prod", 1), "apply", "-n", "upgraded", "-f", "-")
	if err == nil || !strings.Contains(out, "weight is -1") {
		t.Errorf("an invalid object with the tag is let in: %v\n%s", err, out)
	}
	// The client's own proxy is still the old one's: it stays as it is.
	w.must(t, "uninstall", "--revision", "old")
	p.changes(t, "after-the-old-one")
	p.end(t)
	if out := w.must(t, "tag", "list"); !strings.Contains(out, "prod") || !strings.Contains(out, "upgraded") {
		t.Errorf("tag list says:\n%s", out)
	}
}

const invalidRoute = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bad, labels: {LABELS}}
spec: {hosts: [a.example.com], http: [{route: [{destination: {host: a.example.com}, weight: -1}]}]}
`
