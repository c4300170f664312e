package kubetest

import (
	"bytes"
	"context"
	"errors"
	"io"
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

// bounded is a context for a call. The test's own is over while it cleans up.
func bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), startTimeout)
}

// Apply creates or replaces (server-side apply) each object of a YAML stream,
// with its status if it has one. A namespace that an object names is made
// first.
func (c *Client) Apply(t testing.TB, text string) {
	t.Helper()
	ctx, cancel := bounded()
	defer cancel()
	for _, o := range parse(t, text) {
		if err := c.apply(ctx, o); err != nil {
			t.Fatalf("apply %s %s/%s: %v", o.GetKind(), o.GetNamespace(), o.GetName(), err)
		}
	}
}

// Delete deletes each object of a YAML stream; only its identity is read.
// An object that is not there is no error. A Namespace goes at once, and what
// is in it stays, because the controller that would end it first is not there.
func (c *Client) Delete(t testing.TB, text string) {
	t.Helper()
	ctx, cancel := bounded()
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
