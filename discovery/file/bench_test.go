package file_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

// largeFolder holds services with a VirtualService, a DestinationRule and a
// Deployment each, one file a service.
func largeFolder(b *testing.B, services int) string {
	b.Helper()
	dir := b.TempDir()
	for i := range services {
		text := strings.ReplaceAll(`apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: shop}
spec:
  selector: {app: NAME}
  ports:
  - name: http
    port: 80
    targetPort: 8080
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME, namespace: shop}
spec:
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME, version: v1}}
    spec:
      containers:
      - name: app
        image: example.com/app:1
        ports: [{containerPort: 8080}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: NAME, namespace: shop}
spec:
  hosts: [NAME]
  http:
  - match:
    - headers: {x-user: {exact: qa}}
    route:
    - destination: {host: NAME, subset: v1}
      weight: 100
  - route:
    - destination: {host: NAME}
    timeout: 3s
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: NAME, namespace: shop}
spec:
  host: NAME
  subsets:
  - name: v1
    labels: {version: v1}
`, "NAME", fmt.Sprintf("s%d", i))
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("s%d.yaml", i)), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

// BenchmarkLoad reads a folder of 4,000 documents.
func BenchmarkLoad(b *testing.B) {
	dir := largeFolder(b, 1000)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		m, err := file.New([]string{dir}, file.WithAddresses(pods10)).Load(nil)
		if err != nil || m.VirtualServices.Len() != 1000 || m.Workloads.Len() != 1000 {
			b.Fatal(err)
		}
	}
}

// BenchmarkEdit changes one file of that folder and waits for the mesh; 50 ms
// of it pass until the burst of events is over.
func BenchmarkEdit(b *testing.B) {
	dir := largeFolder(b, 1000)
	store := discovery.NewStore(nil, file.Name)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- file.New([]string{dir}, file.WithAddresses(pods10)).Run(ctx, store) }()
	<-store.Changed()
	path := filepath.Join(dir, "s7.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for i := range b.N {
		want := uint32(i%2 + 1)
		next := strings.Replace(string(text), "weight: 100", fmt.Sprintf("weight: %d", want), 1)
		if err := os.WriteFile(path, []byte(next), 0o600); err != nil {
			b.Fatal(err)
		}
		for weightOf(store.Mesh()) != want {
			<-store.Changed()
		}
	}
	b.StopTimer()
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

func weightOf(m *config.Mesh) uint32 {
	v, ok := m.VirtualServices.Get("shop", "s7")
	if !ok {
		return 0
	}
	return uint32(v.Spec.GetHttp()[0].GetRoute()[0].GetWeight())
}
