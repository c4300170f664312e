package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"
	release "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage/driver"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// What stays unless everything is to go: the objects of users and the root of
// their trust.
const (
	crdSelector  = "release=istio,app=istio-pilot"
	rootSecret   = "istio-ca-secret"
	bundleConfig = "istio-ca-root-cert"
	// revokedConfig is there where Secret cacerts revokes certificates.
	revokedConfig = "istio-ca-crl"
	reports       = "pilotfish-distribution" // what replicas tell each other
	leaderLease   = "pilotfish-leader"       // and one a revision, whose names begin with it
)

// Uninstall removes a revision's control plane, or, without one, the gateway and
// the default one's. A revision that a tag leads to is not removed, unless force
// says so. With purge it also removes what that leaves: Istio's CRDs and with
// them every object of the mesh's configuration, the signing key, trust bundles
// and tags, and, without a revision, the control planes of all others.
func (c *Cluster) Uninstall(ctx context.Context, revision string, purge, force bool) error {
	names := []string{releaseName(revision)}
	if revision == "" {
		names = []string{gateway, controlPlane}
	}
	if !purge && !force {
		if err := c.refuseTagged(ctx, revision); err != nil {
			return err
		}
	}
	if purge && revision == "" {
		all, err := c.controlPlanes()
		if err != nil {
			return err
		}
		names = append(names, slices.DeleteFunc(all, func(name string) bool { return name == controlPlane })...)
	}
	for _, name := range names {
		if err := c.remove(name); err != nil {
			return err
		}
	}
	if !purge {
		return errors.Join(c.tellLeft(ctx), c.injectedPods(ctx))
	}
	return errors.Join(c.purge(ctx), c.injectedPods(ctx))
}

// tellLeft says what stays, unless a control plane does that needs it.
func (c *Cluster) tellLeft(ctx context.Context) error {
	running, err := c.controlPlanes()
	if err != nil || len(running) > 0 {
		return err
	}
	var left []string
	kinds, err := c.crds.ApiextensionsV1().CustomResourceDefinitions().List(ctx, metav1.ListOptions{LabelSelector: crdSelector})
	if err != nil {
		return err
	}
	if len(kinds.Items) > 0 {
		left = append(left, "Istio's CRDs with the objects of users")
	}
	_, err = c.kube.CoreV1().Secrets(Namespace).Get(ctx, rootSecret, metav1.GetOptions{})
	switch {
	case err == nil:
		left = append(left, "the signing key")
	case !apierrors.IsNotFound(err):
		return err
	}
	if len(left) > 0 {
		c.say("What stays, and goes with --purge: %s.", strings.Join(left, ", "))
	}
	return nil
}

// controlPlanes are the releases of control planes.
func (c *Cluster) controlPlanes() ([]string, error) {
	cfg, err := c.helm()
	if err != nil {
		return nil, err
	}
	list := action.NewList(cfg)
	list.All, list.StateMask = true, action.ListAll // one that failed has left something as well
	all, err := list.Run()
	if err != nil {
		return nil, fmt.Errorf("list releases: %w", err)
	}
	var names []string
	for _, one := range all {
		r, ok := one.(*release.Release)
		if ok && r.Chart != nil && r.Chart.Metadata != nil && r.Chart.Metadata.Name == controlPlane {
			names = append(names, r.Name)
		}
	}
	return names, nil
}

// refuseTagged protects the pods of namespaces that name a revision by a tag.
func (c *Cluster) refuseTagged(ctx context.Context, revision string) error {
	if revision == "" {
		revision = defaultTag
	}
	tags, err := c.Tags(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, t := range tags {
		if t.Revision == revision {
			names = append(names, t.Name)
		}
	}
	if len(names) > 0 {
		return fmt.Errorf("tags lead to revision %q: %s; set them to another revision or remove them first, or --force", revision, strings.Join(names, ", "))
	}
	return nil
}

func (c *Cluster) remove(name string) error {
	cfg, err := c.helm()
	if err != nil {
		return err
	}
	if _, err := cfg.Releases.Last(name); errors.Is(err, driver.ErrReleaseNotFound) {
		c.say("– release %s is not there", name)
		return nil
	} else if err != nil {
		return err
	}
	u := action.NewUninstall(cfg)
	u.WaitStrategy = kube.HookOnlyStrategy
	u.DeletionPropagation = "background"
	if _, err := u.Run(name); err != nil {
		return fmt.Errorf("uninstall %s: %w", name, err)
	}
	c.say("✔ release %s removed", name)
	return nil
}

func (c *Cluster) purge(ctx context.Context) error {
	ignoreGone := func(err error) error {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
	if err := c.purgeKinds(ctx); err != nil {
		return fmt.Errorf("remove CRDs: %w", err)
	}
	hooks, tags := c.kube.AdmissionregistrationV1(), metav1.ListOptions{LabelSelector: tagLabel}
	if err := errors.Join(hooks.MutatingWebhookConfigurations().DeleteCollection(ctx, metav1.DeleteOptions{}, tags),
		hooks.ValidatingWebhookConfigurations().DeleteCollection(ctx, metav1.DeleteOptions{}, tags)); err != nil {
		return fmt.Errorf("remove tags: %w", err)
	}
	namespaces, err := c.kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, ns := range namespaces.Items {
		for _, name := range []string{bundleConfig, revokedConfig} {
			if err := ignoreGone(c.kube.CoreV1().ConfigMaps(ns.Name).Delete(ctx, name, metav1.DeleteOptions{})); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(ignoreGone(c.kube.CoreV1().Secrets(Namespace).Delete(ctx, rootSecret, metav1.DeleteOptions{})),
		ignoreGone(c.kube.CoreV1().ConfigMaps(Namespace).Delete(ctx, reports, metav1.DeleteOptions{}))); err != nil {
		return err
	}
	leases, err := c.kube.CoordinationV1().Leases(Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, l := range leases.Items {
		if l.Name != leaderLease && !strings.HasPrefix(l.Name, leaderLease+"-") {
			continue
		}
		if err := ignoreGone(c.kube.CoordinationV1().Leases(Namespace).Delete(ctx, l.Name, metav1.DeleteOptions{})); err != nil {
			return err
		}
	}
	c.say("✔ CRDs, tags, trust bundles and the signing key are gone; namespace %s stays", Namespace)
	return nil
}

// kindsEnd is how long purgeKinds waits for the end of users' objects.
const kindsEnd = 2 * time.Minute

// purgeKinds removes Istio's CRDs and waits until they are gone, and with them
// the objects of users. They are deleted one by one: only that makes the API
// server remove a kind's objects; after deletecollection they stay in etcd, and
// come back with the CRD.
func (c *Cluster) purgeKinds(ctx context.Context) error {
	kinds := c.crds.ApiextensionsV1().CustomResourceDefinitions()
	istio := metav1.ListOptions{LabelSelector: crdSelector}
	list, err := kinds.List(ctx, istio)
	if err != nil {
		return err
	}
	for _, k := range list.Items {
		if err := kinds.Delete(ctx, k.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	err = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, kindsEnd, true, func(ctx context.Context) (bool, error) {
		now, err := kinds.List(ctx, istio)
		if err != nil {
			return false, err
		}
		list = now
		return len(list.Items) == 0, nil
	})
	if wait.Interrupted(err) && ctx.Err() == nil {
		var left []string
		for _, k := range list.Items {
			left = append(left, k.Name)
		}
		return fmt.Errorf("after %v objects of %s are still there: they may have finalizers that nobody removes", kindsEnd, strings.Join(left, ", "))
	}
	return err
}

// injectedPods tells of pods that keep a sidecar which nobody configures.
func (c *Cluster) injectedPods(ctx context.Context) error {
	pods, err := c.kube.CoreV1().Pods("").List(ctx, metav1.ListOptions{LabelSelector: "security.istio.io/tlsMode"})
	if err != nil {
		return err
	}
	var names []string
	for _, p := range pods.Items {
		if p.DeletionTimestamp == nil {
			names = append(names, p.Namespace+"/"+p.Name)
		}
	}
	if n := len(names); n > 0 {
		c.say("! %d pods still have a sidecar, such as %s: remove the label istio-injection from their namespaces and restart them", n, strings.Join(names[:min(n, 3)], ", "))
	}
	return nil
}
