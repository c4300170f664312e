package mesh

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilotfish-mesh/pilotfish/manifests/images"
)

// istiodSettings fit Istio to a stock Envoy, which lacks Istio's extensions, and
// hold something that pilotfish is to take over.
const istiodSettings = `
global:
  hub: docker.io/istio
  tag: e2e
  imagePullPolicy: Never
  proxy: {resources: {requests: {cpu: 11m, memory: 40Mi}}}
resources: {requests: {cpu: 50m, memory: 128Mi}}
autoscaleEnabled: false
telemetry: {enabled: false}
env: {PILOT_ENABLE_ALPN_FILTER: "false", PILOT_ENABLE_METADATA_EXCHANGE: "false"}
meshConfig:
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
  defaultConfig: {drainDuration: 44s}
sidecarInjectorWebhook:
  injectedAnnotations: {example.com/kept: "yes"}
`

// istiod installs a real Istio of its own charts, with its gateway, until the
// test's end.
func (w *world) istiod(t *testing.T, environment []string) {
	t.Helper()
	w.istiosImage(t, "pilot", nil, images.File{Path: "/usr/local/bin/pilot-discovery", Source: w.tool("pilot-discovery")})
	w.istiosImage(t, "proxyv2", w.proxyv2(t), images.File{Path: "/usr/local/bin/pilot-agent", Source: w.tool("pilot-agent")})
	settings := filepath.Join(t.TempDir(), "istio.yaml")
	if err := os.WriteFile(settings, []byte(istiodSettings), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// What a failed test leaves; one that succeeded has removed it already.
		for _, release := range []string{"istio-ingressgateway", "istiod", "istio-base"} {
			_, _ = w.command(context.Background(), w.tool("helm"), "uninstall", "-n", "istio-system", release, "--ignore-not-found")
		}
	})
	w.follow(t, fmt.Sprintf(`helm install istio-base %[1]s/base -n istio-system --create-namespace --wait
helm install istiod %[1]s/istio-discovery -n istio-system -f %[2]s --wait --timeout 3m
helm install istio-ingressgateway %[1]s/gateway -n istio-system --set service.type=ClusterIP,autoscaling.enabled=false,resources.requests.cpu=10m,resources.requests.memory=40Mi,imagePullPolicy=Never
kubectl rollout status -n istio-system deployment/istio-ingressgateway --timeout=3m
`, w.tool("istio-charts"), settings), environment...)
}

// istiosImage gives the cluster an image under the name that Istio's charts use.
func (w *world) istiosImage(t *testing.T, name string, files []images.File, binary images.File) {
	t.Helper()
	i := images.Image{Layers: [][]images.File{append(files, writable), {binary}}, Entrypoint: []string{binary.Path}, User: "1337:1337"}
	archive := filepath.Join(t.TempDir(), name+".tar")
	if err := i.Write(archive, "docker.io/istio/"+name+":e2e"); err != nil {
		t.Fatal(err)
	}
	if err := w.node.Load(t.Context(), archive); err != nil {
		t.Fatal(err)
	}
}

// proxyv2 is what the image of Istio's proxies has besides its agent: Envoy, the
// template of its bootstrap, and iptables with its plugins.
func (w *world) proxyv2(t *testing.T) []images.File {
	t.Helper()
	envoy, err := w.command(t.Context(), filepath.Join(w.root, "tools", "envoy.sh"))
	if err != nil {
		t.Fatal(err)
	}
	iptables, err := exec.LookPath("xtables-nft-multi")
	if err != nil {
		t.Fatal(err)
	}
	plugins, err := filepath.Glob("/usr/lib/*/xtables/lib[ix]*t_*.so")
	if err != nil || len(plugins) == 0 {
		t.Fatalf("no plugins of iptables: %v", err)
	}
	files := []images.File{
		{Path: "/etc/passwd", Content: "root:x:0:0:root:/:/\nistio-proxy:x:1337:1337:istio-proxy:/:/\n"},
		{Path: "/etc/group", Content: "root:x:0:\nistio-proxy:x:1337:\n"},
		{Path: "/usr/local/bin/envoy", Source: envoy},
		{Path: "/var/lib/istio/envoy/envoy_bootstrap_tmpl.json", Source: w.tool("envoy_bootstrap.json"), Mode: 0o644},
		{Path: iptables, Source: iptables},
	}
	have := map[string]bool{}
	for _, binary := range append(plugins, envoy, iptables) {
		libraries, err := images.Libraries(binary)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range libraries {
			if !have[l.Path] {
				have[l.Path] = true
				files = append(files, l)
			}
		}
	}
	for _, p := range plugins {
		files = append(files, images.File{Path: p, Source: p})
	}
	for _, name := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		files = append(files, images.File{Path: "/usr/sbin/" + name, Link: filepath.Base(iptables)})
	}
	return files
}

// strictMesh allows mutual TLS only.
const strictMesh = `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
`

// TestMovesFromIstiod follows docs/migration.md: a mesh of a real istiod, with
// mutual TLS only, goes over to pilotfish while requests go on inside of it and
// through its gateway.
func TestMovesFromIstiod(t *testing.T) {
	w := needBare(t)
	const page, namespace = "docs/migration.md", "shop"
	environment := w.terminal()
	walk := func(heading string) string {
		t.Helper()
		return w.follow(t, w.commandsOf(t, page, heading), environment...)
	}
	t.Cleanup(func() { // after the namespaces
		if out, err := w.pilotfish(context.Background(), "uninstall", "--purge"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if err := w.kube.CoreV1().Namespaces().Delete(context.Background(), "istio-system", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	w.istiod(t, environment)
	w.apply(t, "", strictMesh)
	p := w.pair(t, namespace)
	w.revisionIs(t, "app=server", namespace, "default", 2)
	root := w.trusted(t, namespace)

	if said := walk("## What does not move"); strings.Contains(said, "error") || strings.Contains(said, "warning") {
		t.Errorf("lint of the cluster:\n%s", said)
	}
	walk("## Beside istiod")
	w.takenOver(t)
	walk("## Namespace by namespace")
	w.revisionIs(t, "app=server", namespace, "pilotfish", 2)
	w.revisionIs(t, "istio=ingressgateway", "istio-system", "pilotfish", 1)
	walk("### And back")
	w.revisionIs(t, "app=server", namespace, "default", 2)
	walk("## Namespace by namespace")
	w.revisionIs(t, "app=server", namespace, "pilotfish", 2)
	p.changes(t, "from-pilotfish") // at its gateway; the client's proxy is still istiod's
	if got := w.trusted(t, namespace); got != root {
		t.Errorf("the root is another one")
	}
	p.end(t)

	// The last workload moves.
	w.remove(t, namespace, "pod/client")
	p.inside = w.drive(t, namespace, "client")
	p.inside.reaches(t, p.service)
	p.inside.start(t, p.inMesh, load{URL: p.service, Rate: 30})
	p.outer.start(t, p.edge, load{URL: p.entry, Rate: 30})
	if said := walk("## The end of istiod"); !strings.Contains(said, "pilotfish works in this cluster.") {
		t.Errorf("the end of istiod:\n%s", said)
	}
	p.changes(t, "without-istiod")
	if f, err := p.outer.fetch(t.Context(), p.service, nil); err != nil || f.Status == 200 {
		t.Errorf("plaintext gets %d %s, %v; want no answer", f.Status, f.Body, err)
	}
	// Namespaces with Istio's old label are pilotfish's now, and so is the webhook.
	w.namespace(t, "later", "istio-injection=enabled")
	w.apply(t, "later", service("server")+application("server", "v1", 1))
	w.revisionIs(t, "app=server", "later", "pilotfish", 1)
	if out, err := w.kubectl(t.Context(), strings.Replace(invalidRoute, "LABELS", "app: x", 1), "apply", "-n", "later", "-f", "-"); err == nil || !strings.Contains(out, "weight is -1") {
		t.Errorf("an invalid object is let in: %v\n%s", err, out)
	}
	p.end(t)
}

// revisionIs waits until the pods of a selector are n, ready, and have their proxy
// of a revision.
func (w *world) revisionIs(t *testing.T, selector, namespace, revision string, n int) {
	t.Helper()
	for _, p := range w.ready(t, namespace, selector, n) {
		if got := p.Annotations["istio.io/rev"]; got != revision || !hasProxy(&p) {
			t.Errorf("%s/%s has a proxy of revision %q, want %q", namespace, p.Name, got, revision)
		}
	}
}

// trusted is the root that a namespace's workloads are given.
func (w *world) trusted(t *testing.T, namespace string) string {
	t.Helper()
	bundle, err := w.kube.CoreV1().ConfigMaps(namespace).Get(t.Context(), "istio-ca-root-cert", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(bundle.Data["root-cert.pem"])
}

// takenOver holds what istiod's settings were against those of pilotfish.
func (w *world) takenOver(t *testing.T) {
	t.Helper()
	get := func(name string) map[string]string {
		cm, err := w.kube.CoreV1().ConfigMaps("istio-system").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return cm.Data
	}
	mesh, injection := get("istio-pilotfish")["mesh"], get("istio-sidecar-injector-pilotfish")
	for _, want := range []string{"REGISTRY_ONLY", "drainDuration: 44s", "discoveryAddress: istiod-pilotfish.istio-system.svc:15012"} {
		if !strings.Contains(mesh, want) {
			t.Errorf("MeshConfig has no %q:\n%s", want, mesh)
		}
	}
	if !strings.Contains(injection["values"], `"11m"`) || strings.Contains(injection["values"], "docker.io/istio") {
		t.Errorf("the values of injection: %s", injection["values"])
	}
	if !strings.Contains(injection["config"], "example.com/kept") || strings.Contains(injection["config"], "grpc-agent") {
		t.Errorf("injection: %s", injection["config"])
	}
}
