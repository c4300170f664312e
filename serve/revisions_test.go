package serve_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
	"github.com/pilotfish-mesh/pilotfish/serve"
)

// hooksOfRevision are what a revision's chart, and tag prod of it, install.
func hooksOfRevision(revision, address string) string {
	return strings.NewReplacer("REVISION", revision, "ADDRESS", strings.Replace(address, "127.0.0.1", "localhost", 1)).Replace(`
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: istio-sidecar-injector-REVISION, labels: {istio.io/rev: REVISION}}
webhooks:
- name: rev.namespace.sidecar-injector.istio.io
  clientConfig: {url: "https://ADDRESS/inject"}
  rules: [{operations: [CREATE], apiGroups: [none.example.com], apiVersions: [v1], resources: [none]}]
  sideEffects: None
  admissionReviewVersions: [v1]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: validator-REVISION, labels: {istio.io/rev: REVISION}}
webhooks:
- name: rev.validation.istio.io
  clientConfig: {url: "https://ADDRESS/validate"}
  rules: [{operations: [CREATE], apiGroups: [networking.istio.io], apiVersions: ["*"], resources: ["*"]}]
  objectSelector: {matchExpressions: [{key: istio.io/rev, operator: In, values: [REVISION]}]}
  failurePolicy: Ignore
  sideEffects: None
  admissionReviewVersions: [v1]
`)
}

func tagOfRevision(tag, revision, address string) string {
	return strings.NewReplacer("TAG", tag, "REVISION", revision, "ADDRESS", strings.Replace(address, "127.0.0.1", "localhost", 1)).Replace(`
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: istio-revision-tag-TAG, labels: {istio.io/tag: TAG, istio.io/rev: REVISION}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: istio-revision-tag-TAG, labels: {istio.io/tag: TAG, istio.io/rev: REVISION}}
webhooks:
- name: TAG.tag.validation.istio.io
  clientConfig: {url: "https://ADDRESS/validate"}
  rules: [{operations: [CREATE], apiGroups: [networking.istio.io], apiVersions: ["*"], resources: ["*"]}]
  objectSelector: {matchExpressions: [{key: istio.io/rev, operator: In, values: [TAG]}]}
  failurePolicy: Ignore
  sideEffects: None
  admissionReviewVersions: [v1]
`)
}

// Two revisions run side by side: each keeps its own webhooks right, the
// default one writes what both need, and the other does when it has gone.
func TestTwoRevisions(t *testing.T) {
	s := kubetest.Start(t)
	client := s.Client(t)
	client.InstallCRDs(t)
	addresses := map[string]string{"default": freeAddress(t), "canary": freeAddress(t)}
	client.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system}")
	for name, address := range addresses {
		client.Apply(t, hooksOfRevision(name, address))
	}
	client.Apply(t, tagOfRevision("prod", "canary", addresses["canary"]))
	start := func(revision string) *admitted {
		named := revision
		if revision == "default" {
			named = ""
		}
		r := startReplica(t, s, func(o *serve.Options) {
			o.WebhookAddress, o.Revision, o.Identity = addresses[revision], named, revision
		})
		objects, err := dynamic.NewForConfig(rest.CopyConfig(s.Config()))
		if err != nil {
			t.Fatal(err)
		}
		return &admitted{replica: r.ready(), objects: objects, told: &warnings{}}
	}
	canary := start("canary")
	holder := func(want string) {
		t.Helper()
		envoytest.Eventually(t, 90*time.Second, func() string {
			l, err := canary.kube.CoordinationV1().Leases("istio-system").Get(context.Background(), "pilotfish-leader", metav1.GetOptions{})
			if err != nil {
				return err.Error()
			}
			if l.Spec.HolderIdentity == nil || *l.Spec.HolderIdentity != want {
				return fmt.Sprintf("the Lease names %v, want %s", l.Spec.HolderIdentity, want)
			}
			return ""
		})
	}
	holder("canary") // alone
	one := start("default")
	holder("default") // it goes first
	for _, name := range []string{"validator-default", "validator-canary", "istio-revision-tag-prod"} {
		envoytest.Eventually(t, 60*time.Second, func() string {
			for _, h := range canary.validating(t, name).Webhooks {
				if len(h.ClientConfig.CABundle) == 0 || *h.FailurePolicy != "Fail" {
					return fmt.Sprintf("%s: %s, caBundle of %d bytes", name, *h.FailurePolicy, len(h.ClientConfig.CABundle))
				}
			}
			return ""
		})
	}
	for _, label := range []string{"canary", "default", "prod"} {
		err := canary.create(t, strings.Replace(noRoute, "LABELS", "istio.io/rev: "+label, 1))
		if err == nil || !strings.Contains(err.Error(), "weight is -1") {
			t.Errorf("an invalid object for %s: %v", label, err)
		}
	}
	if err := canary.create(t, strings.Replace(noRoute, "LABELS", "istio.io/rev: nobodys", 1)); err != nil {
		t.Errorf("an object of nobody's: %v", err)
	}
	one.stop()
	holder("canary")
	client.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: later}")
	canary.roots("later") // it writes for all now
}
