package kube_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery/kube"
)

const savedObjects = `
apiVersion: v1
kind: Service
metadata: {name: stays, namespace: saved}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: goes, namespace: saved}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: stays, namespace: saved}
spec: {hosts: [stays], http: [{route: [{destination: {host: stays}}]}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: out, namespace: saved}
spec: {hosts: [out.example.com], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 192.0.2.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: saved, labels: {app: a}}
spec: {serviceAccountName: web, containers: [{name: a, image: a, ports: [{containerPort: 80}]}]}
status: {phase: Running, podIP: 10.9.0.1, podIPs: [{ip: 10.9.0.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: saved-node}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: roots, namespace: saved}
data: {ca.crt: x}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: stays-1, namespace: saved, labels: {kubernetes.io/service-name: stays}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints: [{addresses: [10.9.0.1]}]
---
apiVersion: v1
kind: Secret
metadata: {name: cert, namespace: saved}
type: kubernetes.io/tls
stringData: {tls.crt: public-part, tls.key: do-not-save-this}
`

// A restart while the API server is away serves the state that was saved, says
// so, and catches up.
func TestSavedState(t *testing.T) {
	s, c := cluster(t)
	apply(t, c, savedObjects)
	file := filepath.Join(t.TempDir(), "view")
	left := filepath.Join(filepath.Dir(file), ".view-123") // by a process that was killed
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, cfg := newLink(t, s.Config())
	o := kube.Options{Saved: file, Patience: 200 * time.Millisecond}
	first := watchWith(t, cfg, o)
	before := first.synced(t)
	if _, ok := before.Secrets.Get("saved", "cert"); !ok {
		t.Fatal("the mesh lacks what must not be saved: the check below would prove nothing")
	}
	first.stop() // saves
	noSecrets(t, file)
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a killed process has left is still there: %v", err)
	}

	l.cut()
	second := watchWith(t, cfg, o)
	m := second.until(t, "the saved state", func(m *config.Mesh) bool { return m != nil })
	if second.source.Stale().IsZero() {
		t.Error("does not say that the state is stale")
	}
	e, _ := m.Endpoints.Get("saved", "stays.saved.svc.cluster.local")
	want, _ := before.Endpoints.Get("saved", "stays.saved.svc.cluster.local")
	if e == nil || e.Hash != want.Hash {
		t.Error("other endpoints than were saved")
	}
	if v, ok := m.VirtualServices.Get("saved", "stays"); !ok || v.Spec.GetHosts()[0] != "stays" {
		t.Error("no VirtualService")
	}
	if w, ok := m.Workloads.Get("saved", "a"); !ok || w.ServiceAccount != "web" {
		t.Error("no workload")
	}
	if _, ok := m.Services.Get("saved", "out.example.com"); !ok {
		t.Error("no ServiceEntry")
	}

	c.Delete(t, "{apiVersion: v1, kind: Service, metadata: {name: goes, namespace: saved}}")
	apply(t, c, "{apiVersion: v1, kind: Service, metadata: {name: comes, namespace: saved}, spec: {ports: [{name: http, port: 80}]}}")
	l.mend(t)
	second.until(t, "what the server has", func(m *config.Mesh) bool {
		_, gone := m.Services.Get("saved", "goes.saved.svc.cluster.local")
		_, come := m.Services.Get("saved", "comes.saved.svc.cluster.local")
		_, stayed := m.Services.Get("saved", "stays.saved.svc.cluster.local")
		_, secret := m.Secrets.Get("saved", "cert")
		if !stayed {
			t.Error("a push without what was there all the time")
		}
		return !gone && come && secret
	})
	second.logged(t, "caught up with the API server", 1)
	if !second.source.Stale().IsZero() {
		t.Error("says that the state is stale still")
	}
}

func noSecrets(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, packed, _ := bytes.Cut(b, []byte("\n"))
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte("VirtualService")) {
		t.Error("holds no VirtualService")
	}
	if bytes.Contains(text, []byte("do-not-save-this")) || bytes.Contains(text, []byte("ZG8tbm90LXNhdmUtdGhpcw")) || bytes.Contains(text, []byte(`"kind":"Secret"`)) {
		t.Error("holds a Secret")
	}
}

// A file that is damaged, or of another server, is not used, and is replaced.
func TestSavedStateThatIsBroken(t *testing.T) {
	s, c := cluster(t)
	apply(t, c, savedObjects)
	dir := t.TempDir()
	file := filepath.Join(dir, "view")
	l, cfg := newLink(t, s.Config())
	first := watchWith(t, cfg, kube.Options{Saved: file})
	first.synced(t)
	first.stop()
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	l.cut()
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	for name, b := range map[string]struct {
		content []byte
		says    string
	}{
		"empty":            {nil, "no header"},
		"cut off":          {good[:len(good)-100], "does not match its checksum"},
		"a flipped bit":    {flipped, "does not match its checksum"},
		"another format":   {[]byte("{}\n"), "header is not"},
		"another server's": {[]byte(strings.Replace(string(good), cfg.Host, "https://192.0.2.7", 1)), "is of https://192.0.2.7"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "view")
			if err := os.WriteFile(path, b.content, 0o600); err != nil {
				t.Fatal(err)
			}
			w := watchWith(t, cfg, kube.Options{Saved: path, Patience: 50 * time.Millisecond})
			w.logged(t, "the saved state is not used", 1)
			for _, l := range w.logs.All() {
				if text, ok := l.ContextMap()["error"].(string); l.Message == "the saved state is not used" && (!ok || !strings.Contains(text, b.says)) {
					t.Errorf("says %q, want %q", text, b.says)
				}
			}
			if w.store.Mesh() != nil {
				t.Error("serves it")
			}
		})
	}
}

// A disk that takes nothing keeps the last file, and is no other trouble.
func TestStateThatCannotBeSaved(t *testing.T) {
	s, c := cluster(t)
	apply(t, c, savedObjects)
	dir := filepath.Join(t.TempDir(), "absent")
	w := watchWith(t, s.Config(), kube.Options{Saved: filepath.Join(dir, "view"), SavePace: 20 * time.Millisecond})
	w.synced(t)
	w.logged(t, "the state cannot be saved: the file is as old as it was", 1)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w.logged(t, "the state is saved again", 1)
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("files %v, %v, want the state alone", files, err)
	}
}
