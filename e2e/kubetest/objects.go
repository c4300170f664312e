package kubetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
)

var (
	namespaces  = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	crdResource = schema.GroupVersionResource{
		Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
	}
)

// Client applies YAML to a Server, as kubectl does.
type Client struct{ objects dynamic.Interface }

// Client returns a client of the running server; it ends with t.
func (s *Server) Client(t testing.TB) *Client {
	t.Helper()
	http, err := s.httpClient()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(http.CloseIdleConnections)
	objects, err := dynamic.NewForConfigAndClient(s.Config(), http)
	if err != nil {
		t.Fatal(err)
	}
	return &Client{objects: objects}
}

// Apply creates or replaces (server-side apply) each object of a YAML stream,
// with its status if it has one. A namespace that an object names is made
// first.
func (c *Client) Apply(t testing.TB, text string) {
	t.Helper()
	for _, o := range parse(t, text) {
		if err := c.apply(t.Context(), o); err != nil {
			t.Fatalf("apply %s %s/%s: %v", o.GetKind(), o.GetNamespace(), o.GetName(), err)
		}
	}
}

// Delete deletes each object of a YAML stream; only its identity is read.
// An object that is not there is no error. A Namespace goes at once, and what
// is in it stays, because the controller that would end it first is not there.
func (c *Client) Delete(t testing.TB, text string) {
	t.Helper()
	// Also called while a test ends, when its own context is over.
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for _, o := range parse(t, text) {
		none := int64(0) // no kubelet would ever confirm a pod's end
		err := c.resource(o).Delete(ctx, o.GetName(), metav1.DeleteOptions{GracePeriodSeconds: &none})
		if err == nil && o.GetKind() == "Namespace" {
			err = c.finalize(ctx, o.GetName())
		}
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatalf("delete %s %s/%s: %v", o.GetKind(), o.GetNamespace(), o.GetName(), err)
		}
	}
}

func (c *Client) finalize(ctx context.Context, namespace string) error {
	r := c.Resource(namespaces, "")
	ns, err := r.Get(ctx, namespace, metav1.GetOptions{})
	if err != nil {
		return err
	}
	unstructured.RemoveNestedField(ns.Object, "spec", "finalizers")
	_, err = r.Update(ctx, ns, metav1.UpdateOptions{}, "finalize")
	return err
}

// Resource gives access to one resource of one namespace ("" for
// cluster-scoped ones).
func (c *Client) Resource(r schema.GroupVersionResource, ns string) dynamic.ResourceInterface {
	if ns == "" {
		return c.objects.Resource(r)
	}
	return c.objects.Resource(r).Namespace(ns)
}

// InstallCRDs installs Istio's CRDs, or those of the named kinds, and waits
// until they are served.
func (c *Client) InstallCRDs(t testing.TB, kinds ...string) {
	t.Helper()
	for _, crd := range istioCRDs(t, kinds) {
		if err := c.apply(t.Context(), crd); err != nil {
			t.Fatalf("install CRD %s: %v", crd.GetName(), err)
		}
	}
	for _, crd := range istioCRDs(t, kinds) {
		c.waitServed(t, crd)
	}
}

// RemoveCRDs deletes Istio's CRDs of the named kinds, or all, with their
// objects, and waits until they are gone.
func (c *Client) RemoveCRDs(t testing.TB, kinds ...string) {
	t.Helper()
	crds := istioCRDs(t, kinds)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for _, crd := range crds {
		err := c.Resource(crdResource, "").Delete(ctx, crd.GetName(), metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatalf("remove CRD %s: %v", crd.GetName(), err)
		}
	}
	for _, crd := range crds {
		poll(ctx, t, "removal of CRD "+crd.GetName(), func() error {
			_, err := c.Resource(crdResource, "").Get(ctx, crd.GetName(), metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			return errors.Join(errors.New("still there"), err)
		})
	}
}

// waitServed waits until objects of a CRD can be listed at each of its versions.
func (c *Client) waitServed(t testing.TB, crd *unstructured.Unstructured) {
	t.Helper()
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "plural")
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	for _, v := range versions {
		name, _, _ := unstructured.NestedString(v.(map[string]any), "name")
		r := c.Resource(schema.GroupVersionResource{Group: group, Version: name, Resource: plural}, "")
		poll(ctx, t, "CRD "+crd.GetName()+" at "+name, func() error {
			_, err := r.List(ctx, metav1.ListOptions{Limit: 1})
			return err
		})
	}
}

func (c *Client) apply(ctx context.Context, o *unstructured.Unstructured) error {
	r := c.resource(o)
	if ns := o.GetNamespace(); ns != "" {
		if err := c.ensureNamespace(ctx, ns); err != nil {
			return err
		}
	}
	options := metav1.ApplyOptions{FieldManager: "kubetest", Force: true}
	if _, err := r.Apply(ctx, o.GetName(), o, options); err != nil {
		return err
	}
	if _, ok := o.Object["status"]; !ok || o.GetKind() == "CustomResourceDefinition" {
		return nil
	}
	_, err := r.ApplyStatus(ctx, o.GetName(), o, options)
	if apierrors.IsNotFound(err) {
		return nil // the kind has no status of its own
	}
	return err
}

func (c *Client) ensureNamespace(ctx context.Context, name string) error {
	r := c.Resource(namespaces, "")
	if _, err := r.Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return err
	}
	_, err := r.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name},
	}}, metav1.CreateOptions{})
	return err
}

// resource follows the rule by which every kind that tests use is named,
// because a new CRD is in the server's discovery only some time after it is
// served.
func (c *Client) resource(o *unstructured.Unstructured) dynamic.ResourceInterface {
	plural, _ := meta.UnsafeGuessKindToResource(o.GroupVersionKind())
	if o.GetKind() == "Gateway" {
		plural.Resource = "gateways" // the one that it guesses wrong
	}
	return c.Resource(plural, o.GetNamespace())
}

// istioCRDs reads manifests/crds/istio.yaml.
func istioCRDs(t testing.TB, kinds []string) []*unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(moduleRoot(t), "manifests", "crds", "istio.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var out []*unstructured.Unstructured
	for _, crd := range parse(t, string(text)) {
		kind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind")
		if len(kinds) == 0 || slices.Contains(kinds, kind) {
			out = append(out, crd)
		}
	}
	if len(out) == 0 || len(kinds) > 0 && len(out) != len(kinds) {
		t.Fatalf("found %d CRDs for kinds %v", len(out), kinds)
	}
	return out
}

func parse(t testing.TB, text string) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader([]byte(text)), 4096)
	for {
		o := &unstructured.Unstructured{}
		err := d.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("bad YAML in test: %v", err)
		}
		if len(o.Object) > 0 {
			out = append(out, o)
		}
	}
}

// poll calls done until it returns nil or ctx ends, which fails the test.
func poll(ctx context.Context, t testing.TB, what string, done func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := done()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", what, err)
		case <-tick.C:
		}
	}
}
