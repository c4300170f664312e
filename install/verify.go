package install

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/pilotfish-mesh/pilotfish/manifests"
)

// Verify looks at an installation the way its users do: a pod is injected, a
// wrong object is refused, both without a trace. It says each verdict and
// returns an error if one is bad. For as long as settling all of them may be bad:
// right after an upgrade a leader is on its way, or an endpoint.
func (c *Cluster) Verify(ctx context.Context, revision string, settling time.Duration) error {
	bad := 0
	end := time.Now().Add(settling)
	for _, check := range []struct {
		name string
		f    func(context.Context, string) (string, error)
	}{
		{"CRDs", c.checkCRDs},
		{"control plane", c.checkDeployment},
		{"Service", c.checkService},
		{"leader", c.checkLeader},
		{"trust bundle", c.checkBundle},
		{"webhooks", c.checkWebhooks},
		{"injection", c.checkInjection},
		{"validation", c.checkValidation},
		{"gateway", c.checkGateway},
	} {
		said, err := c.settled(ctx, revision, end, check.f)
		if err != nil {
			bad++
			c.say("✘ %s: %v", check.name, err)
			continue
		}
		c.say("✔ %s: %s", check.name, said)
	}
	if bad > 0 {
		return fmt.Errorf("%d of the checks above failed; docs/operations.md says where to look", bad)
	}
	c.say("pilotfish works in this cluster.")
	return nil
}

// settled is the verdict of a check that may be bad until the end.
func (c *Cluster) settled(ctx context.Context, revision string, end time.Time, f func(context.Context, string) (string, error)) (string, error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		said, err := f(ctx, revision)
		if err == nil || !time.Now().Before(end) {
			return said, err
		}
		select {
		case <-ctx.Done():
			return said, err
		case <-tick.C:
		}
	}
}

// crdNames are those that this version brings.
func crdNames() ([]string, error) {
	d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests.IstioCRDs), 4096)
	var out []string
	for {
		var o metav1.PartialObjectMetadata
		if err := d.Decode(&o); err != nil {
			if len(out) == 0 {
				return nil, err
			}
			return out, nil
		}
		if o.Name != "" {
			out = append(out, o.Name)
		}
	}
}

func (c *Cluster) checkCRDs(ctx context.Context, _ string) (string, error) {
	names, err := crdNames()
	if err != nil {
		return "", err
	}
	have, err := c.crds.ApiextensionsV1().CustomResourceDefinitions().List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	established := map[string]bool{}
	for _, d := range have.Items {
		for _, cond := range d.Status.Conditions {
			if cond.Type == apiextensionsv1.Established && cond.Status == apiextensionsv1.ConditionTrue {
				established[d.Name] = true
			}
		}
	}
	var missing []string
	for _, n := range names {
		if !established[n] {
			missing = append(missing, n)
		}
	}
	switch len(missing) {
	case 0:
	case len(names):
		return "", fmt.Errorf("none of Istio's %d is there", len(names))
	default:
		return "", fmt.Errorf("%d of Istio's %d are missing:\n  %s", len(missing), len(names), strings.Join(missing, "\n  "))
	}
	return fmt.Sprintf("all %d of Istio's are there", len(names)), nil
}

func (c *Cluster) checkDeployment(ctx context.Context, revision string) (string, error) {
	d, err := c.kube.AppsV1().Deployments(Namespace).Get(ctx, deploymentName(revision), metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	if !rolledOut(d) {
		return "", fmt.Errorf("%s: %s%s", d.Name, progress(d), c.why(ctx, d))
	}
	return fmt.Sprintf("%s, %s", progress(d), d.Spec.Template.Spec.Containers[0].Image), nil
}

func (c *Cluster) checkService(ctx context.Context, revision string) (string, error) {
	name := deploymentName(revision)
	slices, err := c.kube.DiscoveryV1().EndpointSlices(Namespace).List(ctx,
		metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name})
	if err != nil {
		return "", err
	}
	n := 0
	for _, s := range slices.Items {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				n++
			}
		}
	}
	if n == 0 {
		return "", fmt.Errorf("%s.%s.svc has no endpoint", name, Namespace)
	}
	return fmt.Sprintf("%s.%s.svc has %s", name, Namespace, count(n, "endpoint")), nil
}

func (c *Cluster) checkLeader(ctx context.Context, revision string) (string, error) {
	if revision == "" {
		revision = defaultTag
	}
	var holders []string
	for _, name := range []string{leaderLease, leaderLease + "-" + revision} {
		l, err := c.kube.CoordinationV1().Leases(Namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if l.Spec.HolderIdentity == nil || *l.Spec.HolderIdentity == "" {
			return "", fmt.Errorf("nobody holds Lease %s: nothing is written to the API server", name)
		}
		holders = append(holders, *l.Spec.HolderIdentity)
	}
	return fmt.Sprintf("%s writes for all revisions, %s for %s", holders[0], holders[1], revision), nil
}

func (c *Cluster) checkBundle(ctx context.Context, _ string) (string, error) {
	m, err := c.kube.CoreV1().ConfigMaps(corev1.NamespaceDefault).Get(ctx, bundleConfig, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	n := strings.Count(m.Data["root-cert.pem"], "BEGIN CERTIFICATE")
	if n == 0 {
		return "", fmt.Errorf("ConfigMap default/%s has no certificate", bundleConfig)
	}
	return fmt.Sprintf("ConfigMap %s has %s", bundleConfig, count(n, "root")), nil
}

func (c *Cluster) checkWebhooks(ctx context.Context, revision string) (string, error) {
	if revision == "" {
		revision = "default"
	}
	selector := metav1.ListOptions{LabelSelector: revisionLabel + "=" + revision}
	mutating, err := c.kube.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, selector)
	if err != nil {
		return "", err
	}
	validating, err := c.kube.AdmissionregistrationV1().ValidatingWebhookConfigurations().List(ctx, selector)
	if err != nil {
		return "", err
	}
	var untrusted []string
	look := func(name string, config admissionv1.WebhookClientConfig) {
		if len(config.CABundle) == 0 && !slices.Contains(untrusted, name) {
			untrusted = append(untrusted, name)
		}
	}
	for _, m := range mutating.Items {
		for _, w := range m.Webhooks {
			look(m.Name, w.ClientConfig)
		}
	}
	for _, v := range validating.Items {
		for _, w := range v.Webhooks {
			look(v.Name, w.ClientConfig)
		}
	}
	if len(mutating.Items) == 0 {
		return "", fmt.Errorf("no MutatingWebhookConfiguration has label %s=%s", revisionLabel, revision)
	}
	if len(untrusted) > 0 {
		return "", fmt.Errorf("the leader has not given them a CA bundle: %s", strings.Join(untrusted, ", "))
	}
	return count(len(mutating.Items)+len(validating.Items), "configuration"), nil
}

func (c *Cluster) checkInjection(ctx context.Context, revision string) (string, error) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "verify-", Namespace: Namespace, Labels: map[string]string{"sidecar.istio.io/inject": "true"}},
		// Injection asks for tokens of an account, also where nothing fills in the default one.
		Spec: corev1.PodSpec{ServiceAccountName: "default", Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
	if revision != "" {
		pod.Labels = map[string]string{revisionLabel: revision}
	}
	got, err := c.kube.CoreV1().Pods(Namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return "", err
	}
	for _, one := range append(got.Spec.InitContainers, got.Spec.Containers...) {
		if one.Name == "istio-proxy" {
			return "a pod gets its sidecar, " + one.Image, nil
		}
	}
	return "", fmt.Errorf("a pod that asks for a sidecar gets none")
}

// checkValidation applies an object that is wrong, in a dry run. Its CRD has
// nothing against it, so that only the control plane can refuse it.
func (c *Cluster) checkValidation(ctx context.Context, revision string) (string, error) {
	hooks, err := c.kube.AdmissionregistrationV1().ValidatingWebhookConfigurations().List(ctx,
		metav1.ListOptions{LabelSelector: revisionLabel + "=" + cmp.Or(revision, defaultTag)})
	if err != nil {
		return "", err
	}
	if len(hooks.Items) == 0 {
		return "none is installed", nil
	}
	wrong := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
		"metadata": map[string]any{"generateName": "verify-", "namespace": Namespace},
		"spec": map[string]any{
			"hosts": []any{"verify.invalid"},
			"http": []any{map[string]any{
				"match": []any{map[string]any{"uri": map[string]any{"regex": "("}}},
				"route": []any{map[string]any{"destination": map[string]any{"host": "verify.invalid"}}},
			}},
		},
	}}
	if revision != "" {
		wrong.SetLabels(map[string]string{revisionLabel: revision})
	}
	resource := schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"}
	_, err = c.dynamic.Resource(resource).Namespace(Namespace).Create(ctx, wrong, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	switch {
	case err == nil:
		return "", fmt.Errorf("a VirtualService with a wrong regular expression is let in")
	case !strings.Contains(err.Error(), "validation.istio.io\" denied the request"):
		return "", err
	}
	return "a wrong object is refused", nil
}

func (c *Cluster) checkGateway(ctx context.Context, _ string) (string, error) {
	d, err := c.kube.AppsV1().Deployments(Namespace).Get(ctx, gateway, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "none is installed", nil
	}
	if err != nil {
		return "", err
	}
	if !rolledOut(d) {
		return "", fmt.Errorf("%s: %s%s", d.Name, progress(d), c.why(ctx, d))
	}
	return progress(d), nil
}

func count(n int, of string) string {
	if n != 1 {
		of += "s"
	}
	return fmt.Sprintf("%d %s", n, of)
}
