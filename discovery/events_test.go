package discovery_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// What comes into effect, changes and goes is counted, once for each kind and
// once for each publication.
func TestEvents(t *testing.T) {
	s := synced(nil, "file")
	s.Apply("file", changesOf(t, shop))
	s.Apply("file", changesOf(t, shop)) // says nothing new
	again := changesOf(t, shop)
	for i := range again {
		if p, ok := again[i].Object.Body.(*corev1.Pod); ok {
			p.Labels["version"] = "v2"
			again[i].Object.Meta.Labels = p.Labels
		}
	}
	s.Apply("file", again)
	for i := range again {
		again[i].Deleted = again[i].Object.Meta.Kind == "VirtualService"
	}
	s.Apply("file", again)
	got := map[string]uint64{}
	for _, e := range s.Events() {
		got[e.Kind+" "+e.Event.Event] = e.N
		if e.Istio != (e.Kind == "VirtualService") {
			t.Errorf("%+v", e)
		}
	}
	want := map[string]uint64{
		"Service add": 1, "EndpointSlice add": 1, "Pod add": 1, "Node add": 1, "VirtualService add": 1,
		"Pod update": 1, "VirtualService delete": 1,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]uint64{"config": 2, "service": 1, "endpoint": 2, "global": 1}, s.Triggers()); d != "" {
		t.Error(d)
	}
}
