package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

const (
	fieldManager = "pilotfish-rollout"
	// stateNote holds what another process needs to go on with a rollout.
	stateNote = "pilotfish.io/rollout"
	group     = "networking.istio.io"
)

// versions of the API at which an object may be served, the best first.
var versions = []string{"v1", "v1beta1", "v1alpha3"}

// state is the value of stateNote.
type state struct {
	To     string  `json:"to"`
	Route  string  `json:"route,omitempty"`
	Mode   Mode    `json:"mode"`
	Stages []Stage `json:"stages"`
	Stage  int     `json:"stage"` // the one in progress
	Edits  []edit  `json:"edits"`
	Holder string  `json:"holder"` // the process that is at it
}

// target is the VirtualService of a rollout.
type target struct {
	client  dynamic.ResourceInterface
	version string
	object  *unstructured.Unstructured // as it was last seen or applied
}

// errLost says that the object is no longer what this rollout made of it.
type errLost struct{ why string }

func (e errLost) Error() string { return e.why }

// find reads the object at the first version at which it is served.
func find(ctx context.Context, c dynamic.Interface, namespace, name string) (*target, error) {
	for _, v := range versions {
		r := c.Resource(schema.GroupVersionResource{Group: group, Version: v, Resource: "virtualservices"}).Namespace(namespace)
		o, err := r.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			if apierrors.ReasonForError(err) == metav1.StatusReasonNotFound && isObjectMissing(err) {
				return nil, fmt.Errorf("there is no VirtualService %s in namespace %s", name, namespace)
			}
			continue // the version is not served
		}
		if err != nil {
			return nil, err
		}
		return &target{client: r, version: group + "/" + v, object: o}, nil
	}
	return nil, errors.New("the API server does not serve VirtualServices: is Istio's API installed?")
}

// isObjectMissing tells a missing object from a version that is not served:
// only the former's status names the object.
func isObjectMissing(err error) bool {
	var s apierrors.APIStatus
	return errors.As(err, &s) && s.Status().Details != nil && s.Status().Details.Name != ""
}

func (t *target) http() []any {
	list, _, _ := unstructured.NestedSlice(t.object.Object, "spec", "http")
	return list
}

// state is that of a rollout in progress; nil for none.
func (t *target) state() (*state, error) {
	text, ok := t.object.GetAnnotations()[stateNote]
	if !ok {
		return nil, nil
	}
	var s state
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, fmt.Errorf("annotation %s cannot be read: %w", stateNote, err)
	}
	if s.Stage < 0 || s.Stage >= len(s.Stages) || len(s.Edits) == 0 {
		return nil, fmt.Errorf("annotation %s makes no sense", stateNote)
	}
	return &s, nil
}

// apply writes routes and state, nil for none, by server-side apply, if the
// object is still the one that was last seen.
func (t *target) apply(ctx context.Context, http []any, s *state, dryRun bool) error {
	o := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"http": http}}}
	o.SetAPIVersion(t.version)
	o.SetKind("VirtualService")
	o.SetName(t.object.GetName())
	o.SetNamespace(t.object.GetNamespace())
	// Server-side apply with it fails if the object is newer.
	o.SetResourceVersion(t.object.GetResourceVersion())
	if s != nil {
		b, err := json.Marshal(s)
		if err != nil {
			return err
		}
		o.SetAnnotations(map[string]string{stateNote: string(b)})
	}
	// Force: the routes are one field, and somebody else made them.
	options := metav1.ApplyOptions{FieldManager: fieldManager, Force: true}
	if dryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	applied, err := t.client.Apply(ctx, o.GetName(), o, options)
	if err != nil {
		return err
	}
	if !dryRun {
		t.object = applied
	}
	return nil
}

// look reads the object again. It fails with errLost if its routes are not
// those that were last seen or applied, or if another process is at it.
func (t *target) look(ctx context.Context) error {
	now, err := t.client.Get(ctx, t.object.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return errLost{"the VirtualService was deleted"}
	}
	if err != nil {
		return err
	}
	was := t.object
	if now.GetUID() != was.GetUID() {
		return errLost{"the VirtualService was deleted and made anew"}
	}
	before, _, _ := unstructured.NestedSlice(was.Object, "spec", "http")
	after, _, _ := unstructured.NestedSlice(now.Object, "spec", "http")
	if !sameJSON(before, after) {
		return errLost{"the routes were changed by " + writers(now)}
	}
	if now.GetAnnotations()[stateNote] != was.GetAnnotations()[stateNote] {
		return errLost{"another rollout of this VirtualService has begun"}
	}
	t.object = now
	return nil
}

// host is what a destination's host means: a Kubernetes Service, or a name
// that is looked up as it is.
type host struct{ name, namespace string } // no namespace: not Kubernetes'

// hostOf follows the API's rule: a name without dots is a Service of the
// VirtualService's own namespace.
func hostOf(name, namespace string) host {
	parts := strings.Split(name, ".")
	switch {
	case len(parts) == 1:
		return host{name, namespace}
	case len(parts) > 2 && parts[2] == "svc":
		return host{parts[0], parts[1]}
	default:
		return host{name: name}
	}
}

// subsets finds the labels of a host's subset in the DestinationRules of the
// VirtualService's namespace, the host's, and the root namespace.
type subsets struct {
	client    dynamic.Interface
	version   string // of the API
	namespace string
	root      string
	lists     map[string][]unstructured.Unstructured
}

func (s *subsets) labels(ctx context.Context, name, subset string) (map[string]string, bool, error) {
	h := hostOf(name, s.namespace)
	for _, ns := range []string{s.namespace, h.namespace, s.root} {
		if ns == "" {
			continue
		}
		list, err := s.in(ctx, ns)
		if err != nil {
			return nil, false, err
		}
		for _, o := range list {
			of, _, _ := unstructured.NestedString(o.Object, "spec", "host")
			if hostOf(of, ns) != h {
				continue
			}
			if labels, ok := subsetLabels(&o, subset); ok {
				return labels, true, nil
			}
		}
	}
	return nil, false, nil
}

func (s *subsets) in(ctx context.Context, namespace string) ([]unstructured.Unstructured, error) {
	if list, ok := s.lists[namespace]; ok {
		return list, nil
	}
	gv, err := schema.ParseGroupVersion(s.version)
	if err != nil {
		return nil, err
	}
	list, err := s.client.Resource(gv.WithResource("destinationrules")).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list DestinationRules of namespace %s: %w", namespace, err)
	}
	if s.lists == nil {
		s.lists = map[string][]unstructured.Unstructured{}
	}
	s.lists[namespace] = list.Items
	return list.Items, nil
}

func subsetLabels(rule *unstructured.Unstructured, subset string) (map[string]string, bool) {
	list, _, _ := unstructured.NestedSlice(rule.Object, "spec", "subsets")
	for _, item := range list {
		o, _ := item.(map[string]any)
		if name, _ := o["name"].(string); name == subset {
			labels, _, _ := unstructured.NestedStringMap(o, "labels")
			return labels, true
		}
	}
	return nil, false
}

// versionOf is how metrics name the pods with a subset's labels.
func versionOf(labels map[string]string) string {
	for _, key := range []string{"version", "service.istio.io/canonical-revision", "app.kubernetes.io/version"} {
		if v := labels[key]; v != "" {
			return v
		}
	}
	return ""
}
