package discovery_test

import (
	"slices"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

const ofRevisions = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: everybodys, namespace: shop}
spec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: canarys, namespace: shop, labels: {istio.io/rev: canary}}
spec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: tagged, namespace: shop, labels: {istio.io/rev: prod}}
spec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "trustDomain: shared.example.com"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio-canary, namespace: istio-system}
data: {mesh: "trustDomain: canary.example.com"}
`

func tagged(name, revision string) discovery.Object {
	labels := map[string]string{"istio.io/tag": name, "istio.io/rev": revision}
	return discovery.Object{
		Meta: config.Meta{Key: config.Key{Group: "admissionregistration.k8s.io", Kind: "MutatingWebhookConfiguration", Name: "istio-revision-tag-" + name}, Labels: labels},
		Body: &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Labels: labels}},
	}
}

// Each revision reads its own settings and objects, and those of its tags.
func TestRevisions(t *testing.T) {
	stores := map[string]*discovery.Store{}
	for _, name := range []string{"default", "canary", "other"} {
		stores[name] = discovery.NewStore(nil, "test")
		stores[name].ForRevision(name)
		stores[name].Apply("test", changesOf(t, ofRevisions))
		stores[name].Synced("test")
	}
	expect := func(revision, domain string, gateways ...string) {
		t.Helper()
		m := stores[revision].Mesh()
		var got []string
		for g := range m.Gateways.All() {
			got = append(got, g.Name)
		}
		if !slices.Equal(got, gateways) {
			t.Errorf("%s reads gateways %v, want %v", revision, got, gateways)
		}
		if got := m.Settings.Mesh.GetTrustDomain(); got != domain {
			t.Errorf("%s has trust domain %s, want %s", revision, got, domain)
		}
	}
	expect("default", "shared.example.com", "everybodys")
	expect("canary", "canary.example.com", "canarys", "everybodys")
	expect("other", "shared.example.com", "everybodys") // it has no settings of its own

	move := func(to string) {
		for _, s := range stores {
			s.Apply("test", []discovery.Change{{Object: tagged("prod", to)}})
		}
	}
	move("default")
	expect("default", "shared.example.com", "everybodys", "tagged")
	expect("canary", "canary.example.com", "canarys", "everybodys")
	if s := stores["default"]; !s.Owns("prod") || !s.Owns("") || s.Owns("canary") {
		t.Error("the default revision owns another's objects, or not its own")
	}
	move("canary")
	expect("default", "shared.example.com", "everybodys")
	expect("canary", "canary.example.com", "canarys", "everybodys", "tagged")
	gone := tagged("prod", "canary")
	stores["canary"].Apply("test", []discovery.Change{{Object: gone, Deleted: true}})
	expect("canary", "canary.example.com", "canarys", "everybodys")

	// An object that gets another label moves, and settings come and go.
	s := stores["canary"]
	for _, o := range changesOf(t, ofRevisions) {
		switch o.Object.Meta.Name {
		case "canarys":
			o.Object.Meta.Labels = map[string]string{"istio.io/rev": "default"}
			s.Apply("test", []discovery.Change{o})
		case "istio-canary":
			s.Apply("test", []discovery.Change{{Object: o.Object, Deleted: true}})
		}
	}
	expect("canary", "shared.example.com", "everybodys")
}

// A version whose content is that of the one before is told by its generation:
// who waits for it must not wait for ever.
func TestGenerationOfEqualContent(t *testing.T) {
	s := synced(nil, "test")
	object := changesOf(t, ofRevisions)[0]
	for generation := range int64(3) {
		object.Object.Meta.Generation = generation
		s.Apply("test", []discovery.Change{object})
		g, _ := s.Mesh().Gateways.Get("shop", "everybodys")
		if g.Generation != generation {
			t.Errorf("generation %d, want %d", g.Generation, generation)
		}
	}
}
