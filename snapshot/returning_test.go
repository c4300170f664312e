package snapshot_test

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// returning is a service with two pods, and a client.
const returning = `
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec: {selector: {app: reviews}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: reviews}}
  template: {metadata: {labels: {app: reviews}}, spec: {containers: [{name: a, image: a}]}}
`

// selecting puts the client into a class of its own for as long as it is there.
const selecting = `
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: front, namespace: shop}
spec: {workloadSelector: {labels: {app: front}}, egress: [{hosts: ["*/*"]}]}
`

// TestReturnsToClass: a proxy that comes back to the class that it left is served
// the endpoints of now, not those of when it left.
func TestReturnsToClass(t *testing.T) {
	s := &exampleSoak{t: t, rng: rand.New(rand.NewPCG(1, 2)), dir: t.TempDir(), present: map[string]bool{}, live: map[*running]bool{}}
	t.Cleanup(func() {
		for r := range s.live {
			s.end(r)
		}
	})
	mesh, sidecar := filepath.Join(s.dir, "mesh.yaml"), filepath.Join(s.dir, "sidecar.yaml")
	s.write(mesh, returning)
	s.now = s.start()
	newFollower := func(r *running) *follower {
		p := &follower{soak: s, name: "p0", kind: "sidecar", namespace: "shop", labels: map[string]any{"app": "front"}}
		p.connect(r)
		s.settle(r, []*follower{p})
		return p
	}
	p := newFollower(s.now)
	const cluster = "outbound|80||reviews.shop.svc.cluster.local"
	full := len(p.have[eds][cluster])
	if full == 0 {
		t.Fatalf("the proxy has %d assignments", len(p.have[eds]))
	}
	await := func(what string, f func() string) {
		t.Helper()
		envoytest.Eventually(t, patience, func() string {
			s.settle(s.now, []*follower{p})
			if d := f(); d != "" {
				return what + ": " + d
			}
			return ""
		})
	}
	// In one step the proxy changes its class and the pods lose their addresses.
	s.down.Store(^uint64(0))
	s.write(sidecar, selecting)
	await("the class of its own", func() string {
		if len(p.have[eds][cluster]) >= full {
			return "the pods are still there"
		}
		return ""
	})
	before := s.now.cache.Mesh().Sequence
	s.write(sidecar, "")
	await("the class of before", func() string {
		if s.now.cache.Mesh().Sequence == before {
			return "nothing changed"
		}
		return ""
	})
	fresh := s.start()
	if d := p.difference(newFollower(fresh)); d != "" {
		t.Error(d)
	}
}
