package install

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

// installed is a cluster with the webhooks of revisions, as their charts
// install them.
func installed(t *testing.T, revisions ...string) (*Cluster, *bytes.Buffer) {
	t.Helper()
	s := kubetest.Shared(t)
	var hooks []string
	for _, r := range revisions {
		for name, u := range rendered(t, Options{Values: map[string]any{"revision": r}}) {
			if strings.HasSuffix(strings.Split(name, "/")[0], "WebhookConfiguration") {
				text, err := yaml.Marshal(u.Object)
				if err != nil {
					t.Fatal(err)
				}
				hooks = append(hooks, string(text))
			}
		}
	}
	client := s.Client(t)
	all := strings.Join(hooks, "---\n")
	client.Apply(t, all)
	t.Cleanup(func() { client.Delete(t, all) })
	said := &bytes.Buffer{}
	c, err := Connect(s.Kubeconfig(), "", said)
	if err != nil {
		t.Fatal(err)
	}
	return c, said
}

// leads is the Service that a pod or an object is sent to, by its labels and
// those of its namespace; every one if there are several.
func (c *Cluster) leads(t *testing.T, namespace, object labels.Set) string {
	t.Helper()
	var out []string
	match := func(s *metav1.LabelSelector, set labels.Set) bool {
		selector, err := metav1.LabelSelectorAsSelector(s)
		if err != nil {
			t.Fatal(err)
		}
		return selector.Matches(set)
	}
	hooks := c.kube.AdmissionregistrationV1()
	injecting, err := hooks.MutatingWebhookConfigurations().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range injecting.Items {
		for _, h := range m.Webhooks {
			if match(h.NamespaceSelector, namespace) && match(h.ObjectSelector, object) {
				out = append(out, "inject "+h.ClientConfig.Service.Name)
			}
		}
	}
	validating, err := hooks.ValidatingWebhookConfigurations().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range validating.Items {
		for _, h := range v.Webhooks {
			if match(h.ObjectSelector, object) {
				out = append(out, "validate "+h.ClientConfig.Service.Name)
			}
		}
	}
	return strings.Join(out, ", ")
}

// A tag leads pods and objects to one revision, and to another when it is set
// again.
func TestTags(t *testing.T) {
	c, said := installed(t, "old", "new")
	ctx := t.Context()
	prod := labels.Set{"istio.io/rev": "prod"}
	for _, revision := range []string{"old", "new"} {
		if err := c.SetTag(ctx, "prod", revision); err != nil {
			t.Fatal(err)
		}
		service := "istiod-" + revision
		if got, want := c.leads(t, prod, nil), "inject "+service; got != want {
			t.Errorf("a pod of a namespace with the tag: %s, want %s", got, want)
		}
		if got, want := c.leads(t, nil, prod), "inject "+service+", validate "+service; got != want {
			t.Errorf("an object with the tag: %s, want %s", got, want)
		}
		if got := c.leads(t, prod, labels.Set{"sidecar.istio.io/inject": "false"}); got != "" {
			t.Errorf("a pod that declines: %s", got)
		}
	}
	if got, want := c.leads(t, labels.Set{"istio.io/rev": "old"}, nil), "inject istiod-old"; got != want {
		t.Errorf("a pod of the revision itself: %s, want %s", got, want)
	}
	tags, err := c.Tags(ctx)
	if err != nil || fmt.Sprint(tags) != "[{prod new true []}]" {
		t.Errorf("tags %v (%v)", tags, err)
	}

	// Nobody pulls the revision away from under it.
	if err := c.Uninstall(ctx, Removal{Revision: "new"}); err == nil || !strings.Contains(err.Error(), `tags lead to revision "new": prod`) {
		t.Errorf("uninstall of a tagged revision: %v", err)
	}
	if err := c.RemoveTag(ctx, "prod", false); err != nil {
		t.Fatal(err)
	}
	if got := c.leads(t, prod, prod); got != "" {
		t.Errorf("after the tag's end: %s", got)
	}
	if !strings.Contains(said.String(), "✔ tag prod leads to revision new") {
		t.Errorf("said %q", said)
	}
	for name, f := range map[string]func() error{
		`there is no tag "prod"`:                        func() error { return c.RemoveTag(ctx, "prod", false) },
		`revision "none" is not installed`:              func() error { return c.SetTag(ctx, "prod", "none") },
		`there is a revision "old": a tag of that name`: func() error { return c.SetTag(ctx, "old", "new") },
		`tag "Not_A_Label"`:                             func() error { return c.SetTag(ctx, "Not_A_Label", "new") },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %s", err, name)
		}
	}
}

// Tag default is what namespaces and objects without a revision get.
func TestTagDefault(t *testing.T) {
	c, _ := installed(t, "only")
	if err := c.SetTag(t.Context(), "default", "only"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.RemoveTag(context.Background(), "default", true); err != nil {
			t.Error(err)
		}
	})
	if got := c.leads(t, labels.Set{"istio-injection": "enabled"}, nil); got != "inject istiod-only, validate istiod-only" {
		t.Errorf("a namespace with istio-injection=enabled: %s", got)
	}
	if got := c.leads(t, nil, nil); got != "validate istiod-only" {
		t.Errorf("an object without labels: %s", got)
	}
}

// What generate prints is what set writes.
func TestGenerateTag(t *testing.T) {
	c, _ := installed(t, "old")
	text, err := c.GenerateTag(t.Context(), "prod", "old")
	if err != nil {
		t.Fatal(err)
	}
	var m admissionv1.MutatingWebhookConfiguration
	if err := yaml.UnmarshalStrict([]byte(strings.Split(text, "---\n")[0]), &m); err != nil {
		t.Fatal(err)
	}
	if m.Name != "istio-revision-tag-prod" || m.Labels["istio.io/rev"] != "old" || m.Kind != "MutatingWebhookConfiguration" {
		t.Errorf("generated %s", text)
	}
	if !strings.Contains(text, "prod.tag.validation.istio.io") {
		t.Errorf("no validation: %s", text)
	}
	if tags, err := c.Tags(t.Context()); err != nil || len(tags) > 0 {
		t.Errorf("generate wrote %v (%v)", tags, err)
	}
}
