package install

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/storage/driver"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What stays unless everything is to go: the objects of users and the root of
// their trust.
const (
	crdSelector  = "release=istio,app=istio-pilot"
	rootSecret   = "istio-ca-secret"
	bundleConfig = "istio-ca-root-cert"
	leaderLease  = "pilotfish-leader"
)

// Uninstall removes the gateway and a revision's control plane. With purge it
// also removes what that leaves: Istio's CRDs and with them every object of
// the mesh's configuration, the signing key, trust bundles and tags.
func (c *Cluster) Uninstall(ctx context.Context, revision string, purge bool) error {
	names := []string{releaseName(revision)}
	if revision == "" {
		names = []string{gateway, controlPlane}
	}
	for _, name := range names {
		if err := c.remove(name); err != nil {
			return err
		}
	}
	if !purge {
		c.say("Istio's CRDs with the objects of users, and the signing key, stay; --purge removes them too.")
		return c.injectedPods(ctx)
	}
	return errors.Join(c.purge(ctx), c.injectedPods(ctx))
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
	err := c.crds.ApiextensionsV1().CustomResourceDefinitions().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: crdSelector})
	if err != nil {
		return fmt.Errorf("remove CRDs: %w", err)
	}
	err = c.kube.AdmissionregistrationV1().MutatingWebhookConfigurations().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: tagLabel})
	if err != nil {
		return fmt.Errorf("remove tags: %w", err)
	}
	namespaces, err := c.kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, ns := range namespaces.Items {
		if err := ignoreGone(c.kube.CoreV1().ConfigMaps(ns.Name).Delete(ctx, bundleConfig, metav1.DeleteOptions{})); err != nil {
			return err
		}
	}
	if err := ignoreGone(c.kube.CoreV1().Secrets(Namespace).Delete(ctx, rootSecret, metav1.DeleteOptions{})); err != nil {
		return err
	}
	if err := ignoreGone(c.kube.CoordinationV1().Leases(Namespace).Delete(ctx, leaderLease, metav1.DeleteOptions{})); err != nil {
		return err
	}
	c.say("✔ CRDs, tags, trust bundles and the signing key removed")
	return nil
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
