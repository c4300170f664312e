package kube_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
)

const scaleNS = "scale"

// clientset returns a typed client of the server.
func clientset(t testing.TB, s *kubetest.Server) *kubernetes.Clientset {
	t.Helper()
	cs, err := kubernetes.NewForConfig(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

// makeServices makes n Services with an EndpointSlice of two endpoints each;
// they end with the test.
func makeServices(t testing.TB, s *kubetest.Server, n int) {
	t.Helper()
	cs := clientset(t, s)
	ctx := context.Background()
	t.Cleanup(func() {
		everything := metav1.ListOptions{}
		if err := cs.DiscoveryV1().EndpointSlices(scaleNS).DeleteCollection(ctx, metav1.DeleteOptions{}, everything); err != nil {
			t.Error(err)
		}
		for i := range n {
			if err := cs.CoreV1().Services(scaleNS).Delete(ctx, serviceName(i), metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		}
	})
	s.Client(t).Apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: "+scaleNS+"}}")
	for i := range n {
		service := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: serviceName(i)},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
		}
		if _, err := cs.CoreV1().Services(scaleNS).Create(ctx, service, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := cs.DiscoveryV1().EndpointSlices(scaleNS).Create(ctx, endpointsOf(i, 1), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func serviceName(i int) string { return fmt.Sprintf("s%d", i) }

func hostOf(i int) string { return serviceName(i) + "." + scaleNS + ".svc.cluster.local" }

// endpointsOf is the slice of service i: two endpoints, the first of which
// tells its generation.
func endpointsOf(i, generation int) *discoveryv1.EndpointSlice {
	port, name := int32(8080), "http"
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: serviceName(i), Labels: map[string]string{discoveryv1.LabelServiceName: serviceName(i)}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{addressOf(generation)}},
			{Addresses: []string{fmt.Sprintf("10.9.%d.%d", i/250, i%250+1)}},
		},
	}
}

func addressOf(generation int) string {
	return fmt.Sprintf("10.8.%d.%d", generation/250%250, generation%250+1)
}

// TestFirstViewOfThousands reads 500 services and their endpoints.
func TestFirstViewOfThousands(t *testing.T) {
	s, _ := cluster(t)
	n := 500
	if testing.Short() {
		n = 50
	}
	makeServices(t, s, n)
	start := time.Now()
	w := watch(t, s.Config())
	m := w.synced(t)
	t.Logf("first view after %v", time.Since(start))
	if m.Sequence != 1 {
		t.Errorf("publication %d, want the first", m.Sequence)
	}
	if got := len(m.Services.In(scaleNS)); got != n {
		t.Errorf("%d services, want %d", got, n)
	}
	for i := range n {
		e, ok := m.Endpoints.Get(scaleNS, hostOf(i))
		if !ok || len(e.ByPort["http"]) != 2 {
			t.Fatalf("service %d has endpoints %v, want 2", i, e)
		}
	}
	churn(t, s, w, n)
}

// churn changes every slice and requires far fewer publications than changes.
func churn(t *testing.T, s *kubetest.Server, w *watching, n int) {
	t.Helper()
	cs, before := clientset(t, s), w.store.Mesh().Sequence
	start := time.Now()
	for i := range n {
		if _, err := cs.DiscoveryV1().EndpointSlices(scaleNS).Update(t.Context(), endpointsOf(i, 2), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(start)
	m := w.until(t, "every change", func(m *config.Mesh) bool {
		for i := range n {
			e, _ := m.Endpoints.Get(scaleNS, hostOf(i))
			if e.ByPort["http"][0].Address != addressOf(2) && e.ByPort["http"][1].Address != addressOf(2) {
				return false
			}
		}
		return true
	})
	// One at once, then one each 10 ms; the last may come after the last write.
	if got, most := m.Sequence-before, uint64(took/(10*time.Millisecond))+2; got > most {
		t.Errorf("%d changes in %v made %d publications, want at most %d", n, took, got, most)
	}
}

// TestLeavesNoGoroutine runs a Source through an outage and stops it, and
// stops another while it waits for a server that is away.
func TestLeavesNoGoroutine(t *testing.T) {
	s, c := cluster(t)
	l, cfg := newLink(t, s.Config())
	c.Apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: fence}}") // the client's connection is open now
	here := goleak.IgnoreCurrent()

	w := watch(t, cfg)
	w.synced(t)
	l.cut()
	w.logged(t, awayLine, 1)
	start := time.Now()
	w.stop()
	away := watch(t, cfg)
	away.logged(t, awayLine, 1)
	away.stop()
	if took := time.Since(start); took > time.Second {
		t.Errorf("two Sources took %v to stop while the server was away", took)
	}
	if away.store.Mesh() != nil {
		t.Error("stopped before the first view, and published it")
	}
	l.mend(t)
	again := watch(t, cfg)
	again.synced(t)
	again.stop()
	l.cut()
	goleak.VerifyNone(t, here)
}

// BenchmarkEndpointChange is the time from the API server's answer to a change
// of a slice to the Mesh that has it, in a mesh of 500 services: for changes
// that come one by one, and for changes that come faster than the Source paces
// the Store.
func BenchmarkEndpointChange(b *testing.B) {
	s, _ := cluster(b)
	makeServices(b, s, 500)
	w := watch(b, s.Config())
	w.synced(b)
	generation := 1
	for name, pause := range map[string]time.Duration{"alone": 30 * time.Millisecond, "in a burst": 0} {
		b.Run(name, func(b *testing.B) {
			var waited time.Duration
			for b.Loop() {
				<-time.After(pause)
				generation++
				waited += changeEndpoint(b, s, w, generation)
			}
			b.ReportMetric(float64(waited.Microseconds())/float64(b.N), "µs-behind/op")
		})
	}
}

func changeEndpoint(b *testing.B, s *kubetest.Server, w *watching, generation int) time.Duration {
	b.Helper()
	if _, err := clientset(b, s).DiscoveryV1().EndpointSlices(scaleNS).Update(b.Context(), endpointsOf(7, generation), metav1.UpdateOptions{}); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	w.until(b, "the change", func(m *config.Mesh) bool {
		e, ok := m.Endpoints.Get(scaleNS, hostOf(7))
		return ok && slices.ContainsFunc(e.ByPort["http"], func(at config.Endpoint) bool { return at.Address == addressOf(generation) })
	})
	return time.Since(start)
}
