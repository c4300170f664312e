package serve_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	admission "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
	"github.com/pilotfish-mesh/pilotfish/serve"
)

// hooksAt are webhook configurations as a chart installs them, but for the
// address: tests have no Service that leads to the control plane.
func hooksAt(address string) string {
	// The control plane's certificate is for names.
	return strings.NewReplacer("ADDRESS", strings.Replace(address, "127.0.0.1", "localhost", 1)).Replace(`
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: istio-sidecar-injector, labels: {istio.io/rev: default}}
webhooks:
- name: namespace.sidecar-injector.istio.io
  clientConfig: {url: "https://ADDRESS/inject"}
  rules: [{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods]}]
  namespaceSelector: {matchLabels: {istio-injection: enabled}}
  failurePolicy: Fail
  sideEffects: None
  admissionReviewVersions: [v1]
- name: of.somebody.else
  clientConfig: {url: "https://127.0.0.1:1/"}
  rules: [{operations: [CREATE], apiGroups: [none.example.com], apiVersions: [v1], resources: [none]}]
  sideEffects: None
  admissionReviewVersions: [v1]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: istio-validator-istio-system, labels: {istio.io/rev: default}}
webhooks:
- name: rev.validation.istio.io
  clientConfig: {url: "https://ADDRESS/validate"}
  rules: [{operations: [CREATE, UPDATE, DELETE], apiGroups: [networking.istio.io, security.istio.io], apiVersions: ["*"], resources: ["*"]}]
  objectSelector: {matchExpressions: [{key: istio.io/rev, operator: In, values: [default]}]}
  failurePolicy: Ignore
  sideEffects: None
  admissionReviewVersions: [v1]
- name: validation.istio.io
  clientConfig: {url: "https://ADDRESS/validate"}
  rules: [{operations: [CREATE, UPDATE, DELETE], apiGroups: [networking.istio.io, security.istio.io], apiVersions: ["*"], resources: ["*", "*/status"]}]
  objectSelector: {matchExpressions: [{key: istio.io/rev, operator: DoesNotExist}]}
  failurePolicy: Ignore
  sideEffects: None
  admissionReviewVersions: [v1]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: of-another-revision, labels: {istio.io/rev: canary}}
webhooks:
- name: rev.validation.istio.io
  clientConfig: {url: "https://ADDRESS/validate"}
  rules: [{operations: [CREATE], apiGroups: [networking.istio.io], apiVersions: ["*"], resources: ["*"]}]
  objectSelector: {matchExpressions: [{key: istio.io/rev, operator: In, values: [canary]}]}
  failurePolicy: Ignore
  sideEffects: None
  admissionReviewVersions: [v1]
`)
}

// warnings collects what the API server warns of.
type warnings struct{ texts []string }

func (w *warnings) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	w.texts = append(w.texts, text)
}

// admitted is a cluster whose API server asks a replica.
type admitted struct {
	*replica
	objects dynamic.Interface
	told    *warnings
}

// freeAddress is an address that webhook configurations can name before
// anybody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func newAdmitted(t *testing.T) *admitted {
	t.Helper()
	s := kubetest.Shared(t)
	client := s.Client(t)
	client.InstallCRDs(t)
	address := freeAddress(t)
	client.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system}")
	client.Apply(t, hooksAt(address))
	t.Cleanup(func() { client.Delete(t, hooksAt(address)) })
	a := &admitted{told: &warnings{}}
	cfg := rest.CopyConfig(s.Config())
	cfg.WarningHandlerWithContext = a.told
	http, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(http.CloseIdleConnections)
	if a.objects, err = dynamic.NewForConfigAndClient(cfg, http); err != nil {
		t.Fatal(err)
	}
	a.replica = startReplica(t, s, func(o *serve.Options) { o.WebhookAddress = address }).ready()
	return a
}

func (a *admitted) validating(t *testing.T, name string) *admission.ValidatingWebhookConfiguration {
	t.Helper()
	c, err := a.kube.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// failsClosed waits until the leader has seen validation work.
func (a *admitted) failsClosed(t *testing.T) *admission.ValidatingWebhookConfiguration {
	t.Helper()
	var c *admission.ValidatingWebhookConfiguration
	envoytest.Eventually(t, 60*time.Second, func() string {
		c = a.validating(t, "istio-validator-istio-system")
		for _, h := range c.Webhooks {
			if *h.FailurePolicy != admission.Fail || len(h.ClientConfig.CABundle) == 0 {
				return fmt.Sprintf("%s: failurePolicy %s, %d bytes of caBundle", h.Name, *h.FailurePolicy, len(h.ClientConfig.CABundle))
			}
		}
		return ""
	})
	return c
}

func (a *admitted) create(t *testing.T, text string) error {
	t.Helper()
	a.told.texts = nil
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	plural := map[string]string{"VirtualService": "virtualservices", "Gateway": "gateways", "DestinationRule": "destinationrules"}[o.GetKind()]
	r := schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: plural}
	_, err := a.objects.Resource(r).Namespace("default").Create(t.Context(), o, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// The leader writes its certificate authority into its own webhooks, closes
// validation when it is proven to work, and touches nothing else.
func TestWebhooksOfACluster(t *testing.T) {
	a := newAdmitted(t)
	c := a.failsClosed(t)
	injection, err := a.kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), "istio-sidecar-injector", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if string(injection.Webhooks[0].ClientConfig.CABundle) != string(c.Webhooks[0].ClientConfig.CABundle) || len(injection.Webhooks[1].ClientConfig.CABundle) > 0 {
		t.Error("injection has another caBundle, or somebody else's webhook has one")
	}
	// One write of the caBundle, one of failurePolicy, each of both webhooks.
	if c.Generation != 3 || injection.Generation != 2 {
		t.Errorf("generations %d and %d, want 3 and 2", c.Generation, injection.Generation)
	}
	if other := a.validating(t, "of-another-revision"); other.Generation != 1 {
		t.Errorf("another revision's configuration was written: %v", other)
	}
	t.Run("invalid", func(t *testing.T) { a.refuses(t) })
	t.Run("without effect", func(t *testing.T) { a.warns(t) })
	t.Run("of another revision", func(t *testing.T) {
		if err := a.create(t, strings.Replace(noRoute, "LABELS", "istio.io/rev: canary", 1)); err != nil {
			t.Error(err)
		}
	})
	t.Run("there before", func(t *testing.T) { a.changesWhatWasThere(t) })
	t.Run("deleted", func(t *testing.T) { a.tellsWhatIsGone(t) })
}

// tellsWhatIsGone: nobody would notice that pods get no sidecar any more.
func (a *admitted) tellsWhatIsGone(t *testing.T) {
	api := a.kube.AdmissionregistrationV1()
	if err := api.MutatingWebhookConfigurations().Delete(t.Context(), "istio-sidecar-injector", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := api.ValidatingWebhookConfigurations().Delete(t.Context(), "istio-validator-istio-system", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	a.says("webhook configuration was deleted: new pods that it chose get no sidecar; pilotfish install makes it again")
	a.says("webhook configuration was deleted: wrong objects that it chose are let in; pilotfish install makes it again")
}

const noRoute = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bad, labels: {LABELS}}
spec: {hosts: [a.example.com], http: [{route: [{destination: {host: a.example.com}, weight: -1}]}]}
`

func (a *admitted) refuses(t *testing.T) {
	for _, labels := range []string{"", "istio.io/rev: default"} {
		err := a.create(t, strings.Replace(noRoute, "LABELS", labels, 1))
		want := "VirtualService default/bad is not valid:\n* spec.http[0].route[0].weight is -1; want 0 or more"
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", labels, err, want)
		}
	}
}

func (a *admitted) warns(t *testing.T) {
	err := a.create(t, `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: early}
spec: {hosts: [early.example.com], http: [{route: [{destination: {host: nowhere}}]}]}
`)
	if err != nil {
		t.Error(err)
	}
	if all := strings.Join(a.told.texts, "\n"); !strings.Contains(all, "spec.http[0].route[0].destination.host") || !strings.Contains(all, "nowhere") {
		t.Errorf("warned of %q", all)
	}
}

// changesWhatWasThere: an object that was invalid before the webhook can
// change its labels, and go; it cannot become another invalid object.
func (a *admitted) changesWhatWasThere(t *testing.T) {
	r := a.objects.Resource(schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "gateways"}).Namespace("default")
	o := &unstructured.Unstructured{}
	text := "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: old, labels: {istio.io/rev: none}}, spec: {selector: {a: b}}}"
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	o, err := r.Create(t.Context(), o, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o.SetLabels(nil) // now it is ours
	if o, err = r.Update(t.Context(), o, metav1.UpdateOptions{}); err != nil {
		t.Fatalf("new labels: %v", err)
	}
	if err := unstructured.SetNestedField(o.Object, "c", "spec", "selector", "a"); err != nil {
		t.Fatal(err)
	}
	if _, err = r.Update(t.Context(), o, metav1.UpdateOptions{}); err == nil || !strings.Contains(err.Error(), "spec.servers is empty; want at least one server") {
		t.Errorf("another spec: %v", err)
	}
	if err := r.Delete(t.Context(), "old", metav1.DeleteOptions{}); err != nil {
		t.Errorf("the end: %v", err)
	}
}

// Validation that nobody reaches never fails closed.
func TestValidationUnproven(t *testing.T) {
	s := kubetest.Shared(t)
	client := s.Client(t)
	client.InstallCRDs(t)
	hooks := hooksAt(freeAddress(t)) // where nobody listens
	client.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system}")
	client.Apply(t, hooks)
	t.Cleanup(func() { client.Delete(t, hooks) })
	a := &admitted{replica: startReplica(t, s, func(o *serve.Options) { o.WebhookAddress = freeAddress(t) }).ready()}
	envoytest.Eventually(t, 60*time.Second, func() string {
		if len(a.validating(t, "istio-validator-istio-system").Webhooks[0].ClientConfig.CABundle) == 0 {
			return "no caBundle yet"
		}
		return ""
	})
	// The probe has been tried when the log says so.
	envoytest.Eventually(t, 60*time.Second, func() string {
		for _, l := range a.logs.All() {
			if l.Message == "webhook configurations are not settled" && strings.Contains(fmt.Sprint(l.ContextMap()["error"]), "an invalid object was accepted") {
				return ""
			}
		}
		return "not tried"
	})
	for _, h := range a.validating(t, "istio-validator-istio-system").Webhooks {
		if *h.FailurePolicy != admission.Ignore {
			t.Errorf("%s fails closed", h.Name)
		}
	}
}
