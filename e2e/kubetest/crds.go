package kubetest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// InstallCRDs installs Istio's CRDs, or those of the named kinds, and waits
// until they are served.
func (c *Client) InstallCRDs(t testing.TB, kinds ...string) {
	t.Helper()
	ctx, cancel := bounded()
	defer cancel()
	for _, crd := range istioCRDs(t, kinds) {
		if err := c.apply(ctx, crd); err != nil {
			t.Fatalf("install CRD %s: %v", crd.GetName(), err)
		}
	}
	for _, crd := range istioCRDs(t, kinds) {
		c.waitServed(ctx, t, crd)
	}
}

// RemoveCRDs deletes Istio's CRDs of the named kinds, or all, with their
// objects, and waits until they are gone.
func (c *Client) RemoveCRDs(t testing.TB, kinds ...string) {
	t.Helper()
	ctx, cancel := bounded()
	defer cancel()
	c.remove(ctx, t, istioCRDs(t, kinds))
}

func (c *Client) remove(ctx context.Context, t testing.TB, crds []*unstructured.Unstructured) {
	t.Helper()
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

// InstallReferenceGrants installs the Gateway API's CRD of ReferenceGrants, and
// waits until it is served.
func (c *Client) InstallReferenceGrants(t testing.TB) {
	t.Helper()
	ctx, cancel := bounded()
	defer cancel()
	crd := referenceGrantCRD(ctx, t)
	if err := c.apply(ctx, crd); err != nil {
		t.Fatalf("install CRD %s: %v", crd.GetName(), err)
	}
	c.waitServed(ctx, t, crd)
}

// RemoveReferenceGrants deletes that CRD with its objects, and waits until it is
// gone.
func (c *Client) RemoveReferenceGrants(t testing.TB) {
	t.Helper()
	ctx, cancel := bounded()
	defer cancel()
	c.remove(ctx, t, []*unstructured.Unstructured{referenceGrantCRD(ctx, t)})
}

// referenceGrantCRD is that of the standard channel, as it was released with the
// types that we build with.
func referenceGrantCRD(ctx context.Context, t testing.TB) *unstructured.Unstructured {
	t.Helper()
	dir, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		t.Fatalf("where the Gateway API's module is: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "config", "crd", "standard", "gateway.networking.k8s.io_referencegrants.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(text))[0]
}

// waitServed waits until objects of a CRD can be listed at each of its versions.
func (c *Client) waitServed(ctx context.Context, t testing.TB, crd *unstructured.Unstructured) {
	t.Helper()
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "plural")
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, v := range versions {
		name, _, _ := unstructured.NestedString(v.(map[string]any), "name")
		r := c.Resource(schema.GroupVersionResource{Group: group, Version: name, Resource: plural}, "")
		poll(ctx, t, "CRD "+crd.GetName()+" at "+name, func() error {
			_, err := r.List(ctx, metav1.ListOptions{Limit: 1})
			return err
		})
	}
}

// Serve makes Istio's CRD of a kind serve these versions only.
func (c *Client) Serve(t testing.TB, kind string, served ...string) {
	t.Helper()
	ctx, cancel := bounded()
	defer cancel()
	crd := istioCRDs(t, []string{kind})[0]
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, v := range versions {
		v := v.(map[string]any)
		v["served"] = slices.Contains(served, v["name"].(string))
	}
	if err := unstructured.SetNestedSlice(crd.Object, versions, "spec", "versions"); err != nil {
		t.Fatal(err)
	}
	if err := c.apply(ctx, crd); err != nil {
		t.Fatal(err)
	}
}

// istioCRDs reads manifests/chart/files/crds.yaml.
func istioCRDs(t testing.TB, kinds []string) []*unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(moduleRoot(t), "manifests", "chart", "files", "crds.yaml"))
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
