package kube_test

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
)

// link carries a Source's connections to the API server and can be cut.
type link struct {
	address, target string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
}

// newLink returns a whole link to the server of cfg, and a configuration that
// leads through it.
func newLink(t *testing.T, cfg *rest.Config) (*link, *rest.Config) {
	t.Helper()
	l := &link{address: "127.0.0.1:0", target: strings.TrimPrefix(cfg.Host, "https://"), conns: map[net.Conn]bool{}}
	l.mend(t)
	t.Cleanup(l.cut)
	through := rest.CopyConfig(cfg)
	through.Host = "https://" + l.address
	return l, through
}

// mend listens again, at the same address.
func (l *link) mend(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", l.address)
	if err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listener, l.address = listener, listener.Addr().String()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go l.carry(c)
		}
	}()
}

func (l *link) carry(near net.Conn) {
	far, err := net.Dial("tcp", l.target)
	if err != nil {
		_ = near.Close()
		return
	}
	for _, c := range []net.Conn{near, far} {
		l.mu.Lock()
		l.conns[c] = true
		l.mu.Unlock()
	}
	go pump(near, far)
	pump(far, near)
}

func pump(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = from.Close()
}

// cut refuses new connections and breaks the open ones.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.listener.Close()
	for c := range l.conns {
		_ = c.Close()
	}
	l.conns = map[net.Conn]bool{}
}

const (
	awayLine = "API server is away"
	backLine = "API server is back"
)

// TestNothingBeforeTheFirstView starts a Source whose server cannot be
// reached, and requires the first Mesh to have all that existed.
func TestNothingBeforeTheFirstView(t *testing.T) {
	s, c := cluster(t)
	apply(t, c, `
apiVersion: v1
kind: Service
metadata: {name: a, namespace: first}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: first}
spec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: a, namespace: first}
spec: {mtls: {mode: STRICT}}
`)
	l, cfg := newLink(t, s.Config())
	l.cut()
	w := watch(t, cfg)
	w.logged(t, awayLine, 1)
	if m := w.store.Mesh(); m != nil {
		t.Fatal("published a Mesh without having seen the server")
	}
	l.mend(t)
	m := w.synced(t)
	if m.Sequence != 1 {
		t.Fatalf("looked at publication %d, want the first", m.Sequence)
	}
	_, service := m.Services.Get("first", "a.first.svc.cluster.local")
	_, route := m.VirtualServices.Get("first", "a")
	_, policy := m.PeerAuthentications.Get("first", "a")
	if !service || !route || !policy {
		t.Errorf("first Mesh lacks objects: service %t, route %t, policy %t", service, route, policy)
	}
}

const awayObjects = `
apiVersion: v1
kind: Service
metadata: {name: stays, namespace: away}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: goes, namespace: away}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: changes, namespace: away}
spec: {hosts: [first], http: [{route: [{destination: {host: a}}]}]}
`

// TestChangesWhileAway changes objects behind a cut link, or while the server
// restarts behind it so that it cannot resume the watches and lists anew.
func TestChangesWhileAway(t *testing.T) {
	for _, restart := range []bool{false, true} {
		name := "resumed"
		if restart {
			name = "listed anew"
		}
		t.Run(name, func(t *testing.T) {
			s, c := cluster(t)
			apply(t, c, awayObjects)
			l, cfg := newLink(t, s.Config())
			w := watch(t, cfg)
			before := w.synced(t)
			l.cut()
			w.logged(t, awayLine, 1)
			changeWhileAway(t, c)
			if restart {
				s.Restart(t)
			}
			if m := w.store.Mesh(); m != before {
				t.Fatal("published while away")
			}
			l.mend(t)
			w.until(t, "the changes", func(m *config.Mesh) bool {
				_, stays := m.Services.Get("away", "stays.away.svc.cluster.local")
				_, goes := m.Services.Get("away", "goes.away.svc.cluster.local")
				_, comes := m.Services.Get("away", "comes.away.svc.cluster.local")
				vs, ok := m.VirtualServices.Get("away", "changes")
				return stays && !goes && comes && ok && vs.Spec.Hosts[0] == "second"
			})
			w.logged(t, backLine, 1)
			if n := len(w.lines(awayLine)); n != 1 {
				t.Errorf("said %d times that the server is away", n)
			}
		})
	}
}

func changeWhileAway(t *testing.T, c *kubetest.Client) {
	t.Helper()
	c.Delete(t, `{apiVersion: v1, kind: Service, metadata: {name: goes, namespace: away}}`)
	apply(t, c, `
apiVersion: v1
kind: Service
metadata: {name: comes, namespace: away}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: changes, namespace: away}
spec: {hosts: [second], http: [{route: [{destination: {host: a}}]}]}
`)
}

// TestRestartPublishesNothing restarts the server with nothing changed.
func TestRestartPublishesNothing(t *testing.T) {
	s, c := cluster(t)
	apply(t, c, awayObjects)
	w := watch(t, s.Config())
	before := w.synced(t)
	for n := 1; n <= 2; n++ {
		s.Stop(t)
		w.logged(t, awayLine, n)
		s.Restart(t)
		w.logged(t, backLine, n) // every resource is watched again
	}
	if m := w.store.Mesh(); m != before {
		t.Errorf("published %d times over two restarts", m.Sequence-before.Sequence)
	}
	// And it does see what comes after.
	after := w.fence(t, c, "restarted")
	if got := after.Sequence - before.Sequence; got != 1 {
		t.Errorf("one change after the restarts made %d publications", got)
	}
	if n := len(w.logs.All()); n != 5 {
		t.Errorf("logged %d lines, want one for the first view and two a restart:\n%s", n, w.logText())
	}
}

// TestRefusal takes a right away: one line says so, another that it is back,
// and the first view waits for it.
func TestRefusal(t *testing.T) {
	s, c := cluster(t)
	allow := func(resources string) string {
		return `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: limited}
rules:
- {apiGroups: [""], resources: [` + resources + `], verbs: [get, list, watch]}
- {apiGroups: [discovery.k8s.io, networking.k8s.io, apiextensions.k8s.io, admissionregistration.k8s.io, networking.istio.io, security.istio.io, telemetry.istio.io, extensions.istio.io], resources: ["*"], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: limited}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: limited}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: limited}]
`
	}
	most := "namespaces, nodes, services, pods, configmaps"
	apply(t, c, allow(most))
	cfg := s.Config()
	cfg.Impersonate.UserName = "limited"
	untilAllowed(t, cfg)
	w := watch(t, cfg)
	w.logged(t, "refuses to show secrets", 1)
	if w.store.Mesh() != nil {
		t.Error("published a Mesh without Secrets")
	}
	apply(t, c, allow(most+", secrets"))
	w.synced(t)
	w.logged(t, "shows secrets again", 1)
	if n := len(w.lines("refuses")); n != 1 {
		t.Errorf("%d lines about refusals:\n%s", n, w.logText())
	}
}

// untilAllowed waits until the server knows of a new right to list namespaces.
func untilAllowed(t *testing.T, cfg *rest.Config) {
	t.Helper()
	cs, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	late := time.After(patience)
	for {
		_, err := cs.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{Limit: 1})
		if err == nil {
			return
		}
		select {
		case <-late:
			t.Fatal(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestServerWithoutWatchList reads from a server that can only list, as older
// ones do.
func TestServerWithoutWatchList(t *testing.T) {
	s := kubetest.Start(t, "--feature-gates=WatchList=false")
	c := s.Client(t)
	c.InstallCRDs(t, "VirtualService")
	c.Apply(t, awayObjects)
	w := watch(t, s.Config())
	m := w.synced(t)
	if n, r := len(m.Services.In("away")), m.VirtualServices.Len(); n != 2 || r != 1 {
		t.Errorf("%d services and %d VirtualServices, want 2 and 1", n, r)
	}
	changeWhileAway(t, c)
	w.until(t, "a change", func(m *config.Mesh) bool {
		vs, ok := m.VirtualServices.Get("away", "changes")
		return ok && vs.Spec.Hosts[0] == "second"
	})
	if n := len(w.logs.All()); n != 1 {
		t.Errorf("logged %d lines, want that of the first view:\n%s", n, w.logText())
	}
}
