package register

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"
	"istio.io/api/label"
	admission "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/admissionregistration/v1"
	"k8s.io/client-go/tools/cache"
)

// The webhooks that are ours within the configurations of a revision end in
// these names, as Istio's charts write them.
const (
	injectionSuffix  = "sidecar-injector.istio.io"
	validationSuffix = "validation.istio.io"
)

// Prober proves that invalid configuration is refused.
type Prober interface {
	// Refusing returns the names of the webhooks that refused an invalid
	// object through the API server just now, among them objects that are
	// labelled with tags of the revision.
	Refusing(ctx context.Context, tags []string) (map[string]bool, error)
}

// Registrar writes to the webhook configurations that are labelled with the
// revision (istio.io/rev): one write to each when the trust bundle changes.
type Registrar struct {
	Client   kubernetes.Interface
	Revision string // "default" for the default one
	// Bundle is the PEM of the trusted roots, empty before the first, and a
	// channel that is closed when it has changed.
	Bundle func() ([]byte, <-chan struct{})
	Prober Prober
	Log    *zap.Logger
}

// Pauses between attempts to prove, and after writes that failed.
const (
	firstPause = 500 * time.Millisecond
	mostPause  = time.Minute
)

// Run works until ctx ends, and returns nil.
func (r *Registrar) Run(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(r.Client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.LabelSelector = labels.Set{label.IoIstioRev.Name: r.Revision}.String()
	}))
	defer factory.Shutdown()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	wake := make(chan struct{}, 1)
	changed := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	on := cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { changed() }, UpdateFunc: func(_, _ any) { changed() }, DeleteFunc: r.gone,
	}
	configurations := factory.Admissionregistration().V1()
	for _, i := range []cache.SharedIndexInformer{
		configurations.MutatingWebhookConfigurations().Informer(), configurations.ValidatingWebhookConfigurations().Informer(),
	} {
		if _, err := i.AddEventHandler(on); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	s := &settling{r, configurations.MutatingWebhookConfigurations().Lister(), configurations.ValidatingWebhookConfigurations().Lister()}
	s.loop(ctx, wake)
	return nil
}

// gone tells that a configuration was deleted, which the control plane has no
// right to make again. That of a tag is gone as well when the tag leads to
// another revision.
func (r *Registrar) gone(o any) {
	if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = last.Obj
	}
	switch c := o.(type) {
	case *admission.MutatingWebhookConfiguration:
		r.tellGone(c.ObjectMeta, "new pods that it chose get no sidecar")
	case *admission.ValidatingWebhookConfiguration:
		r.tellGone(c.ObjectMeta, "wrong objects that it chose are let in")
	}
}

func (r *Registrar) tellGone(m metav1.ObjectMeta, consequence string) {
	if m.Labels[label.IoIstioTag.Name] == "" {
		r.Log.Warn("webhook configuration was deleted: "+consequence+"; pilotfish install makes it again", zap.String("configuration", m.Name))
	}
}

// settling is one run of a Registrar.
type settling struct {
	*Registrar
	injection  listers.MutatingWebhookConfigurationLister
	validation listers.ValidatingWebhookConfigurationLister
}

func (s *settling) loop(ctx context.Context, wake <-chan struct{}) {
	pause := firstPause
	again := time.NewTimer(0)
	defer again.Stop()
	for ctx.Err() == nil {
		bundle, changed := s.Bundle()
		again.Stop()
		if len(bundle) > 0 {
			if err := s.settle(ctx, bundle); err != nil {
				s.Log.Debug("webhook configurations are not settled", zap.Error(err), zap.Duration("again after", pause))
				again.Reset(pause)
				pause = min(2*pause, mostPause)
			} else {
				pause = firstPause
			}
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-wake:
		case <-again.C:
		}
	}
}

// settle writes what differs. Its error says what is still to be done.
func (s *settling) settle(ctx context.Context, bundle []byte) error {
	mutating, err := s.injection.List(labels.Everything())
	if err != nil {
		return err
	}
	validating, err := s.validation.List(labels.Everything())
	if err != nil {
		return err
	}
	var faults []error
	for _, c := range mutating {
		faults = append(faults, s.bundleOfInjection(ctx, c, bundle))
	}
	unproven := false
	for _, c := range validating {
		faults = append(faults, s.bundleOfValidation(ctx, c, bundle))
		unproven = unproven || len(failOpen(c)) > 0
	}
	if err := errors.Join(faults...); err != nil || !unproven {
		return err
	}
	return s.failClosed(ctx, validating)
}

// hookPatch is a strategic merge patch of one webhook, whose name is its key.
type hookPatch struct {
	Name          string                       `json:"name"`
	ClientConfig  *clientConfig                `json:"clientConfig,omitempty"`
	FailurePolicy *admission.FailurePolicyType `json:"failurePolicy,omitempty"`
}

type clientConfig struct {
	CABundle []byte `json:"caBundle"`
}

// patchOf refuses to write over a version that it has not seen.
func patchOf(version string, hooks []hookPatch) ([]byte, error) {
	return json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": version}, "webhooks": hooks})
}

func (s *settling) bundleOfInjection(ctx context.Context, c *admission.MutatingWebhookConfiguration, bundle []byte) error {
	var hooks []hookPatch
	for i := range c.Webhooks {
		if h := &c.Webhooks[i]; strings.HasSuffix(h.Name, injectionSuffix) && !bytes.Equal(h.ClientConfig.CABundle, bundle) {
			hooks = append(hooks, hookPatch{Name: h.Name, ClientConfig: &clientConfig{bundle}})
		}
	}
	if len(hooks) == 0 {
		return nil
	}
	patch, err := patchOf(c.ResourceVersion, hooks)
	if err != nil {
		return err
	}
	_, err = s.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Patch(ctx, c.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	return s.wrote("the certificate authority of injection", c.Name, err)
}

func (s *settling) bundleOfValidation(ctx context.Context, c *admission.ValidatingWebhookConfiguration, bundle []byte) error {
	var hooks []hookPatch
	for i := range c.Webhooks {
		if h := &c.Webhooks[i]; strings.HasSuffix(h.Name, validationSuffix) && !bytes.Equal(h.ClientConfig.CABundle, bundle) {
			hooks = append(hooks, hookPatch{Name: h.Name, ClientConfig: &clientConfig{bundle}})
		}
	}
	return s.patchValidation(ctx, c, hooks, "the certificate authority of validation")
}

func (s *settling) patchValidation(ctx context.Context, c *admission.ValidatingWebhookConfiguration, hooks []hookPatch, what string) error {
	if len(hooks) == 0 {
		return nil
	}
	patch, err := patchOf(c.ResourceVersion, hooks)
	if err != nil {
		return err
	}
	_, err = s.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Patch(ctx, c.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	return s.wrote(what, c.Name, err)
}

func (s *settling) wrote(what, name string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %s: %w", name, what, err)
	}
	s.Log.Info("wrote "+what, zap.String("configuration", name))
	return nil
}

// failOpen are the names of the webhooks that let everything pass while no
// control plane answers.
func failOpen(c *admission.ValidatingWebhookConfiguration) []string {
	var out []string
	for i := range c.Webhooks {
		h := &c.Webhooks[i]
		if strings.HasSuffix(h.Name, validationSuffix) && (h.FailurePolicy == nil || *h.FailurePolicy != admission.Fail) {
			out = append(out, h.Name)
		}
	}
	return out
}

// failClosed lets those webhooks that are proven to work refuse everything
// while no control plane answers: before, they might refuse everything for
// ever, because nobody reaches them.
func (s *settling) failClosed(ctx context.Context, all []*admission.ValidatingWebhookConfiguration) error {
	var tags []string
	for _, c := range all {
		if tag := c.Labels[label.IoIstioTag.Name]; tag != "" {
			tags = append(tags, tag)
		}
	}
	refusing, err := s.Prober.Refusing(ctx, tags)
	if err != nil {
		return fmt.Errorf("validation is not proven to work: %w", err)
	}
	fail := admission.Fail
	var faults []error
	for _, c := range all {
		var hooks []hookPatch
		for _, name := range failOpen(c) {
			if !refusing[name] {
				faults = append(faults, fmt.Errorf("%s: webhook %s did not refuse an invalid object", c.Name, name))
				continue
			}
			hooks = append(hooks, hookPatch{Name: name, FailurePolicy: &fail})
		}
		// The caBundle has just been written, so that this version is no longer
		// the newest; the watch brings the next one.
		faults = append(faults, s.patchValidation(ctx, c, hooks, "that validation fails closed, as it is proven to work"))
	}
	return errors.Join(faults...)
}
