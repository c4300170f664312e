package install

import (
	"context"
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A tag is a name for a revision that namespaces are labelled with in its
// place, so that moving them to another revision is one write: a
// MutatingWebhookConfiguration that leads to the revision's Service. Label
// istio.io/rev of it makes the revision's leader keep its trust right.
const (
	tagLabel      = "istio.io/tag"
	revisionLabel = "istio.io/rev"
	defaultTag    = "default" // also that of namespaces with istio-injection=enabled
)

// Tag is a tag and where it leads.
type Tag struct {
	Name, Revision string
	Namespaces     []string // that are labelled with it
}

// SetTag makes a tag lead to a revision.
func (c *Cluster) SetTag(ctx context.Context, name, revision string) error {
	hooks := c.kube.AdmissionregistrationV1().MutatingWebhookConfigurations()
	of, err := hooks.List(ctx, metav1.ListOptions{LabelSelector: revisionLabel + "=" + revision + ",!" + tagLabel})
	if err != nil {
		return err
	}
	if len(of.Items) == 0 {
		return fmt.Errorf("revision %q is not installed: pilotfish install --revision %s", revision, revision)
	}
	if other := releaseInWay(ctx, c, name, revision); other != nil {
		return other
	}
	want := tagged(name, revision, of.Items[0].Webhooks[0])
	have, err := hooks.Get(ctx, want.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = hooks.Create(ctx, want, metav1.CreateOptions{})
	case err == nil:
		want.ResourceVersion = have.ResourceVersion
		_, err = hooks.Update(ctx, want, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("tag %s: %w", name, err)
	}
	c.say("✔ tag %s leads to revision %s", name, revision)
	return nil
}

// releaseInWay refuses a tag that has the name of an installed revision: pods
// would be sent to both.
func releaseInWay(ctx context.Context, c *Cluster, name, revision string) error {
	hooks, err := c.kube.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx,
		metav1.ListOptions{LabelSelector: revisionLabel + "=" + name + ",!" + tagLabel})
	if err != nil {
		return err
	}
	if len(hooks.Items) > 0 {
		return fmt.Errorf("there is a revision %q: a tag of that name cannot lead to %q; uninstall the revision first, or choose another name", name, revision)
	}
	return nil
}

// tagged is a tag's configuration, made from a webhook of its revision.
func tagged(name, revision string, from admissionv1.MutatingWebhook) *admissionv1.MutatingWebhookConfiguration {
	in := func(key string, values ...string) metav1.LabelSelectorRequirement {
		return metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpIn, Values: values}
	}
	without := func(key string) metav1.LabelSelectorRequirement {
		return metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpDoesNotExist}
	}
	wanted := metav1.LabelSelectorRequirement{Key: "sidecar.istio.io/inject", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"false"}}
	hook := func(kind string, namespace, object []metav1.LabelSelectorRequirement) admissionv1.MutatingWebhook {
		h := *from.DeepCopy()
		h.Name = kind + ".sidecar-injector.istio.io"
		h.NamespaceSelector = &metav1.LabelSelector{MatchExpressions: namespace}
		h.ObjectSelector = &metav1.LabelSelector{MatchExpressions: object}
		return h
	}
	type list = []metav1.LabelSelectorRequirement
	out := &admissionv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{
			Name:   "istio-revision-tag-" + name,
			Labels: map[string]string{tagLabel: name, revisionLabel: revision, "app": "sidecar-injector"},
		},
		Webhooks: []admissionv1.MutatingWebhook{
			hook("rev.namespace", list{in(revisionLabel, name), without("istio-injection")}, list{wanted}),
			hook("rev.object", list{without(revisionLabel), without("istio-injection")}, list{wanted, in(revisionLabel, name)}),
		},
	}
	if name == defaultTag {
		out.Webhooks = append(out.Webhooks,
			hook("namespace", list{in("istio-injection", "enabled")}, list{wanted}),
			hook("object", list{without(revisionLabel), without("istio-injection")}, list{in("sidecar.istio.io/inject", "true"), without(revisionLabel)}))
	}
	return out
}

// Tags lists the tags by name.
func (c *Cluster) Tags(ctx context.Context) ([]Tag, error) {
	hooks, err := c.kube.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{LabelSelector: tagLabel})
	if err != nil {
		return nil, err
	}
	var out []Tag
	for _, h := range hooks.Items {
		t := Tag{Name: h.Labels[tagLabel], Revision: h.Labels[revisionLabel]}
		selector := revisionLabel + "=" + t.Name
		if t.Name == defaultTag {
			selector = "istio-injection=enabled"
		}
		namespaces, err := c.kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return nil, err
		}
		for _, ns := range namespaces.Items {
			t.Namespaces = append(t.Namespaces, ns.Name)
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b Tag) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// RemoveTag removes a tag. Pods keep what they have; new pods of namespaces
// that are labelled with it get no sidecar.
func (c *Cluster) RemoveTag(ctx context.Context, name string, force bool) error {
	tags, err := c.Tags(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(tags, func(t Tag) bool { return t.Name == name })
	if i < 0 {
		return fmt.Errorf("there is no tag %q", name)
	}
	if n := tags[i].Namespaces; len(n) > 0 && !force {
		return fmt.Errorf("namespaces use tag %q: %v; --force removes it nevertheless", name, n)
	}
	err = c.kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(ctx, "istio-revision-tag-"+name, metav1.DeleteOptions{})
	if err != nil {
		return err
	}
	c.say("✔ tag %s removed", name)
	return nil
}
