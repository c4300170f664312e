package story

import (
	"context"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/up"
)

func TestMain(m *testing.M) {
	if code, is := up.RunRole(os.Args); is {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}

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

// stage is a running copy of examples/canary.
type stage struct {
	t       *testing.T
	dir     string
	mesh    *up.Mesh
	gateway *caller // enters through the gateway
	sidecar *caller // calls the Service from inside the mesh
}

func modes(t *testing.T) []up.Mode {
	out := []up.Mode{up.Loopback}
	if os.Geteuid() == 0 {
		return append(out, up.Namespaces)
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("CI must run as root: network namespaces need it")
	}
	t.Log("without root network namespaces are left out")
	return out
}

// newStage starts the example; edit, if not nil, changes the folder first.
func newStage(t *testing.T, mode up.Mode, edit func(dir string)) *stage {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../examples/canary")); err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, dir: dir}
	s.write("client.yaml", client)
	if edit != nil {
		edit(dir)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	mesh, err := up.Start(ctx, up.Options{
		Paths: []string{dir}, Envoy: envoytest.Binary(t), Mode: mode,
		Note: func(line string) { t.Log(line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mesh.Close)
	s.mesh = mesh
	inside, err := mesh.Client("client")
	if err != nil {
		t.Fatal(err)
	}
	s.sidecar = &caller{client: inside, url: "http://myapp/"}
	t.Cleanup(inside.CloseIdleConnections)
	return s
}

// enter finds the gateway's address, which exists once a Gateway does.
func (s *stage) enter() {
	s.t.Helper()
	address, err := s.mesh.Gateway("myapp-gateway", 80)
	if err != nil {
		s.t.Fatal(err)
	}
	outside := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
	s.t.Cleanup(outside.CloseIdleConnections)
	s.gateway = &caller{client: outside, url: "http://" + address + "/", host: "shop.example.com"}
}

// write replaces a file of the folder in one step.
func (s *stage) write(name, text string) {
	s.t.Helper()
	tmp := filepath.Join(s.dir, "."+name)
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(s.dir, name)); err != nil {
		s.t.Fatal(err)
	}
}

// edit replaces texts in a file of the folder.
func (s *stage) edit(name string, oldnew ...string) {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	text := strings.NewReplacer(oldnew...).Replace(string(b))
	if text == string(b) {
		s.t.Fatalf("%s does not hold %q", name, oldnew)
	}
	s.write(name, text)
}

// shifts waits until v2's share of 200 requests looks like share, then
// requires that 1,000 fit it within five standard deviations.
func (s *stage) shifts(c *caller, share float64) {
	s.t.Helper()
	near := func(n int, sigmas float64) bool {
		got := float64(c.count(s.t, n)["v2"])
		want := share * float64(n)
		return math.Abs(got-want) <= sigmas*math.Sqrt(float64(n)*share*(1-share))+0.5
	}
	changed := time.Now()
	envoytest.Eventually(s.t, 10*time.Second, func() string {
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
	for _, mode := range modes(t) {
		t.Run(string(mode), func(t *testing.T) {
			s := newStage(t, mode, func(dir string) { splitDeployments(t, dir) })
			s.enter()
			s.shifts(s.gateway, 0.3)

			l := start(t, s.gateway, s.sidecar)
			s.edit("myapp.yaml", "weight: 70", "weight: 50", "weight: 30", "weight: 50")
			s.shifts(s.gateway, 0.5)
			s.edit("myapp.yaml", "v1}\n      weight: 50", "v1}\n      weight: 0", "v2}\n      weight: 50", "v2}\n      weight: 100")
			s.shifts(s.gateway, 1)

			s.remove("myapp-v1.yaml")
			envoytest.Eventually(t, 20*time.Second, func() string {
				if s.sidecar.count(t, 50)["v1"] > 0 || s.runs("myapp-v1") {
					return "myapp-v1 still answers"
				}
				return ""
			})
			s.edit("myapp.yaml", "    - destination: {host: myapp, subset: v1}\n      weight: 0\n", "")
			s.edit("myapp.yaml", "  - {name: v1, labels: {version: v1}}\n", "")
			s.shifts(s.gateway, 1)
			l.stop(t)
		})
	}
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

func (s *stage) remove(name string) {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) runs(workload string) bool {
	for _, w := range s.mesh.Workloads() {
		if w.Name == workload {
			return true
		}
	}
	return false
}
