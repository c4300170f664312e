package discovery_test

import (
	"fmt"
	"strings"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// largeMesh has services in ten namespaces, with two pods each.
func largeMesh(tb testing.TB, services int) []discovery.Change {
	tb.Helper()
	var b strings.Builder
	for i := range services {
		ns := fmt.Sprintf("ns%d", i%10)
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: Service
metadata: {name: s%[1]d, namespace: %[2]s}
spec: {clusterIP: 10.96.%[3]d.%[4]d, selector: {app: s%[1]d}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
%[5]s
`, i, ns, i/250, i%250, largeSlice(i, true))
		for p := range 2 {
			fmt.Fprintf(&b, `---
apiVersion: v1
kind: Pod
metadata: {name: s%[1]d-%[2]d, namespace: %[3]s, labels: {app: s%[1]d}}
spec: {nodeName: n%[2]d, serviceAccountName: s%[1]d}
status: {podIP: 10.%[4]d.%[5]d.%[2]d, conditions: [{type: Ready, status: "True"}]}
`, i, p, ns, i/250, i%250)
		}
	}
	return changesOf(tb, b.String())
}

func largeStore(tb testing.TB, services int) *discovery.Store {
	tb.Helper()
	s := synced(nil, "bench")
	s.Apply("bench", largeMesh(tb, services))
	return s
}

func largeSlice(i int, ready bool) string {
	return fmt.Sprintf(`apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s%[1]d-x, namespace: ns%[2]d, labels: {kubernetes.io/service-name: s%[1]d}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.%[3]d.%[4]d.0], conditions: {ready: %[5]v}, targetRef: {kind: Pod, name: s%[1]d-0}}
- {addresses: [10.%[3]d.%[4]d.1], targetRef: {kind: Pod, name: s%[1]d-1}}
`, i, i%10, i/250, i%250, ready)
}

// BenchmarkEndpointSlice is the cost of one endpoint that comes and goes in a
// mesh of 2,000 services.
func BenchmarkEndpointSlice(b *testing.B) {
	s := largeStore(b, 2000)
	steps := [2][]discovery.Change{changesOf(b, largeSlice(7, false)), changesOf(b, largeSlice(7, true))}
	if _, ok := steps[0][0].Object.Body.(*discoveryv1.EndpointSlice); !ok {
		b.Fatal("not a slice")
	}
	before := s.Mesh().Sequence
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		s.Apply("bench", steps[i%2])
	}
	b.StopTimer()
	if got := s.Mesh().Sequence - before; got != uint64(b.N) {
		b.Fatalf("%d publications of %d changes", got, b.N)
	}
}

// BenchmarkVirtualService is the cost of one route that changes there.
func BenchmarkVirtualService(b *testing.B) {
	s := largeStore(b, 2000)
	steps := [2][]discovery.Change{changesOf(b, routeV1), changesOf(b, strings.Replace(routeV1, "one", "two", 1))}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		s.Apply("bench", steps[i%2])
	}
}

// BenchmarkFirstSync is the cost of 2,000 services and 4,000 pods at once.
func BenchmarkFirstSync(b *testing.B) {
	all := largeMesh(b, 2000)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		s := synced(nil, "bench")
		s.Apply("bench", all)
		if got := s.Mesh().Services.Len(); got != 2000 {
			b.Fatal(got)
		}
	}
}

// TestEndpointSliceCostIsThatOfItsService compares the allocations for one
// change in a small and a large mesh. They differ by the length of the lists
// that a namespace's index copies, not by their number.
func TestEndpointSliceCostIsThatOfItsService(t *testing.T) {
	cost := func(services int) float64 {
		s := largeStore(t, services)
		steps := [2][]discovery.Change{changesOf(t, largeSlice(7, false)), changesOf(t, largeSlice(7, true))}
		i := 0
		return testing.AllocsPerRun(100, func() { s.Apply("bench", steps[i%2]); i++ })
	}
	if small, large := cost(20), cost(400); large > small*1.2 {
		t.Errorf("%v allocations with 20 services, %v with 400", small, large)
	}
}
