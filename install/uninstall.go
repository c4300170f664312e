package install

import (
	"cmp"
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
	"istio.io/api/label"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// Removal is what Uninstall is to remove.
type Removal struct {
	Revision string // that control plane alone; empty for the gateway and the default one
	Force    bool   // also a revision that a tag leads to
	// Purge removes, instead of a revision, the gateway, the control planes of
	// all revisions and what they leave: Istio's CRDs and with them every object
	// of the mesh's configuration, the signing key, trust bundles and tags.
	Purge bool
	// Timeout bounds how long Purge waits for the end of users' objects.
	Timeout time.Duration
}

// Uninstall removes a control plane. A revision that is named has to be there.
func (c *Cluster) Uninstall(ctx context.Context, r Removal) error {
	if r.Purge {
		return errors.Join(c.purge(ctx, r.Timeout), c.injectedPods(ctx, ""))
	}
	if !r.Force {
		if err := c.refuseTagged(ctx, r.Revision); err != nil {
			return err
		}
	}
	var err error
	if r.Revision == "" {
		err = c.removeAll(gateway, controlPlane)
	} else {
		err = c.removeRevision(r.Revision)
	}
	if err != nil {
		return err
	}
	return errors.Join(c.removeLease(ctx, leaderLease+"-"+cmp.Or(r.Revision, defaultTag)), c.tellLeft(ctx), c.injectedPods(ctx, r.Revision))
}

// removeLease removes one that its holder could not give back: the right to do
// so went with the release.
func (c *Cluster) removeLease(ctx context.Context, name string) error {
	return ignoreGone(c.kube.CoordinationV1().Leases(Namespace).Delete(ctx, name, metav1.DeleteOptions{}))
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
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

func (c *Cluster) removeRevision(revision string) error {
	there, err := c.remove(releaseName(revision))
	if err == nil && !there {
		return fmt.Errorf("revision %q is not installed: there is no release %s", revision, releaseName(revision))
	}
	return err
}

// removeAll removes releases, and says so of those that are not there.
func (c *Cluster) removeAll(names ...string) error {
	for _, name := range names {
		there, err := c.remove(name)
		if err != nil {
			return err
		}
		if !there {
			c.say("– release %s is not there", name)
		}
	}
	return nil
}

// remove removes a release, if it is there.
func (c *Cluster) remove(name string) (there bool, err error) {
	cfg, err := c.helm()
	if err != nil {
		return false, err
	}
	if _, err := cfg.Releases.Last(name); errors.Is(err, driver.ErrReleaseNotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	u := action.NewUninstall(cfg)
	u.WaitStrategy = kube.HookOnlyStrategy
	u.DeletionPropagation = "background"
	if _, err := u.Run(name); err != nil {
		return true, fmt.Errorf("uninstall %s: %w", name, err)
	}
	c.say("✔ release %s removed", name)
	return true, nil
}

func (c *Cluster) purge(ctx context.Context, timeout time.Duration) error {
	revisions, err := c.controlPlanes()
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(revisions, func(name string) bool { return name == controlPlane })
	if err := c.removeAll(append([]string{gateway, controlPlane}, others...)...); err != nil {
		return err
	}
	if err := c.purgeKinds(ctx, timeout); err != nil {
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
		if err := c.removeLease(ctx, l.Name); err != nil {
			return err
		}
	}
	c.say("✔ CRDs, tags, trust bundles and the signing key are gone; namespace %s stays", Namespace)
	return nil
}

// injectedPods tells of pods that keep a sidecar which nobody configures: one of
// a revision, or any if none is named.
func (c *Cluster) injectedPods(ctx context.Context, revision string) error {
	pods, err := c.kube.CoreV1().Pods("").List(ctx, metav1.ListOptions{LabelSelector: "security.istio.io/tlsMode"})
	if err != nil {
		return err
	}
	var names []string
	for _, p := range pods.Items {
		if p.DeletionTimestamp == nil && (revision == "" || p.Annotations[label.IoIstioRev.Name] == revision) {
			names = append(names, p.Namespace+"/"+p.Name)
		}
	}
	of, todo := "", "remove the label istio-injection from their namespaces"
	if revision != "" {
		of, todo = " of revision "+revision, "move their namespaces to another revision"
	}
	if n := len(names); n > 0 {
		c.say("! %d pods still have a sidecar%s, such as %s: %s and restart them", n, of, strings.Join(names[:min(n, 3)], ", "), todo)
	}
	return nil
}
