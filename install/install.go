package install

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/storage/driver"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Options say what is installed.
type Options struct {
	Version       string         // of the images, unless the values name a tag
	Values        map[string]any // of the control plane's chart
	GatewayValues map[string]any
	Gateway       bool // install istio-ingressgateway as well
	// SettingsFrom is a revision whose settings the values are laid over, as
	// SettingsOf reads them; empty for none.
	SettingsFrom string
	// Timeout bounds how long Install waits for pods; 0: it does not wait.
	Timeout time.Duration
}

// revision is what the values say.
func (o Options) revision() string {
	r, _ := o.Values["revision"].(string)
	return r
}

// oneRelease is a chart to install.
type oneRelease struct {
	name, chart string
	values      map[string]any
	deployment  string
}

func (o Options) releases() []oneRelease {
	out := []oneRelease{{releaseName(o.revision()), controlPlaneChart, o.Values, deploymentName(o.revision())}}
	if o.Gateway {
		name := gateway
		if n, ok := o.GatewayValues["name"].(string); ok {
			name = n
		}
		out = append(out, oneRelease{name, gatewayChart, o.GatewayValues, name})
	}
	return out
}

func deploymentName(revision string) string { return "istiod" + suffix(revision) }

// Install installs, or upgrades what is installed, and waits until it runs.
// An upgrade starts from the charts' values and o's, not from those of the
// last time.
func (c *Cluster) Install(ctx context.Context, o Options) error {
	if err := c.refuseOther(ctx, o.revision()); err != nil {
		return err
	}
	o, err := c.WithSettings(ctx, o)
	if err != nil {
		return err
	}
	_, err = c.kube.CoreV1().Namespaces().Create(ctx,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("namespace %s: %w", Namespace, err)
	}
	for _, r := range o.releases() {
		if err := c.apply(ctx, o, r); err != nil {
			return err
		}
		if o.Timeout > 0 {
			if err := c.await(ctx, r.deployment, o.Timeout); err != nil {
				return err
			}
		}
	}
	return nil
}

// refuseOther protects an istiod that is not pilotfish's: both would answer
// at the same Service.
func (c *Cluster) refuseOther(ctx context.Context, revision string) error {
	name := deploymentName(revision)
	d, err := c.kube.AppsV1().Deployments(Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if d.Labels["app.kubernetes.io/name"] != controlPlane {
		return fmt.Errorf("deployment %s/%s is another control plane's: install pilotfish beside it with --revision NAME, and move namespaces by their label istio.io/rev", Namespace, name)
	}
	return nil
}

// apply installs or upgrades one release.
func (c *Cluster) apply(ctx context.Context, o Options, r oneRelease) error {
	chart, err := load(r.chart, o.Version)
	if err != nil {
		return err
	}
	cfg, err := c.helm()
	if err != nil {
		return err
	}
	_, err = cfg.Releases.Last(r.name)
	began := time.Now()
	switch {
	case errors.Is(err, driver.ErrReleaseNotFound):
		values, err := c.sharedCRDs(ctx, r)
		if err != nil {
			return err
		}
		in := action.NewInstall(cfg)
		in.ReleaseName, in.Namespace = r.name, Namespace
		in.WaitStrategy = kube.HookOnlyStrategy
		// Istio's CRDs may be there already; refuseOther has looked for the rest.
		in.TakeOwnership, in.ForceConflicts = true, true
		if _, err := in.RunWithContext(ctx, chart, values); err != nil {
			return fmt.Errorf("install %s: %w", r.name, err)
		}
	case err != nil:
		return err
	default:
		values, err := c.sharedCRDs(ctx, r)
		if err != nil {
			return err
		}
		up := action.NewUpgrade(cfg)
		up.Namespace, up.ResetValues, up.MaxHistory = Namespace, true, 10
		up.WaitStrategy = kube.HookOnlyStrategy
		up.TakeOwnership, up.ForceConflicts = true, true
		if _, err := up.RunWithContext(ctx, r.name, chart, values); err != nil {
			return fmt.Errorf("upgrade %s: %w", r.name, err)
		}
	}
	c.say("✔ release %s applied (%v)", r.name, time.Since(began).Round(100*time.Millisecond))
	return nil
}

// sharedCRDs leaves the CRDs to who has brought them: the release of the default
// revision, since two releases cannot own one object, or an istiod, which may be
// of another version, while it is there.
func (c *Cluster) sharedCRDs(ctx context.Context, r oneRelease) (map[string]any, error) {
	if r.chart != controlPlaneChart || r.name == controlPlane {
		return r.values, nil
	}
	cfg, err := c.helm()
	if err != nil {
		return nil, err
	}
	_, err = cfg.Releases.Last(controlPlane)
	if err != nil && !errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, err
	}
	if err != nil {
		others, err := c.otherControlPlanes(ctx)
		if err != nil {
			return nil, err
		}
		if len(others) == 0 {
			return r.values, nil
		}
		c.say("✔ Istio's CRDs are left as they are: they are those of %s", strings.Join(others, ", "))
	}
	values := maps.Clone(r.values)
	values["crds"] = map[string]any{"install": false}
	return values, nil
}

// await waits until a Deployment is rolled out, and says how far it is.
func (c *Cluster) await(ctx context.Context, deployment string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	said := ""
	var last *appsv1.Deployment
	for {
		d, err := c.kube.AppsV1().Deployments(Namespace).Get(ctx, deployment, metav1.GetOptions{})
		if err == nil && rolledOut(d) {
			c.say("✔ %s: %s", deployment, progress(d))
			return nil
		}
		if err == nil {
			last = d
		}
		if err == nil && progress(d) != said {
			said = progress(d)
			c.say("… %s: %s", deployment, said)
		}
		select {
		case <-ctx.Done():
			why := c.why(context.WithoutCancel(ctx), last)
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%s is not ready after %v%s", deployment, timeout, why)
			}
			return fmt.Errorf("%s is not ready: %w%s", deployment, ctx.Err(), why)
		case <-tick.C:
		}
	}
}

func wanted(d *appsv1.Deployment) int32 {
	if d.Spec.Replicas == nil {
		return 1
	}
	return *d.Spec.Replicas
}

func rolledOut(d *appsv1.Deployment) bool {
	s, want := d.Status, wanted(d)
	return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == want && s.Replicas == want && s.AvailableReplicas == want
}

func progress(d *appsv1.Deployment) string {
	return fmt.Sprintf("%d of %d replicas are ready", min(d.Status.UpdatedReplicas, d.Status.AvailableReplicas), wanted(d))
}

// why is what the pods of a Deployment wait for, each on a line of its own after
// what is said before.
func (c *Cluster) why(ctx context.Context, d *appsv1.Deployment) string {
	if d == nil || d.Spec.Selector == nil {
		return ""
	}
	pods, err := c.kube.CoreV1().Pods(Namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(d.Spec.Selector)})
	if err != nil {
		return "\n  " + err.Error()
	}
	out := ""
	if len(pods.Items) == 0 {
		out = "\n  there are no pods of it"
	}
	for _, cond := range d.Status.Conditions {
		if cond.Status == corev1.ConditionFalse || cond.Type == appsv1.DeploymentReplicaFailure {
			out += fmt.Sprintf("\n  %s: %s", cond.Reason, cond.Message)
		}
	}
	for _, p := range pods.Items {
		for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
			if w := s.State.Waiting; w != nil {
				out += fmt.Sprintf("\n  pod %s, container %s: %s %s", p.Name, s.Name, w.Reason, w.Message)
			} else if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
				out += fmt.Sprintf("\n  pod %s, container %s: ended with %d %s", p.Name, s.Name, t.ExitCode, t.Message)
			} else if !s.Ready && s.State.Running != nil {
				out += fmt.Sprintf("\n  pod %s, container %s: runs and is not ready; see kubectl logs -n %s %s", p.Name, s.Name, Namespace, p.Name)
			}
		}
		for _, cond := range p.Status.Conditions {
			if cond.Type == corev1.PodScheduled && cond.Status != corev1.ConditionTrue {
				out += fmt.Sprintf("\n  pod %s: %s", p.Name, cond.Message)
			}
		}
	}
	return out
}
