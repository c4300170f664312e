package kube_test

import (
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
)

const crdObject = `
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: a, namespace: crds}
spec: {egress: [{hosts: [./first]}]}
`

// TestCRDComesAndGoes installs a CRD while the Source runs, removes it and
// installs it again.
func TestCRDComesAndGoes(t *testing.T) {
	s, c := cluster(t)
	c.RemoveCRDs(t, "Sidecar")
	t.Cleanup(func() { c.InstallCRDs(t, "Sidecar") })
	w := watch(t, s.Config())
	w.synced(t) // a CRD that is not there holds nothing up
	for range 2 {
		c.InstallCRDs(t, "Sidecar")
		c.Apply(t, crdObject)
		w.until(t, "the object of the new CRD", func(m *config.Mesh) bool { return m.Sidecars.Len() == 1 })
		c.RemoveCRDs(t, "Sidecar")
		w.until(t, "the end of the CRD's object", func(m *config.Mesh) bool { return m.Sidecars.Len() == 0 })
	}
	if got := w.lines("refuses"); len(got) > 0 {
		t.Errorf("a CRD that goes is no refusal: %v", got)
	}
}

// TestCRDChangesVersion stops serving the version that the Source reads.
func TestCRDChangesVersion(t *testing.T) {
	s, c := cluster(t)
	apply(t, c, crdObject)
	w := watch(t, s.Config())
	first := w.synced(t)
	if o, ok := first.Sidecars.Get("crds", "a"); !ok || o.Version != "v1" {
		t.Fatalf("the object is %v, want it at v1", o)
	}
	t.Cleanup(func() { c.InstallCRDs(t, "Sidecar") })
	c.Serve(t, "Sidecar", "v1beta1", "v1alpha3")
	w.until(t, "the object at another version", func(m *config.Mesh) bool {
		if m.Sidecars.Len() != 1 {
			t.Error("the object vanished on the way")
		}
		o, ok := m.Sidecars.Get("crds", "a")
		return ok && o.Version == "v1beta1" && o.Spec.Egress[0].Hosts[0] == "./first"
	})
	c.Serve(t, "Sidecar")
	w.until(t, "no object", func(m *config.Mesh) bool { return m.Sidecars.Len() == 0 })
	w.logged(t, "CRD serves no version that can be read", 1)
}

// TestReferenceGrants follows them at either version, and without their CRD,
// which clusters need not have.
func TestReferenceGrants(t *testing.T) {
	s, c := cluster(t)
	w := watch(t, s.Config())
	w.synced(t)
	grant := func(version, name string) string {
		return `
apiVersion: gateway.networking.k8s.io/` + version + `
kind: ReferenceGrant
metadata: {name: it, namespace: crds}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: edge}]
  to: [{group: "", kind: Secret, name: ` + name + `}]
`
	}
	names := func(m *config.Mesh) string {
		if g, ok := m.ReferenceGrants.Get("crds", "it"); ok && len(g.Spec.From) == 1 && g.Spec.From[0].Namespace == "edge" {
			return string(*g.Spec.To[0].Name)
		}
		return ""
	}
	t.Cleanup(func() { c.RemoveReferenceGrants(t) })
	for range 2 {
		c.InstallReferenceGrants(t)
		c.Apply(t, grant("v1beta1", "first"))
		w.until(t, "the grant", func(m *config.Mesh) bool { return names(m) == "first" })
		c.Apply(t, grant("v1", "second"))
		w.until(t, "the changed grant", func(m *config.Mesh) bool { return names(m) == "second" })
		c.RemoveReferenceGrants(t)
		w.until(t, "the end of the grant", func(m *config.Mesh) bool { return m.ReferenceGrants.Len() == 0 })
	}
	if got := w.lines("refuses"); len(got) > 0 {
		t.Errorf("a CRD that is not there is no refusal: %v", got)
	}
}
