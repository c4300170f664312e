package discovery_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

const shop = `
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec:
  clusterIP: 10.0.0.7
  selector: {app: reviews}
  ports: [{name: http, port: 80, targetPort: web}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: reviews-1, namespace: shop, labels: {kubernetes.io/service-name: reviews}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- addresses: [10.1.0.1]
  targetRef: {kind: Pod, name: reviews-a}
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-a, namespace: shop, labels: {app: reviews, version: v1, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: reviews, nodeName: n1, containers: []}
status: {podIP: 10.1.0.1, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/region: r, topology.kubernetes.io/zone: z}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews}}]}]}
`

func changesOf(t testing.TB, text string) []discovery.Change {
	t.Helper()
	objects, problems := file.Parse("shop.yaml", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var out []discovery.Change
	for _, o := range objects {
		out = append(out, discovery.Change{Object: o})
	}
	return out
}

// synced returns a Store that publishes.
func synced(validate discovery.Validator, sources ...string) *discovery.Store {
	s := discovery.NewStore(validate, sources...)
	for _, src := range sources {
		s.Synced(src)
	}
	return s
}

func signalled(s *discovery.Store) bool {
	select {
	case <-s.Changed():
		return true
	default:
		return false
	}
}

func TestNothingIsPublishedBeforeEverySourceHasSynced(t *testing.T) {
	s := discovery.NewStore(nil, "kube", "file")
	s.Apply("file", changesOf(t, shop))
	s.Synced("file")
	if s.Mesh() != nil || signalled(s) {
		t.Fatal("published before kube has synced")
	}
	s.Synced("kube")
	if m := s.Mesh(); m == nil || m.Sequence != 1 || m.Services.Len() != 1 || !signalled(s) {
		t.Fatalf("after the last source has synced the mesh is %+v", m)
	}
}

func TestEmptyMeshIsPublished(t *testing.T) {
	s := synced(nil, "file")
	if m := s.Mesh(); m == nil || m.Settings.DomainSuffix != "cluster.local" || !signalled(s) {
		t.Fatalf("mesh %+v", m)
	}
}

func TestUnchangedContentPublishesNothing(t *testing.T) {
	s := synced(nil, "file")
	s.Apply("file", changesOf(t, shop))
	m := s.Mesh()
	signalled(s)
	for _, c := range changesOf(t, shop) {
		c.Object.Meta.ResourceVersion = "77"
		if c.Object.Meta.Kind != "VirtualService" { // its generation says that a user wrote it
			c.Object.Meta.Generation = 77
		}
		switch b := c.Object.Body.(type) {
		case *corev1.Pod:
			b.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubelet"}}
			b.Status.Conditions[0].LastProbeTime = metav1.Now()
		case *corev1.Node:
			b.Status.Conditions = []corev1.NodeCondition{{LastHeartbeatTime: metav1.Now()}}
		}
		s.Apply("file", []discovery.Change{c})
	}
	if s.Mesh() != m || signalled(s) {
		t.Fatal("bookkeeping was published")
	}
	s.Apply("file", []discovery.Change{{Deleted: true, Object: discovery.Object{Meta: config.Meta{Key: config.Key{Kind: "Pod", Namespace: "shop", Name: "none"}}}}})
	if s.Mesh() != m {
		t.Fatal("the end of an unknown object was published")
	}
}

func TestOneApplyIsOneStep(t *testing.T) {
	s := synced(nil, "file")
	s.Apply("file", changesOf(t, shop))
	if m := s.Mesh(); m.Sequence != 2 || m.Services.Len() != 1 || m.VirtualServices.Len() != 1 {
		t.Fatalf("sequence %d", m.Sequence)
	}
}

func TestUntouchedPartsAreShared(t *testing.T) {
	s := synced(nil, "file")
	s.Apply("file", changesOf(t, shop))
	m := s.Mesh()
	s.Apply("file", changesOf(t, `
apiVersion: v1
kind: Pod
metadata: {name: reviews-a, namespace: shop, labels: {app: reviews, version: v2, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: reviews, nodeName: n1, containers: []}
status: {podIP: 10.1.0.1, conditions: [{type: Ready, status: "True"}]}
`))
	n := s.Mesh()
	if n == m || !n.OnlyEndpointsDiffer(m) {
		t.Fatal("a pod's label changed more than endpoints and workloads")
	}
	e, _ := n.Endpoints.Get("shop", "reviews.shop.svc.cluster.local")
	if got := e.ByPort["http"][0].Labels["version"]; got != "v2" {
		t.Fatalf("the endpoint's version is %q", got)
	}
}

const routeV1 = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: shop}
spec: {hosts: [one]}
`

func hostOf(m *config.Mesh) string {
	v, ok := m.VirtualServices.Get("shop", "v")
	if !ok {
		return ""
	}
	return v.Spec.GetHosts()[0]
}

func TestInvalidObjectKeepsItsLastGoodVersion(t *testing.T) {
	validate := func(m *config.Meta, spec proto.Message) []config.Problem {
		vs, ok := spec.(*networking.VirtualService)
		switch {
		case ok && vs.GetHosts()[0] == "bad":
			return []config.Problem{config.At(m, "spec.hosts", config.Error, "Bad", "bad")}
		case ok && vs.GetHosts()[0] == "odd":
			return []config.Problem{config.At(m, "spec.hosts", config.Warning, "Odd", "odd")}
		}
		return nil
	}
	s := synced(validate, "file")
	gone := []discovery.Change{{Deleted: true, Object: discovery.Object{Meta: config.Meta{
		Key: config.Key{Group: discovery.NetworkingGroup, Kind: "VirtualService", Namespace: "shop", Name: "v"}}}}}
	for i, step := range []struct {
		host, want, code string
	}{
		{"bad", "", "Bad"},    // never was good
		{"one", "one", ""},    // good
		{"bad", "one", "Bad"}, // keeps
		{"odd", "odd", "Odd"}, // warnings do not keep out
		{"bad", "odd", "Bad"},
		{"", "", ""}, // gone, with its problems
	} {
		if step.host == "" {
			s.Apply("file", gone)
		} else {
			s.Apply("file", changesOf(t, strings.Replace(routeV1, "one", step.host, 1)))
		}
		m := s.Mesh()
		code := ""
		if len(m.Problems) > 0 {
			code = m.Problems[0].Code
		}
		if got := hostOf(m); got != step.want || code != step.code || len(m.Problems) > 1 {
			t.Errorf("step %d: host %q and problems %v, want %q and %q", i, got, m.Problems, step.want, step.code)
		}
	}
}

func TestFirstNamedSourceWins(t *testing.T) {
	s := synced(nil, "file", "kube")
	s.Apply("kube", changesOf(t, strings.Replace(routeV1, "one", "from-kube", 1)))
	s.Apply("file", changesOf(t, strings.Replace(routeV1, "one", "from-file", 1)))
	if m := s.Mesh(); hostOf(m) != "from-file" || len(m.Problems) != 1 || m.Problems[0].Code != "Overridden" {
		t.Errorf("host %q, problems %v", hostOf(m), m.Problems)
	}
	s.Apply("kube", changesOf(t, strings.Replace(routeV1, "one", "newer", 1)))
	if got := hostOf(s.Mesh()); got != "from-file" {
		t.Errorf("host %q after a change in kube", got)
	}
	c := changesOf(t, routeV1)
	c[0].Deleted = true
	s.Apply("file", c)
	if m := s.Mesh(); hostOf(m) != "newer" || len(m.Problems) != 0 {
		t.Errorf("host %q, problems %v after the end in file", hostOf(m), m.Problems)
	}
}

// A namespace that files only have objects in is the cluster's.
func TestImpliedNamespaceGivesWay(t *testing.T) {
	namespace := func(labels map[string]string, implied bool) []discovery.Change {
		return []discovery.Change{{Object: discovery.Object{
			Meta: config.Meta{Key: config.Key{Kind: "Namespace", Name: "shop"}, Version: "v1", Labels: labels, Implied: implied},
			Body: &corev1.Namespace{},
		}}}
	}
	of := func(s *discovery.Store) string {
		ns, _ := s.Mesh().Namespaces.Get("", "shop")
		return ns.Labels["from"]
	}
	s := synced(nil, "file", "kube")
	s.Apply("file", namespace(map[string]string{"from": "nobody"}, true))
	if got := of(s); got != "nobody" {
		t.Errorf("alone: %q", got)
	}
	s.Apply("kube", namespace(map[string]string{"from": "kube"}, false))
	if got := of(s); got != "kube" || len(s.Mesh().Problems) > 0 {
		t.Errorf("beside the cluster's: %q, problems %v", got, s.Mesh().Problems)
	}
	s.Apply("file", namespace(map[string]string{"from": "file"}, false))
	if got := of(s); got != "file" || len(s.Mesh().Problems) != 1 {
		t.Errorf("written: %q, problems %v", got, s.Mesh().Problems)
	}
}

func TestMovedObjectGetsItsNewLines(t *testing.T) {
	s := synced(nil, "file")
	s.Apply("file", changesOf(t, routeV1))
	was, _ := s.Mesh().VirtualServices.Get("shop", "v")
	s.Apply("file", changesOf(t, "\n\n"+routeV1))
	now, _ := s.Mesh().VirtualServices.Get("shop", "v")
	if now.Line != was.Line+2 || now.LineOf("spec.hosts[0]") != was.LineOf("spec.hosts[0]")+2 || now.Hash == was.Hash {
		t.Errorf("line %d, then %d; hash %v, then %v", was.Line, now.Line, was.Hash, now.Hash)
	}
}

func TestBrokenMeshConfigKeepsTheLastGoodOne(t *testing.T) {
	s := synced(nil, "kube")
	apply := func(text string) *config.Mesh {
		key := config.Key{Kind: "ConfigMap", Namespace: "istio-system", Name: "istio"}
		s.Apply("kube", []discovery.Change{{Object: discovery.Object{
			Meta: config.Meta{Key: key}, Body: &corev1.ConfigMap{Data: map[string]string{"mesh": text}},
		}}})
		return s.Mesh()
	}
	apply("trustDomain: one")
	m := apply("trustDomain: [two")
	if m.Settings.Mesh.GetTrustDomain() != "one" || len(m.Problems) != 1 || m.Problems[0].Severity != config.Error {
		t.Errorf("%s, %v", m.Settings.Mesh.GetTrustDomain(), m.Problems)
	}
	m = apply("{trustDomain: two, trustDomian: three}")
	if m.Settings.Mesh.GetTrustDomain() != "two" || len(m.Problems) != 1 || m.Problems[0].Field != "data.mesh.trustDomian" {
		t.Errorf("%s, %v", m.Settings.Mesh.GetTrustDomain(), m.Problems)
	}
	if m = apply("trustDomain: two"); len(m.Problems) != 0 {
		t.Error(m.Problems)
	}
}

func TestProblemsOfSourcesAreSorted(t *testing.T) {
	s := synced(nil, "a", "b")
	p := func(file string, line int) config.Problem { return config.Problem{File: file, Line: line, Code: "X"} }
	s.SetProblems("b", []config.Problem{p("z", 1), p("a", 2)})
	s.SetProblems("a", []config.Problem{p("m", 1), p("a", 1)})
	m := s.Mesh()
	if d := cmp.Diff([]config.Problem{p("a", 1), p("a", 2), p("m", 1), p("z", 1)}, m.Problems); d != "" {
		t.Error(d)
	}
	s.SetProblems("a", []config.Problem{p("a", 1), p("m", 1)})
	if s.Mesh() != m {
		t.Error("the same problems in another order were published")
	}
	s.SetProblems("a", nil)
	if got := len(s.Mesh().Problems); got != 2 {
		t.Errorf("%d problems, want 2", got)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	s := synced(nil, "file")
	s.Apply("file", changesOf(t, `
apiVersion: v1
kind: Secret
metadata: {name: cert, namespace: shop}
type: kubernetes.io/tls
data: {tls.crt: aGlkZGVu}
stringData: {tls.key: hidden}
`))
	secret, ok := s.Mesh().Secrets.Get("shop", "cert")
	if !ok || string(secret.Data["tls.key"]) != "hidden" || string(secret.Data["tls.crt"]) != "hidden" {
		t.Fatal("the secret's data is not there")
	}
	js, err := json.Marshal(secret)
	if text := fmt.Sprintf("%v %+v %#v %s", secret, secret, secret, js); err != nil || strings.Contains(text, "hidden") || strings.Contains(text, "aGlk") {
		t.Error(text, err)
	}
}
