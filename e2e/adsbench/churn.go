package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// churnWriters is how many endpoint slices are changed side by side.
const churnWriters = 16

// churned changes an endpoint so many times a second for a while, and times
// one watched change a second through it until every proxy has it.
func (r *runner) churned(ctx context.Context, s *target, f *fleet, idle usage) error {
	before, err := s.usage()
	if err != nil {
		return err
	}
	bytes, responses := f.bytes.Load(), f.responses.Load()
	work, stop := context.WithTimeout(ctx, r.churnFor)
	defer stop()
	var wg sync.WaitGroup
	for w := range churnWriters {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r.mesh.churn(work, w, time.Second*churnWriters/time.Duration(r.churn))
		}()
	}
	memory := make(chan []float64, 1)
	go func() { memory <- s.sample(work, r.churnFor/10) }()
	var took []time.Duration
	missed := 0
	for round := r.rounds; work.Err() == nil; round++ {
		n, err := r.once(ctx, f, change{"churn", false, r.mesh.endpoint}, round, &took)
		if err != nil {
			return err
		}
		missed += n
		pause(work, time.Second)
	}
	wg.Wait()
	fmt.Fprintf(os.Stderr, "resident memory of %s at each tenth of the churn, MB: %.0f\n", s.name, <-memory)
	f.quiet(ctx, 1500*time.Millisecond)
	after, err := s.usage()
	if err != nil {
		return err
	}
	made := float64(r.mesh.churned.Load())
	name := fmt.Sprintf("%.0f changes/s for %v", made/r.churnFor.Seconds(), r.churnFor)
	r.report(row{server: s.name, work: name, p50: percentile(took, .5), p99: percentile(took, .99),
		cpu: time.Duration(float64(after.cpu-before.cpu) / max(made, 1)), bytes: float64(f.bytes.Load()-bytes) / 1e6 / max(made, 1),
		responses: float64(f.responses.Load()-responses) / max(made, 1), memory: after.rss,
		perProxy: (after.rss - idle.rss) / float64(len(f.proxies)), missed: missed})
	return nil
}

// sample reads the server's resident memory, in MB, every so often until ctx
// ends.
func (s *target) sample(ctx context.Context, every time.Duration) []float64 {
	var out []float64
	for pause(ctx, every) {
		u, err := s.usage()
		if err != nil {
			break // it has ended, which the next look at it reports
		}
		out = append(out, u.rss)
	}
	return out
}

// churn gives one service of its own after the other another address.
func (m *mesh) churn(ctx context.Context, writer int, every time.Duration) {
	for n := 0; ; n++ {
		start := time.Now()
		i := 1 + (writer+n*churnWriters)%(m.shape.services-1) // svc-0 is watched
		slices := m.client.DiscoveryV1().EndpointSlices(m.shape.namespace(i))
		slice, err := slices.Get(ctx, serviceName(i), metav1.GetOptions{})
		if err == nil {
			slice.Endpoints = append(slice.Endpoints[:m.shape.pods:m.shape.pods], discoveryv1.Endpoint{
				Addresses:  []string{fmt.Sprintf("172.%d.%d.%d", 40+writer, n/250%250, n%250+1)},
				Conditions: discoveryv1.EndpointConditions{Ready: ptr(true)},
			})
			_, err = slices.Update(ctx, slice, metav1.UpdateOptions{})
		}
		if err == nil {
			m.churned.Add(1)
		}
		if !pause(ctx, every-time.Since(start)) {
			return
		}
	}
}

var sidecars = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "sidecars"}

// scope gives every namespace a Sidecar that sees the namespace only.
func scope(ctx context.Context, client dynamic.Interface, s shape) error {
	for n := range s.namespaces {
		object := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
			"metadata": map[string]any{"name": "default"},
			"spec":     map[string]any{"egress": []any{map[string]any{"hosts": []any{"./*"}}}},
		}}
		_, err := client.Resource(sidecars).Namespace(fmt.Sprintf("ns-%d", n)).Create(ctx, object, metav1.CreateOptions{})
		if err != nil {
			return err
		}
	}
	return nil
}

// load is the machine's load average of the last minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
