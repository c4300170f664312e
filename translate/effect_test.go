package translate_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

const effectService = `
apiVersion: v1
kind: Service
metadata: {name: app}
spec: {selector: {app: app}, ports: [{name: http, port: 80}]}
`

func effectRoute(subset string) string {
	return `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app}
spec:
  hosts: [app]
  http: [{route: [{destination: {host: app, subset: ` + subset + `}}]}]
`
}

func effectRule(subsets ...string) string {
	text := `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: app}
spec:
  host: app
  subsets:
`
	for _, s := range subsets {
		text += "  - {name: " + s + ", labels: {version: " + s + "}}\n"
	}
	return text
}

// history feeds a Store and follows what is in effect.
type history struct {
	t      *testing.T
	store  *discovery.Store
	effect *translate.Effect
}

func newHistory(t *testing.T, docs ...string) *history {
	h := &history{t: t, store: discovery.NewStore(translate.Check, "file")}
	for _, d := range docs {
		h.apply(d)
	}
	h.store.Synced("file")
	h.effect = h.effect.Follow(h.store.Mesh(), translate.NewIndex)
	return h
}

func (h *history) apply(doc string) {
	h.t.Helper()
	objects, problems := file.Parse("config.yaml", []byte(doc))
	if len(problems) > 0 || len(objects) != 1 {
		h.t.Fatalf("%d objects, problems %v", len(objects), problems)
	}
	h.store.Apply("file", []discovery.Change{{Object: objects[0]}})
}

func (h *history) step(docs ...string) {
	h.t.Helper()
	for _, d := range docs {
		h.apply(d)
	}
	h.effect = h.effect.Follow(h.store.Mesh(), translate.NewIndex)
}

func (h *history) remove(kind string) {
	h.store.Apply("file", []discovery.Change{{Deleted: true, Object: discovery.Object{Meta: config.Meta{
		Key: config.Key{Group: "networking.istio.io", Kind: kind, Namespace: "default", Name: "app"}}}}})
	h.effect = h.effect.Follow(h.store.Mesh(), translate.NewIndex)
}

// want compares the subset that the route in effect names ("" for no route),
// the subsets in effect, and whether something waits.
func (h *history) want(route, subsets string, waits bool) {
	h.t.Helper()
	gotRoute := ""
	if vs, ok := h.effect.Mesh().VirtualServices.Get("default", "app"); ok {
		gotRoute = vs.Spec.GetHttp()[0].GetRoute()[0].GetDestination().GetSubset()
	}
	var names []string
	if dr, ok := h.effect.Mesh().DestinationRules.Get("default", "app"); ok {
		for _, s := range dr.Spec.GetSubsets() {
			names = append(names, s.GetName())
		}
	}
	slices.Sort(names)
	if gotSubsets := strings.Join(names, ","); gotRoute != route || gotSubsets != subsets {
		h.t.Errorf("route to %q with subsets %q, want %q with %q", gotRoute, gotSubsets, route, subsets)
	}
	if got := len(h.effect.Problems()) > 0; got != waits {
		h.t.Errorf("waits: %v, want %v: %v", got, waits, h.effect.Problems())
	}
}

func TestNewRouteWaitsForItsSubset(t *testing.T) {
	h := newHistory(t, effectService)
	h.step(effectRoute("v1"))
	h.want("", "", true)
	h.step(effectRule("v1"))
	h.want("v1", "v1", false)
}

func TestChangedRouteWaitsForItsSubset(t *testing.T) {
	h := newHistory(t, effectService, effectRule("v1"), effectRoute("v1"))
	h.step(effectRoute("v2"))
	h.want("v1", "v1", true)
	h.step(effectRule("v1", "v2"))
	h.want("v2", "v1,v2", false)
}

func TestSubsetWaitsForItsRoute(t *testing.T) {
	h := newHistory(t, effectService, effectRule("v1"), effectRoute("v1"))
	h.step(effectRule("v2"))
	h.want("v1", "v1", true)
	h.step(effectRoute("v2"))
	h.want("v2", "v2", false)
}

func TestRemovedRuleWaitsForItsRoute(t *testing.T) {
	h := newHistory(t, effectService, effectRule("v1"), effectRoute("v1"))
	h.remove("DestinationRule")
	h.want("v1", "v1", true)
	h.remove("VirtualService")
	h.want("", "", false)
}

func TestFirstMeshIsInEffectAsItIs(t *testing.T) {
	h := newHistory(t, effectService, effectRoute("v1"))
	h.want("v1", "", false)
	h.step(effectRoute("v2"))
	h.want("v2", "", false) // nothing that works is replaced
}

func TestWaitingEndsWithTheRoute(t *testing.T) {
	h := newHistory(t, effectService, effectRule("v1"), effectRoute("v1"))
	h.step(effectRoute("v9"))
	h.want("v1", "v1", true)
	h.step(effectRoute("v1"))
	h.want("v1", "v1", false)
	h.step(effectRoute("v9"))
	h.remove("VirtualService")
	h.want("", "v1", false)
}
