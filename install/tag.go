package install

import (
	"context"
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// A tag is a name for a revision that namespaces and objects are labelled with
// in its place, so that moving them to another revision is one write: a
// MutatingWebhookConfiguration and a ValidatingWebhookConfiguration that lead to
// the revision's Service. Label istio.io/rev of theirs makes the revision's
// leader keep their trust right.
const (
	tagLabel      = "istio.io/tag"
	revisionLabel = "istio.io/rev"
	tagPrefix     = "istio-revision-tag-"
	defaultTag    = "default" // also that of namespaces with istio-injection=enabled
)

// Tag is a tag and where it leads.
type Tag struct {
	Name       string   `json:"name"`
	Revision   string   `json:"revision"`
	Installed  bool     `json:"installed"`  // the revision
	Namespaces []string `json:"namespaces"` // that are labelled with it
}

// SetTag makes a tag lead to a revision.
func (c *Cluster) SetTag(ctx context.Context, name, revision string) error {
	injecting, validating, err := c.tagged(ctx, name, revision)
	if err != nil {
		return err
	}
	hooks := c.kube.AdmissionregistrationV1()
	if have, err := hooks.MutatingWebhookConfigurations().Get(ctx, injecting.Name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
		_, err = hooks.MutatingWebhookConfigurations().Create(ctx, injecting, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("tag %s: %w", name, err)
		}
	} else if err != nil {
		return fmt.Errorf("tag %s: %w", name, err)
	} else {
		injecting.ResourceVersion = have.ResourceVersion
		if _, err := hooks.MutatingWebhookConfigurations().Update(ctx, injecting, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("tag %s: %w", name, err)
		}
	}
	if err := c.setValidation(ctx, injecting.Name, validating); err != nil {
		return fmt.Errorf("validation of tag %s: %w", name, err)
	}
	c.say("✔ tag %s leads to revision %s", name, revision)
	return nil
}

// setValidation writes a tag's validation, or removes it where its revision has
// none.
func (c *Cluster) setValidation(ctx context.Context, name string, want *admissionv1.ValidatingWebhookConfiguration) error {
	hooks := c.kube.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	have, err := hooks.Get(ctx, name, metav1.GetOptions{})
	switch gone := apierrors.IsNotFound(err); {
	case err != nil && !gone:
		return err
	case want == nil && gone:
		return nil
	case want == nil:
		return hooks.Delete(ctx, name, metav1.DeleteOptions{})
	case gone:
		_, err = hooks.Create(ctx, want, metav1.CreateOptions{})
		return err
	}
	want.ResourceVersion = have.ResourceVersion
	_, err = hooks.Update(ctx, want, metav1.UpdateOptions{})
	return err
}

// GenerateTag is what SetTag would write, as YAML.
func (c *Cluster) GenerateTag(ctx context.Context, name, revision string) (string, error) {
	injecting, validating, err := c.tagged(ctx, name, revision)
	if err != nil {
		return "", err
	}
	injecting.TypeMeta = metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "MutatingWebhookConfiguration"}
	out, err := yaml.Marshal(injecting)
	if err != nil || validating == nil {
		return string(out), err
	}
	validating.TypeMeta = metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "ValidatingWebhookConfiguration"}
	more, err := yaml.Marshal(validating)
	return string(out) + "---\n" + string(more), err
}

// tagged are a tag's configurations, made from those of its revision; that of
// validation is nil if the revision has none.
func (c *Cluster) tagged(ctx context.Context, name, revision string) (*admissionv1.MutatingWebhookConfiguration, *admissionv1.ValidatingWebhookConfiguration, error) {
	if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
		return nil, nil, fmt.Errorf("tag %q: want at most %d lower-case letters, digits and hyphens, with no hyphen at either end", name, validation.DNS1123LabelMaxLength)
	}
	hooks, selector := c.kube.AdmissionregistrationV1(), metav1.ListOptions{LabelSelector: revisionLabel + "=" + revision + ",!" + tagLabel}
	injecting, err := hooks.MutatingWebhookConfigurations().List(ctx, selector)
	if err != nil {
		return nil, nil, err
	}
	if len(injecting.Items) == 0 || len(injecting.Items[0].Webhooks) == 0 {
		return nil, nil, fmt.Errorf("revision %q is not installed: pilotfish install --revision %s", revision, revision)
	}
	if other := releaseInWay(ctx, c, name, revision); other != nil {
		return nil, nil, other
	}
	validating, err := hooks.ValidatingWebhookConfigurations().List(ctx, selector)
	if err != nil {
		return nil, nil, err
	}
	out := injectionOf(name, revision, injecting.Items[0].Webhooks[0])
	if len(validating.Items) == 0 || len(validating.Items[0].Webhooks) == 0 {
		return out, nil, nil
	}
	return out, validationOf(name, revision, validating.Items[0].Webhooks[0]), nil
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

// validationOf is a tag's validation, made from a webhook of its revision.
// Failing closed is for the revision's leader to say, once it has seen it work.
func validationOf(name, revision string, from admissionv1.ValidatingWebhook) *admissionv1.ValidatingWebhookConfiguration {
	ignore := admissionv1.Ignore
	hook := func(prefix string, selector metav1.LabelSelectorRequirement) admissionv1.ValidatingWebhook {
		h := *from.DeepCopy()
		h.Name, h.FailurePolicy = prefix+".validation.istio.io", &ignore
		h.ObjectSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{selector}}
		return h
	}
	out := &admissionv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: tagPrefix + name, Labels: tagLabels(name, revision)},
		Webhooks: []admissionv1.ValidatingWebhook{
			hook(name+".tag", metav1.LabelSelectorRequirement{Key: revisionLabel, Operator: metav1.LabelSelectorOpIn, Values: []string{name}}),
		},
	}
	if name == defaultTag { // and what no revision is named for
		out.Webhooks = append(out.Webhooks, hook("unlabelled.tag", metav1.LabelSelectorRequirement{Key: revisionLabel, Operator: metav1.LabelSelectorOpDoesNotExist}))
	}
	return out
}

func tagLabels(name, revision string) map[string]string {
	return map[string]string{tagLabel: name, revisionLabel: revision, "app": "sidecar-injector"}
}

// injectionOf is a tag's injection, made from a webhook of its revision.
func injectionOf(name, revision string, from admissionv1.MutatingWebhook) *admissionv1.MutatingWebhookConfiguration {
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
		ObjectMeta: metav1.ObjectMeta{Name: tagPrefix + name, Labels: tagLabels(name, revision)},
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
	configurations := c.kube.AdmissionregistrationV1().MutatingWebhookConfigurations()
	hooks, err := configurations.List(ctx, metav1.ListOptions{LabelSelector: tagLabel})
	if err != nil {
		return nil, err
	}
	revisions, err := configurations.List(ctx, metav1.ListOptions{LabelSelector: revisionLabel + ",!" + tagLabel})
	if err != nil {
		return nil, err
	}
	installed := map[string]bool{}
	for _, h := range revisions.Items {
		installed[h.Labels[revisionLabel]] = true
	}
	var out []Tag
	for _, h := range hooks.Items {
		revision := h.Labels[revisionLabel]
		t := Tag{Name: h.Labels[tagLabel], Revision: revision, Installed: installed[revision], Namespaces: []string{}}
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
		return fmt.Errorf("namespaces use tag %q: %s; --force removes it nevertheless", name, strings.Join(n, ", "))
	}
	if err := c.kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(ctx, tagPrefix+name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	if err := c.setValidation(ctx, tagPrefix+name, nil); err != nil {
		return err
	}
	c.say("✔ tag %s removed", name)
	return nil
}
