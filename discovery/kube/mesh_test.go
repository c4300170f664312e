package kube_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

func meshConfig(text string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    " +
		strings.ReplaceAll(text, "\n", "\n    ") + "\n"
}

// TestMeshConfig follows the ConfigMap istio: set, edited, broken, removed.
func TestMeshConfig(t *testing.T) {
	s, c := cluster(t)
	w := watch(t, s.Config())
	if got := w.synced(t).Settings.Mesh.TrustDomain; got != "cluster.local" {
		t.Fatalf("trust domain %q without a ConfigMap", got)
	}
	domain := func(want string) func(*config.Mesh) bool {
		return func(m *config.Mesh) bool { return m.Settings.Mesh.TrustDomain == want }
	}
	apply(t, c, meshConfig("trustDomain: one"))
	w.until(t, "the first trust domain", domain("one"))
	apply(t, c, meshConfig("trustDomain: two"))
	w.until(t, "the second trust domain", domain("two"))
	apply(t, c, meshConfig("trustDomain: [three]"))
	m := w.until(t, "a problem of the ConfigMap", func(m *config.Mesh) bool { return len(m.Problems) > 0 })
	if p := m.Problems[0]; p.Object.Name != "istio" || p.Severity != config.Error || !domain("two")(m) {
		t.Errorf("a broken MeshConfig gave %v and trust domain %q", p, m.Settings.Mesh.TrustDomain)
	}
	c.Delete(t, meshConfig(""))
	w.until(t, "the defaults", func(m *config.Mesh) bool { return domain("cluster.local")(m) && len(m.Problems) == 0 })
}

// TestDiscoverySelectors lets a namespace in and out by its label.
func TestDiscoverySelectors(t *testing.T) {
	s, c := cluster(t)
	label := func(value string) string {
		return "{apiVersion: v1, kind: Namespace, metadata: {name: selected, labels: {mesh: " + value + "}}}"
	}
	apply(t, c, label("out"))
	apply(t, c, `
apiVersion: v1
kind: Service
metadata: {name: a, namespace: selected}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: selected}
spec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}
`)
	apply(t, c, meshConfig("discoverySelectors: [{matchLabels: {mesh: in}}]"))
	w := watch(t, s.Config())
	holds := func(m *config.Mesh) (service, route bool) {
		_, service = m.Services.Get("selected", "a.selected.svc.cluster.local")
		_, route = m.VirtualServices.Get("selected", "a")
		return service, route
	}
	if service, route := holds(w.synced(t)); service || route {
		t.Fatalf("objects of a namespace that is not selected: service %t, route %t", service, route)
	}
	apply(t, c, label("in"))
	w.until(t, "the selected namespace", func(m *config.Mesh) bool { s, r := holds(m); return s && r })
	apply(t, c, label("out"))
	w.until(t, "its end", func(m *config.Mesh) bool { s, r := holds(m); return !s && !r })
}

// TestStatusIsNoChange writes what no translation reads.
func TestStatusIsNoChange(t *testing.T) {
	s, c := cluster(t)
	object := `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: status}
spec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}
`
	node := `{apiVersion: v1, kind: Node, metadata: {name: node-n, labels: {topology.kubernetes.io/zone: z}}}`
	apply(t, c, object)
	apply(t, c, node)
	w := watch(t, s.Config())
	before := w.synced(t)
	c.Apply(t, object+"status: {conditions: [{type: Reconciled, status: \"True\"}]}\n")
	c.Apply(t, `
apiVersion: v1
kind: Node
metadata: {name: node-n, labels: {topology.kubernetes.io/zone: z}, annotations: {heartbeat: "1"}}
status: {conditions: [{type: Ready, status: "True", lastHeartbeatTime: "2026-01-01T00:00:00Z"}]}
`)
	after := w.fence(t, c, "status")
	if got := after.Sequence - before.Sequence; got != 1 {
		t.Errorf("the fence and two changes of status made %d publications, want 1", got)
	}
}

// TestSecretsKept holds what of a Secret may enter the Mesh.
func TestSecretsKept(t *testing.T) {
	s, c := cluster(t)
	apply(t, c, `
apiVersion: v1
kind: Secret
metadata:
  name: server
  namespace: secrets
  annotations: {kubectl.kubernetes.io/last-applied-configuration: '{"data":{"tls.key":"a2V5"}}'}
type: kubernetes.io/tls
stringData: {tls.crt: crt, tls.key: key, ca.crt: ca, token: hidden}
---
apiVersion: v1
kind: Secret
metadata: {name: client, namespace: secrets}
stringData: {password: hidden}
---
apiVersion: v1
kind: Secret
metadata: {name: release, namespace: secrets}
type: helm.sh/release.v1
stringData: {release: hidden}
---
apiVersion: v1
kind: Secret
metadata: {name: login, namespace: secrets}
type: kubernetes.io/basic-auth
stringData: {username: u, password: hidden}
---
apiVersion: v1
kind: Secret
metadata: {name: cacerts, namespace: istio-system}
stringData: {ca-cert.pem: c, ca-key.pem: hidden, tls.key: hidden}
`)
	m := watch(t, s.Config()).synced(t)
	var names []string
	for x := range m.Secrets.All() {
		names = append(names, x.Namespace+"/"+x.Name)
		for k, v := range x.Data {
			if string(v) == "hidden" {
				t.Errorf("Secret %s has data %q", x.Name, k)
			}
		}
		if len(x.Annotations) > 0 {
			t.Errorf("Secret %s has annotations %v", x.Name, x.Annotations)
		}
	}
	if want := []string{"secrets/client", "secrets/server"}; !slices.Equal(names, want) {
		t.Errorf("Secrets %v, want %v", names, want)
	}
	server, _ := m.Secrets.Get("secrets", "server")
	if string(server.Data["tls.key"]) != "key" || string(server.Data["ca.crt"]) != "ca" || server.Type != "kubernetes.io/tls" {
		t.Errorf("TLS Secret lacks data or type: type %q, %d keys", server.Type, len(server.Data))
	}
}

// TestOutOfUse changes objects so that the mesh has no use for them any more.
func TestOutOfUse(t *testing.T) {
	s, c := cluster(t)
	pod := func(phase string) string {
		return "{apiVersion: v1, kind: Pod, metadata: {name: job, namespace: use}, " +
			"spec: {containers: [{name: a, image: a}]}, status: {phase: " + phase + ", podIP: 10.0.0.9, podIPs: [{ip: 10.0.0.9}]}}"
	}
	roots := func(key string) string {
		return "{apiVersion: v1, kind: ConfigMap, metadata: {name: roots, namespace: use}, data: {" + key + ": text}}"
	}
	apply(t, c, pod("Running"))
	apply(t, c, roots("ca.crt"))
	w := watch(t, s.Config())
	m := w.synced(t)
	if p, r := len(m.Workloads.In("use")), len(m.ConfigMaps.In("use")); p != 1 || r != 1 {
		t.Fatalf("%d pods and %d ConfigMaps, want one each", p, r)
	}
	c.Apply(t, pod("Succeeded"))
	w.until(t, "the end of the finished pod", func(m *config.Mesh) bool { return len(m.Workloads.In("use")) == 0 })
	c.Apply(t, roots("page"))
	w.until(t, "the end of the ConfigMap", func(m *config.Mesh) bool { return len(m.ConfigMaps.In("use")) == 0 })
	c.Apply(t, roots("ca.crt"))
	w.until(t, "its return", func(m *config.Mesh) bool { return len(m.ConfigMaps.In("use")) == 1 })
}

// TestMalformed writes objects that the CRDs' validation lets through and that
// do not fit the API.
func TestMalformed(t *testing.T) {
	s, c := cluster(t)
	good := `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: bad, namespace: malformed}
spec: {host: a, trafficPolicy: {connectionPool: {tcp: {idleTimeout: 7s}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: good, namespace: malformed}
spec: {host: b}
`
	apply(t, c, good)
	w := watch(t, s.Config())
	w.synced(t)
	c.Apply(t, strings.ReplaceAll(good, "7s", "soon"))
	inEffect := func(m *config.Mesh) int64 {
		o, ok := m.DestinationRules.Get("malformed", "bad")
		if !ok {
			return -1
		}
		return o.Spec.TrafficPolicy.ConnectionPool.Tcp.IdleTimeout.Seconds
	}
	m := w.until(t, "a problem", func(m *config.Mesh) bool { return len(m.Problems) > 0 })
	p := m.Problems[0]
	if p.Object.Name != "bad" || p.Severity != config.Error || p.Code != "InvalidValue" ||
		p.Field != "spec.trafficPolicy.connectionPool.tcp.idleTimeout" ||
		!strings.Contains(p.Message, `"soon"`) {
		t.Errorf("problem %v", p)
	}
	if inEffect(m) != 7 {
		t.Errorf("idleTimeout is %d, want the last good 7", inEffect(m))
	}
	// A Source that never saw the good version goes on without the object.
	fresh := watch(t, s.Config()).synced(t)
	if _, ok := fresh.DestinationRules.Get("malformed", "good"); !ok || inEffect(fresh) != -1 || len(fresh.Problems) != 1 {
		t.Errorf("first Mesh beside a malformed object: other there %t, malformed %d, problems %v", ok, inEffect(fresh), fresh.Problems)
	}
	c.Apply(t, strings.ReplaceAll(good, "7s", "8s"))
	w.until(t, "the repaired object", func(m *config.Mesh) bool { return inEffect(m) == 8 && len(m.Problems) == 0 })
}

const sameObjects = `
apiVersion: v1
kind: Namespace
metadata: {name: same, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: same, labels: {app: web}, annotations: {networking.istio.io/exportTo: "."}}
spec:
  clusterIP: 10.96.7.7
  clusterIPs: [10.96.7.7]
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp-db, port: 3306, targetPort: db}]
---
apiVersion: v1
kind: Service
metadata: {name: peers, namespace: same}
spec: {clusterIP: None, selector: {app: web}, publishNotReadyAddresses: true, ports: [{port: 9000, targetPort: 9000, appProtocol: grpc}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: same}
spec: {type: ExternalName, externalName: example.com}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: same, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}, {name: tcp-db, port: 3307, protocol: TCP}]
endpoints:
- {addresses: [10.7.0.1], nodeName: node-a, zone: z1, conditions: {ready: true}, targetRef: {kind: Pod, name: web-1, namespace: same}}
- {addresses: [10.7.0.2], conditions: {ready: false, serving: true, terminating: true}}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: same, labels: {app: web, version: v1}}
spec: {nodeName: node-a, containers: [{name: c, image: i, ports: [{name: db, containerPort: 3307}]}]}
status: {phase: Running, podIP: 10.7.0.1, podIPs: [{ip: 10.7.0.1}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: same, labels: {a: b}, annotations: {c: d}}
spec:
  hosts: [web]
  http:
  - match: [{uri: {prefix: /a}}]
    timeout: 5s
    route: [{destination: {host: web, port: {number: 80}}, weight: 70}, {destination: {host: peers}, weight: 30}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: out, namespace: same}
spec: {hosts: [out.example.com], ports: [{number: 443, name: https, protocol: HTTPS}], resolution: DNS, location: MESH_EXTERNAL}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: in, namespace: same, annotations: {kubernetes.io/ingress.class: istio}}
spec:
  tls: [{hosts: [in.example.com], secretName: cert}]
  rules: [{host: in.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: f, namespace: same}
spec: {configPatches: [{applyTo: CLUSTER, patch: {operation: MERGE, value: {connect_timeout: 1s, list: [1, x, {none: null}]}}}]}
`

// TestSameAsFiles reads the same objects from the API server and from YAML.
func TestSameAsFiles(t *testing.T) {
	s, c := cluster(t)
	apply(t, c, sameObjects)
	kubeMesh := watch(t, s.Config()).synced(t)

	objects, problems := file.Parse("same.yaml", []byte(sameObjects))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	store := discovery.NewStore(nil, "files")
	var changes []discovery.Change
	for _, o := range objects {
		changes = append(changes, discovery.Change{Object: o})
	}
	store.Apply("files", changes)
	store.Synced("files")
	fileMesh := store.Mesh()

	same(t, kubeMesh, fileMesh, "services", func(m *config.Mesh) any { return m.Services.In("same") }, 4)
	same(t, kubeMesh, fileMesh, "endpoints", func(m *config.Mesh) any { return m.Endpoints.In("same") }, 4)
	same(t, kubeMesh, fileMesh, "workloads", func(m *config.Mesh) any { return m.Workloads.In("same") }, 1)
	same(t, kubeMesh, fileMesh, "virtual services", func(m *config.Mesh) any { return m.VirtualServices.In("same") }, 2)
	same(t, kubeMesh, fileMesh, "gateways of Ingresses", func(m *config.Mesh) any { return m.Gateways.In("istio-system") }, 1)
	same(t, kubeMesh, fileMesh, "service entries", func(m *config.Mesh) any { return m.ServiceEntries.In("same") }, 1)
	same(t, kubeMesh, fileMesh, "envoy filters", func(m *config.Mesh) any { return m.EnvoyFilters.In("same") }, 1)
}

// same compares a part of two Meshes but for what only one of them can have:
// the file's lines and the server's bookkeeping, and with it the hash.
func same(t *testing.T, kubeMesh, fileMesh *config.Mesh, what string, part func(*config.Mesh) any, want int) {
	t.Helper()
	a, b := part(kubeMesh), part(fileMesh)
	origin := cmpopts.IgnoreFields(config.Meta{}, "File", "Line", "Lines", "Created", "Generation", "ResourceVersion", "Hash")
	if diff := cmp.Diff(b, a, origin, cmpopts.IgnoreFields(config.Endpoints{}, "Hash"), protocmp.Transform(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s differ (-file +kube):\n%s", what, diff)
	}
	if n := lengthOf(a); n != want {
		t.Errorf("%d %s, want %d", n, what, want)
	}
}

func lengthOf(list any) int {
	switch l := list.(type) {
	case []*config.Service:
		return len(l)
	case []*config.Endpoints:
		return len(l)
	case []*config.Workload:
		return len(l)
	case []*config.VirtualService:
		return len(l)
	case []*config.Gateway:
		return len(l)
	case []*config.ServiceEntry:
		return len(l)
	case []*config.EnvoyFilter:
		return len(l)
	}
	return -1
}
