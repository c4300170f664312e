package story

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

func TestMain(m *testing.M) { stage.Main(m) }

// client is a workload that calls myapp from inside the mesh.
const client = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: client}
spec:
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}}
    spec: {containers: [{name: client, image: client}]}
`

// canary is a running copy of examples/canary.
type canary struct {
	*stage.Stage
	t       *testing.T
	gateway *stage.Caller // enters through the gateway
	sidecar *stage.Caller // calls the Service from inside the mesh
}

// start runs the example; edit, if not nil, changes the folder first.
func start(t *testing.T, mode up.Mode, edit func(dir string)) *canary {
	t.Helper()
	dir := stage.Copy(t, "../../examples/canary")
	stage.Write(t, filepath.Join(dir, "client.yaml"), client)
	if edit != nil {
		edit(dir)
	}
	s := &canary{Stage: stage.Start(t, dir, mode), t: t}
	s.sidecar = s.Inside("client", "http://myapp")
	return s
}

// enter finds the gateway's address, which exists once a Gateway does.
func (s *canary) enter() {
	s.t.Helper()
	s.gateway = s.Outside("myapp-gateway", 80)
	s.gateway.Host = "shop.example.com"
}

// shifts waits until v2's share of 200 requests looks like share, then
// requires that 1,000 fit it within five standard deviations.
func (s *canary) shifts(c *stage.Caller, share float64) {
	s.t.Helper()
	near := func(n int, sigmas float64) bool { return stage.Fits(c.Versions(s.t, n, "/")["v2"], n, share, sigmas) }
	changed := time.Now()
	envoytest.Eventually(s.t, stage.Patience, func() string {
		if near(200, 3) {
			return ""
		}
		return "the share of v2 has not become what the weights say"
	})
	if !near(1000, 5) {
		s.t.Errorf("of 1,000 requests v2's share is not %v within five standard deviations", share)
	}
	s.t.Logf("v2 at %v, seen and counted within %v", share, time.Since(changed).Round(time.Millisecond))
}

// TestCanary is steps 3 to 6 of the story: 70/30, 30/50/100 by steps, v1's
// Deployment deleted, and its subset after it. No request fails.
func TestCanary(t *testing.T) {
	stage.EachMode(t, func(t *testing.T, mode up.Mode) {
		s := start(t, mode, func(dir string) { splitDeployments(t, dir) })
		s.enter()
		s.shifts(s.gateway, 0.3)

		l := load(t, s.gateway, s.sidecar)
		s.Edit("myapp.yaml", "weight: 70", "weight: 50", "weight: 30", "weight: 50")
		s.shifts(s.gateway, 0.5)
		s.Edit("myapp.yaml", "v1}\n      weight: 50", "v1}\n      weight: 0", "v2}\n      weight: 50", "v2}\n      weight: 100")
		s.shifts(s.gateway, 1)

		s.Remove("myapp-v1.yaml")
		envoytest.Eventually(t, stage.Patience, func() string {
			if s.sidecar.Versions(t, 50, "/")["v1"] > 0 || s.runs("myapp-v1") {
				return "myapp-v1 still answers"
			}
			return ""
		})
		s.Edit("myapp.yaml", "    - destination: {host: myapp, subset: v1}\n      weight: 0\n", "")
		s.Edit("myapp.yaml", "  - {name: v1, labels: {version: v1}}\n", "")
		s.shifts(s.gateway, 1)
		l.stop(t)
	})
}

// splitDeployments gives each Deployment a file of its own, to be deleted by
// itself.
func splitDeployments(t *testing.T, dir string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "deployments.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	docs := strings.Split(string(b), "\n---\n")
	if len(docs) != 3 {
		t.Fatalf("deployments.yaml has %d documents, want 3", len(docs))
	}
	for i, name := range []string{"service.yaml", "myapp-v1.yaml", "myapp-v2.yaml"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(docs[i]+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "deployments.yaml")); err != nil {
		t.Fatal(err)
	}
}

func (s *canary) runs(workload string) bool {
	for _, w := range s.Workloads() {
		if w.Name == workload {
			return true
		}
	}
	return false
}
