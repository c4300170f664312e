package mesh

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pilotfish-mesh/pilotfish/e2e/pki"
)

// TestOperations follows docs/operations.md, each command as it stands there:
// three ways to install, an upgrade by revisions and tags, what to look at, and
// the removal, after which the cluster is as it was before.
func TestOperations(t *testing.T) {
	w := needBare(t)
	before := w.everything(t)
	const page = "docs/operations.md"
	environment := w.terminal()
	walk := func(headings ...string) (terminal string) {
		t.Helper()
		for _, h := range headings {
			began := time.Now()
			terminal = w.follow(t, w.commandsOf(t, page, h), environment...)
			t.Logf("%s: %v", h, time.Since(began).Round(time.Second))
		}
		return terminal
	}
	walk("### With Helm")
	w.await(t, "the pods' end", func(ctx context.Context) error {
		pods, err := w.kube.CoreV1().Pods("istio-system").List(ctx, metav1.ListOptions{})
		if err == nil && len(pods.Items) > 0 {
			err = fmt.Errorf("%d pods", len(pods.Items))
		}
		return err
	})
	for name := range w.everything(t) {
		if !before[name] && !kept(name) {
			t.Errorf("helm uninstall leaves %s", name)
		}
	}
	walk("### With kubectl", "## Install")
	w.follow(t, `kubectl create namespace shop
kubectl label namespace shop istio-injection=enabled
kubectl apply -n shop -f examples/canary/deployments.yaml -f examples/canary/myapp.yaml
kubectl rollout status deployment -n shop
`, environment...)
	if terminal := walk("## Status of objects"); !strings.Contains(terminal, "PassedValidation=True") ||
		!allHaveIt.MatchString(terminal) {
		t.Errorf("the object's status:\n%s", terminal)
	}
	if terminal := w.follow(t, "pilotfish ca status\npilotfish ca rotate\n", environment...); !strings.Contains(terminal, "self-signed") {
		t.Errorf("the root:\n%s", terminal)
	}
	looked := w.follow(t, freePort(t, w.commandsOf(t, page, "## Troubleshooting"), "15014"), environment...)
	for _, want := range []string{"myapp-v1-", "proxies have this version", "root in use"} {
		if !strings.Contains(looked, want) {
			t.Errorf("troubleshooting does not show %q:\n%s", want, looked)
		}
	}
	walk("## Upgrade", "### Two versions side by side")
	for _, p := range w.injected(t, "shop") {
		if got := discoveryAddress(&p); !strings.Contains(got, "istiod-canary.") {
			t.Errorf("%s asks %q", p.Name, got)
		}
	}
	walk("## Remove")
	if n := len(w.injected(t, "shop")); n > 0 {
		t.Errorf("%d pods still have a sidecar", n)
	}
	w.noneComesBack(t)
	w.follow(t, "kubectl delete namespace shop istio-system\n", environment...)
	w.plugsIn(t, page, environment)
	w.await(t, "an end without a trace", func(context.Context) error {
		after := w.everything(t)
		var more []string
		for name := range after {
			if !before[name] {
				more = append(more, name)
			}
		}
		for name := range before {
			if !after[name] {
				more = append(more, "no "+name)
			}
		}
		if len(more) > 0 {
			return fmt.Errorf("%d: %v", len(more), more[:min(len(more), 20)])
		}
		return nil
	})
}

var allHaveIt = regexp.MustCompile(`VirtualService shop/myapp-virtualservice generation 1: [1-9]\d* of \d+ proxies have it\n`)

// plugsIn follows the commands for a root of one's own, with the lists that the
// page on security adds. The Envoys of pods have root and list.
func (w *world) plugsIn(t *testing.T, page string, environment []string) {
	t.Helper()
	root, err := pki.Root("the company's root", time.Now().Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	list, err := root.Revoke(1)
	if err != nil {
		t.Fatal(err)
	}
	files := t.TempDir()
	for name, text := range map[string][]byte{
		"ca-cert.pem": root.Cert, "ca-key.pem": root.KeyPEM, "cert-chain.pem": root.Cert, "root-cert.pem": root.Cert, "ca-crl.pem": list,
	} {
		if err := os.WriteFile(filepath.Join(files, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	create, _, ok := strings.Cut(w.commandsOf(t, page, "## Certificates"), "pilotfish ca status")
	if !ok || !strings.Contains(create, "--from-file=root-cert.pem") {
		t.Fatalf("section Certificates begins with %s", create)
	}
	create = strings.TrimSpace(create) + " --from-file=ca-crl.pem\n"
	terminal := w.follow(t, "kubectl create namespace istio-system\ncd "+files+"\n"+create+`pilotfish install
pilotfish ca status
kubectl create namespace shop
kubectl label namespace shop istio-injection=enabled
cd `+w.root+`
kubectl apply -n shop -f examples/canary/deployments.yaml -f examples/canary/myapp.yaml
kubectl rollout status -n shop deployment/myapp-v1
istioctl proxy-config secret -n shop deployment/myapp-v1 -o json
pilotfish uninstall --purge
kubectl delete namespace shop istio-system
`, environment...)
	in := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	for _, want := range []string{"the company's root", in(root.Cert), `"crl"`, in(list)} {
		if !strings.Contains(terminal, want) {
			t.Errorf("a root of one's own: no %q in\n%s", want, terminal)
		}
	}
}

// noneComesBack: the objects of users have gone with their CRDs, so that the next
// installation does not begin with them.
func (w *world) noneComesBack(t *testing.T) {
	t.Helper()
	crds := filepath.Join(w.root, "manifests", "chart", "files", "crds.yaml")
	if out, err := w.kubectl(t.Context(), "", "create", "-f", crds); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := w.kubectl(t.Context(), "", "wait", "--for=condition=Established", "--timeout=60s", "-f", crds); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := w.kubectl(t.Context(), "", "get", "gateways.networking.istio.io,virtualservices,destinationrules", "-A", "-o", "name", "--ignore-not-found"); err != nil || out != "" {
		t.Errorf("after --purge: %v %s", err, out)
	}
	if out, err := w.kubectl(t.Context(), "", "delete", "-f", crds); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// kept is what stays when pilotfish goes without --purge.
func kept(object string) bool {
	for _, part := range []string{
		"customresourcedefinitions/", "configmaps/istio-ca-root-cert", "istio-system secrets/istio-ca-secret", "istio-system leases/pilotfish-leader",
		"istio-system configmaps/pilotfish-distribution",
		" namespaces/istio-system", "istio-system serviceaccounts/default", "istio-system configmaps/kube-root-ca.crt",
	} {
		if strings.Contains(object, part) {
			return true
		}
	}
	return false
}

// injected are the pods of a namespace that have a sidecar and stay.
func (w *world) injected(t *testing.T, namespace string) []corev1.Pod {
	t.Helper()
	list, err := w.kube.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil || !hasProxy(&p) })
}

// everything is the name of each object in the cluster, but for what it makes by
// itself all the time.
func (w *world) everything(t *testing.T) map[string]bool {
	t.Helper()
	kinds, err := w.kube.Discovery().ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, group := range kinds {
		version, err := schema.ParseGroupVersion(group.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range group.APIResources {
			if !slices.Contains(k.Verbs, "list") || slices.Contains([]string{"events", "endpointslices", "apiservices"}, k.Name) {
				continue
			}
			list, err := w.objects.Resource(version.WithResource(k.Name)).List(t.Context(), metav1.ListOptions{})
			if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
				continue // a kind that goes
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range list.Items {
				if o.GetNamespace() == corev1.NamespaceNodeLease {
					continue
				}
				out[strings.Join([]string{version.Group, o.GetNamespace(), k.Name + "/" + o.GetName()}, " ")] = true
			}
		}
	}
	return out
}
