package ca

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// Operator is what a person does with a running authority. It never reads what
// is secret: of Secrets it asks for the metadata only.
type Operator struct {
	secrets   metadata.ResourceInterface
	client    kubernetes.Interface
	namespace string
}

// NewOperator returns the Operator of the authority in a namespace.
func NewOperator(c *rest.Config, namespace string) (*Operator, error) {
	meta, err := metadata.NewForConfig(c)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(c)
	if err != nil {
		return nil, err
	}
	secrets := meta.Resource(corev1.SchemeGroupVersion.WithResource("secrets")).Namespace(namespace)
	return &Operator{secrets: secrets, client: client, namespace: namespace}, nil
}

// State is how an authority stands.
type State struct {
	PlugIn bool          `json:"plugIn"` // the root is plugged in
	Phase  Phase         `json:"phase,omitempty"`
	Since  time.Time     `json:"since,omitzero"`  // when the phase began; zero if that is not known
	Asked  Rotation      `json:"asked,omitempty"` // what the leader has not taken up yet
	Roots  []TrustedRoot `json:"roots"`
}

// TrustedRoot is one root of the trust bundle, the one that signs first.
type TrustedRoot struct {
	Subject string    `json:"subject"`
	Expires time.Time `json:"expires"`
}

// State reads how the authority stands, and what its namespace trusts.
func (o *Operator) State(ctx context.Context) (State, error) {
	var s State
	_, err := o.secrets.Get(ctx, PlugInSecret, metav1.GetOptions{})
	if err == nil {
		s.PlugIn = true
	} else if !apierrors.IsNotFound(err) {
		return s, err
	}
	kept, err := o.secrets.Get(ctx, SelfSignedSecret, metav1.GetOptions{})
	switch {
	case err == nil:
		s.Phase, s.Asked = Phase(kept.Annotations[phaseNote]), Rotation(kept.Annotations[rotationNote])
		if s.Phase == "" {
			s.Phase = Steady
		}
		s.Since, _ = time.Parse(time.RFC3339, kept.Annotations[sinceNote]) // zero says that it is not known
	case !apierrors.IsNotFound(err):
		return s, err
	case !s.PlugIn:
		return s, fmt.Errorf("namespace %s has neither Secret %s nor %s: no control plane has begun there", o.namespace, PlugInSecret, SelfSignedSecret)
	}
	bundle, err := o.client.CoreV1().ConfigMaps(o.namespace).Get(ctx, BundleConfigMap, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	roots, err := parseCertificates("ConfigMap "+BundleConfigMap, []byte(bundle.Data[rootKey]))
	for _, c := range roots {
		s.Roots = append(s.Roots, TrustedRoot{c.Subject.String(), c.NotAfter})
	}
	return s, err
}

// Rotate asks the leader for a step of a rotation.
func (o *Operator) Rotate(ctx context.Context, what Rotation) error {
	s, err := o.State(ctx)
	switch {
	case err != nil:
		return err
	case s.PlugIn:
		return fmt.Errorf("the root is plugged in by Secret %s: rotate it there, first its %s with both roots", PlugInSecret, rootKey)
	case what == Begin && s.Phase != Steady:
		return fmt.Errorf("a rotation is under way since %s (%s); it goes on by itself, or at once with --hurry", s.Since.Format(time.RFC3339), s.Phase)
	case what == Hurry && s.Phase == Steady:
		return fmt.Errorf("no rotation is under way that could be hurried")
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{rotationNote: what}}})
	if err != nil {
		return err
	}
	_, err = o.secrets.Patch(ctx, SelfSignedSecret, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}
