package mesh

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// pair is a client with a sidecar and a server with two pods, with a steady
// load between them and one through the gateway.
type pair struct {
	w              *world
	namespace      string
	inside, outer  *driver
	inMesh, edge   string // the loads' names
	service, entry string // their URLs
}

// pair makes a pair in a namespace of its own, with labels in place of
// istio-injection=enabled.
func (w *world) pair(t *testing.T, namespace string, labels ...string) *pair {
	t.Helper()
	if len(labels) == 0 {
		labels = []string{"istio-injection=enabled"}
	}
	w.namespace(t, namespace, labels...)
	w.namespace(t, namespace+"-outside")
	w.apply(t, namespace, service("server")+application("server", "v1", 2))
	p := &pair{
		w: w, namespace: namespace, inMesh: "in-mesh", edge: "edge",
		inside: w.drive(t, namespace, "client"), outer: w.drive(t, namespace+"-outside", "client"),
		service: "http://server." + namespace + "/", entry: "http://istio-ingressgateway.istio-system/" + namespace,
	}
	w.ready(t, namespace, "app=server", 2)
	w.apply(t, namespace, fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: entry}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: entry}
spec:
  hosts: ["*"]
  gateways: [entry]
  http:
  - match: [{uri: {prefix: /%s}}]
    route: [{destination: {host: server}}]
`, namespace))
	p.inside.reaches(t, p.service)
	p.outer.reaches(t, p.entry)
	p.inside.start(t, p.inMesh, load{URL: p.service, Rate: 30})
	p.outer.start(t, p.edge, load{URL: p.entry, Rate: 30})
	return p
}

// end ends the loads: none of their requests may have failed, and there were
// enough of them to tell.
func (p *pair) end(t *testing.T) {
	t.Helper()
	for name, n := range map[string]int{p.inMesh: p.inside.end(t, p.inMesh).Requests, p.edge: p.outer.end(t, p.edge).Requests} {
		if n < 100 {
			t.Errorf("load %s made only %d requests", name, n)
		}
	}
}

// changes proves that configuration still reaches proxies: a header that the
// edge adds appears in answers.
func (p *pair) changes(t *testing.T, value string) {
	t.Helper()
	p.w.apply(t, p.namespace, fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: entry}
spec:
  hosts: ["*"]
  gateways: [entry]
  http:
  - match: [{uri: {prefix: /%s}}]
    route: [{destination: {host: server}, headers: {response: {set: {x-change: %q}}}}]
`, p.namespace, value))
	p.w.await(t, "the change to reach the gateway", func(ctx context.Context) error {
		f, err := p.outer.fetch(ctx, p.entry, nil)
		if err != nil {
			return err
		}
		if got := strings.Join(f.Headers["X-Change"], ","); got != value {
			return fmt.Errorf("x-change is %q", got)
		}
		return nil
	})
}

// during calls f at a steady beat until d has passed.
func during(t *testing.T, d, beat time.Duration, f func(n int)) {
	t.Helper()
	end, tick := time.NewTimer(d), time.NewTicker(beat)
	defer end.Stop()
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-end.C:
			return
		case <-t.Context().Done():
			return
		case <-tick.C:
			f(n)
		}
	}
}

// TestControlPlaneKilled kills a replica every five seconds for two minutes, and
// some times both: requests go on, and so do new pods and changes.
func TestControlPlaneKilled(t *testing.T) {
	w := need(t)
	p := w.pair(t, "killed")
	before := w.lease(t)
	none := int64(0)
	during(t, 2*time.Minute, 5*time.Second, func(n int) {
		pods, err := w.kube.CoreV1().Pods("istio-system").List(t.Context(), metav1.ListOptions{LabelSelector: "app=istiod"})
		if err != nil {
			t.Fatal(err)
		}
		for i, pod := range pods.Items {
			if i == 0 || n%8 == 3 {
				if err := w.kube.CoreV1().Pods("istio-system").Delete(t.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &none}); err != nil {
					t.Log(err) // it may have ended by itself
				}
			}
		}
		if n == 1 { // a pod that is made meanwhile
			w.apply(t, p.namespace, application("late", "v1", 1))
		}
	})
	if late := w.ready(t, p.namespace, "app=late", 1)[0]; !hasProxy(&late) {
		t.Error("a pod made while replicas died has no sidecar")
	}
	replicas := w.ready(t, "istio-system", "app=istiod", 2)
	w.await(t, "a leader that lives", func(context.Context) error {
		now := w.lease(t)
		for _, r := range replicas {
			if now.HolderIdentity != nil && *now.HolderIdentity == r.Name {
				return nil
			}
		}
		return fmt.Errorf("the lease is of %v", ptr.Deref(now.HolderIdentity, "nobody"))
	})
	if a, b := ptr.Deref(before.LeaseTransitions, 0), ptr.Deref(w.lease(t).LeaseTransitions, 0); b <= a {
		t.Errorf("the lease has changed hands %d times, and %d before the leaders were killed", b, a)
	}
	p.changes(t, "after-the-kills")
	p.end(t)
}

// lease is who leads.
func (w *world) lease(t *testing.T) coordinationv1.LeaseSpec {
	t.Helper()
	l, err := w.kube.CoordinationV1().Leases("istio-system").Get(t.Context(), "pilotfish-leader", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return l.Spec
}

// TestRollingUpgrade goes to other images and back while requests go on.
func TestRollingUpgrade(t *testing.T) {
	w := need(t)
	p := w.pair(t, "upgrade")
	for _, to := range []string{tag + "-next", tag} {
		out, err := w.pilotfish(t.Context(), w.installation(to)...)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		p.changes(t, to)
	}
	p.end(t)
}

// TestRestarts replaces all pods of a server, and the gateway, while requests go
// on that nobody tries again: those that end finish what they began, and get
// nothing new.
func TestRestarts(t *testing.T) {
	w := need(t)
	p := w.pair(t, "restarts")
	w.apply(t, p.namespace, `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: entry}
spec:
  hosts: ["*"]
  gateways: [entry]
  http:
  - match: [{uri: {prefix: /restarts}}]
    route: [{destination: {host: server}, headers: {response: {set: {x-change: once}}}}]
    retries: {attempts: 0}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: server}
spec:
  hosts: [server]
  http: [{route: [{destination: {host: server}, headers: {response: {set: {x-change: once}}}}], retries: {attempts: 0}}]
`)
	for url, d := range map[string]*driver{p.service: p.inside, p.entry: p.outer} {
		w.await(t, "no retries for "+url, func(ctx context.Context) error {
			f, err := d.fetch(ctx, url, nil)
			if err == nil && strings.Join(f.Headers["X-Change"], ",") != "once" {
				err = errors.New("not yet")
			}
			return err
		})
	}
	for _, d := range [][2]string{{p.namespace, "deployment/server-v1"}, {"istio-system", "deployment/istio-ingressgateway"}} {
		for _, args := range [][]string{{"restart"}, {"status", "--timeout=" + patience.String()}} {
			if out, err := w.kubectl(t.Context(), "", append(append([]string{"rollout"}, args...), "-n", d[0], d[1])...); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
	}
	w.ready(t, p.namespace, "app=server", 2)
	w.ready(t, "istio-system", "istio=ingressgateway", 1)
	p.end(t)
}

// TestAPIServerAway: with no API server for two minutes requests go on, and no
// less when the control plane has to start again meanwhile: it serves what it
// has saved, so that proxies find it. Once the server is back, so are changes.
func TestAPIServerAway(t *testing.T) {
	w := need(t)
	if w.node == nil {
		t.Skip("only a node of our own can lose its API server")
	}
	p := w.pair(t, "away")
	since := metav1.Now()
	if err := w.node.Stop(t.Context(), "kube-apiserver"); err != nil {
		t.Fatal(err)
	}
	during(t, 40*time.Second, 5*time.Second, func(int) {}) // warm
	killed, err := w.node.KillContainers(t.Context(), "discovery")
	if err != nil || killed < 2 {
		t.Errorf("%d replicas were killed (%v), want 2", killed, err)
	}
	during(t, 80*time.Second, 5*time.Second, func(int) {}) // cold
	if err := w.node.Start(t.Context(), "kube-apiserver"); err != nil {
		t.Fatal(err)
	}
	for _, pod := range w.ready(t, "istio-system", "app=istiod", 2) {
		w.servedSaved(t, pod.Name, since)
	}
	p.changes(t, "after-it-is-back")
	p.end(t)
}

// servedSaved waits for the log of a replica to say that it started while the
// API server was away, served what it had saved, and caught up.
func (w *world) servedSaved(t *testing.T, pod string, since metav1.Time) {
	t.Helper()
	w.await(t, pod+" to tell that it served the saved state, and has caught up", func(ctx context.Context) error {
		b, err := w.kube.CoreV1().Pods("istio-system").GetLogs(pod, &corev1.PodLogOptions{SinceTime: &since}).DoRaw(ctx)
		if err != nil {
			return err
		}
		text, at := string(b), 0
		for _, line := range []string{"serving the state that was saved", "ready: the first mesh is in service", "caught up with the API server"} {
			next := strings.Index(text[at:], line)
			if next < 0 {
				return fmt.Errorf("no %q after what came before:\n%s", line, text)
			}
			at += next
		}
		return nil
	})
}

// TestNodeRestarts kills kubelet and containerd and starts them again, as an
// upgrade of a node does.
func TestNodeRestarts(t *testing.T) {
	w := need(t)
	if w.node == nil {
		t.Skip("only a node of our own can be restarted")
	}
	p := w.pair(t, "reboot")
	// A container that is younger than ten seconds when kubelet starts is not
	// ready for it until a probe says so; older ones stay as ready as they were.
	during(t, 11*time.Second, time.Second, func(int) {})
	for _, name := range []string{"kubelet", "containerd"} {
		if err := w.node.Stop(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	during(t, 5*time.Second, time.Second, func(int) {})
	for _, name := range []string{"containerd", "kubelet"} {
		if err := w.node.Start(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	w.apply(t, p.namespace, application("late", "v1", 1))
	w.ready(t, p.namespace, "app=late", 1)
	p.changes(t, "after-the-restart")
	p.end(t)
}

// TestCertificatesRotate: certificates that live a minute are replaced under
// load, and so is the root that signs them; no connection is lost by it.
func TestCertificatesRotate(t *testing.T) {
	w := need(t)
	t.Parallel() // it mostly waits
	w.namespace(t, "rotate", "istio-injection=enabled")
	w.namespace(t, "rotate-outside")
	short := `      annotations: {proxy.istio.io/config: "proxyMetadata: {SECRET_TTL: 60s}"}` + "\n"
	w.apply(t, "rotate", service("server")+strings.Replace(application("server", "v1", 1), "    spec:\n", short+"    spec:\n", 1))
	w.apply(t, "rotate", `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
`)
	client := strings.Replace(driverPod("client", ""), "annotations:\n", "annotations:\n    proxy.istio.io/config: \"proxyMetadata: {SECRET_TTL: 60s}\"\n", 1)
	w.apply(t, "rotate", client)
	w.ready(t, "rotate", "app=server", 1)
	w.ready(t, "rotate", "app=client", 1)
	inside, outside := &driver{w, "rotate", "client"}, w.drive(t, "rotate-outside", "client")
	inside.reaches(t, "http://server.rotate/")
	inside.start(t, "steady", load{URL: "http://server.rotate/", Rate: 30})

	const address = "server.rotate:80"
	first := w.peerCertificate(t, outside, address)
	if life := first.NotAfter.Sub(first.NotBefore); life > 5*time.Minute {
		t.Errorf("the certificate lives %v, want about a minute", life)
	}
	w.await(t, "another certificate", func(context.Context) error {
		if w.peerCertificate(t, outside, address).SerialNumber.Cmp(first.SerialNumber) == 0 {
			return errors.New("it is the first one")
		}
		return nil
	})

	// The root: the next one is trusted everywhere before it signs.
	issuer := first.Issuer.String()
	annotate := func(value string) {
		t.Helper()
		if _, err := w.kubectl(t.Context(), "", "annotate", "--overwrite", "-n", "istio-system", "secret/istio-ca-secret", "pilotfish.io/ca-rotation="+value); err != nil {
			t.Fatal(err)
		}
	}
	annotate("begin")
	w.await(t, "both roots in the trust bundle", func(ctx context.Context) error {
		m, err := w.kube.CoreV1().ConfigMaps("rotate").Get(ctx, "istio-ca-root-cert", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if n := strings.Count(m.Data["root-cert.pem"], "BEGIN CERTIFICATE"); n != 2 {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	// Proxies that learn of roots with their certificates do so within a minute.
	// Both have by the server's second renewal.
	for range 2 {
		known := w.peerCertificate(t, outside, address)
		w.await(t, "certificates after the next root was distributed", func(context.Context) error {
			if w.peerCertificate(t, outside, address).SerialNumber.Cmp(known.SerialNumber) == 0 {
				return errors.New("not renewed yet")
			}
			return nil
		})
	}
	annotate("hurry")
	w.await(t, "certificates of the next root", func(context.Context) error {
		if w.peerCertificate(t, outside, address).Issuer.String() == issuer {
			return errors.New("still of the previous one")
		}
		return nil
	})
	inside.end(t, "steady")
}
