package discovery_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

// TestAnyHistoryEqualsItsResult applies random changes step by step, and
// compares the mesh with that of a store that was only told where they led.
func TestAnyHistoryEqualsItsResult(t *testing.T) {
	histories, steps := 60, 60
	if testing.Short() {
		histories = 10
	}
	for seed := range histories {
		w := world{rand.New(rand.NewPCG(uint64(seed), 7))}
		s := synced(nil, "one", "two")
		held := map[string]map[config.Key]discovery.Object{"one": {}, "two": {}}
		for range steps {
			source := w.pick("one", "one", "two")
			step := w.step(t, held[source])
			s.Apply(source, step)
			if w.IntN(10) == 0 {
				compareMeshes(t, seed, fresh(held), s.Mesh())
			}
		}
		compareMeshes(t, seed, fresh(held), s.Mesh())
	}
}

func fresh(held map[string]map[config.Key]discovery.Object) *config.Mesh {
	s := discovery.NewStore(nil, "one", "two")
	for _, source := range []string{"two", "one"} {
		var all []discovery.Change
		for _, o := range held[source] {
			all = append(all, discovery.Change{Object: o})
		}
		s.Apply(source, all)
		s.Synced(source)
	}
	return s.Mesh()
}

// compareMeshes compares everything but the Sequence.
func compareMeshes(t *testing.T, seed int, want, got *config.Mesh) {
	t.Helper()
	opts := cmp.Options{protocmp.Transform()}
	check := func(what string, want, got any) {
		if d := cmp.Diff(want, got, opts); d != "" {
			t.Fatalf("seed %d: %s (-afresh +step by step):\n%s", seed, what, d)
		}
	}
	check("settings", want.Settings, got.Settings)
	check("services", slices.Collect(want.Services.All()), slices.Collect(got.Services.All()))
	check("endpoints", slices.Collect(want.Endpoints.All()), slices.Collect(got.Endpoints.All()))
	check("workloads", slices.Collect(want.Workloads.All()), slices.Collect(got.Workloads.All()))
	check("namespaces", slices.Collect(want.Namespaces.All()), slices.Collect(got.Namespaces.All()))
	check("service entries", slices.Collect(want.ServiceEntries.All()), slices.Collect(got.ServiceEntries.All()))
	check("workload entries", slices.Collect(want.WorkloadEntries.All()), slices.Collect(got.WorkloadEntries.All()))
	check("gateways", slices.Collect(want.Gateways.All()), slices.Collect(got.Gateways.All()))
	check("virtual services", slices.Collect(want.VirtualServices.All()), slices.Collect(got.VirtualServices.All()))
	check("config maps", slices.Collect(want.ConfigMaps.All()), slices.Collect(got.ConfigMaps.All()))
	check("problems", want.Problems, got.Problems)
}

// world makes changes in a world so small that everything meets.
type world struct{ *rand.Rand }

func (w world) pick(from ...string) string { return from[w.IntN(len(from))] }

func (w world) step(t *testing.T, held map[config.Key]discovery.Object) []discovery.Change {
	t.Helper()
	var out []discovery.Change
	for range 1 + w.IntN(4) {
		if len(held) > 0 && w.IntN(4) == 0 {
			keys := make([]config.Key, 0, len(held))
			for k := range held {
				keys = append(keys, k)
			}
			slices.SortFunc(keys, config.Key.Compare)
			k := keys[w.IntN(len(keys))]
			delete(held, k)
			out = append(out, discovery.Change{Object: discovery.Object{Meta: config.Meta{Key: k}}, Deleted: true})
			continue
		}
		objects, problems := file.Parse("w.yaml", []byte(w.object()))
		if len(problems) > 0 || len(objects) != 1 {
			t.Fatal(problems)
		}
		held[objects[0].Meta.Key] = objects[0]
		out = append(out, discovery.Change{Object: objects[0]})
	}
	return out
}

func (w world) ns() string    { return w.pick("n1", "n2") }
func (w world) app() string   { return w.pick("a", "b") }
func (w world) ip() string    { return fmt.Sprintf("10.1.0.%d", 1+w.IntN(4)) }
func (w world) maybe() string { return w.pick("true", "false") }

func (w world) object() string {
	meta := func(kind, name, more string) string {
		return fmt.Sprintf("kind: %s\nmetadata: {name: %s, namespace: %s, labels: {app: %s, v: \"%d\"}%s}\n", kind, name, w.ns(), w.app(), w.IntN(2), more)
	}
	switch w.IntN(13) {
	case 10:
		return "apiVersion: networking.k8s.io/v1\n" + meta("Ingress", w.pick("i", "j"), w.pick("", ", annotations: {kubernetes.io/ingress.class: istio}")) +
			"spec: {" + w.pick("", "ingressClassName: c, ") + w.pick("", "tls: [{secretName: s}], ") + "rules: [{host: " + w.pick("x.example.com", "y.example.com") +
			", http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: " + w.app() + ", port: {" + w.pick("name: http", "number: 80") + "}}}}]}}]}"
	case 11:
		return "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: c}\nspec: {controller: " +
			w.pick("istio.io/ingress-controller", "example.com/other") + "}"
	case 0:
		return "apiVersion: v1\n" + meta("Service", w.app(), w.pick("", ", annotations: {networking.istio.io/exportTo: .}")) +
			w.pick("spec: {clusterIP: 10.0.0.1, selector: {app: "+w.app()+"}, ports: [{name: http, port: 80, targetPort: web}, {name: x, port: 81}]}",
				"spec: {clusterIP: None, ports: [{name: http, port: 80}]}",
				"spec: {type: ExternalName, externalName: e.example.com, ports: [{name: http, port: 80}]}")
	case 1:
		return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n" +
			fmt.Sprintf("metadata: {name: s%d, namespace: %s, labels: {kubernetes.io/service-name: %s}}\naddressType: IPv4\n", w.IntN(3), w.ns(), w.app()) +
			"ports: [{name: http, port: 8080}]\nendpoints: [" + w.endpoint() + ", " + w.endpoint() + "]"
	case 2, 3:
		return "apiVersion: v1\n" + meta("Pod", w.pick("p", "q"), "") + "spec: {nodeName: " + w.pick("k1", "k2") + "}\n" +
			fmt.Sprintf("status: {phase: %s, podIP: %s, conditions: [{type: Ready, status: \"%s\"}]}", w.pick("Running", "Running", "Failed"), w.ip(), w.pick("True", "False"))
	case 4:
		return fmt.Sprintf("apiVersion: v1\nkind: Node\nmetadata: {name: %s, labels: {topology.kubernetes.io/region: r%d}}", w.pick("k1", "k2"), w.IntN(2))
	case 5:
		return fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {mesh: \"%s\"}}",
			w.pick("n1", "n2", "istio-system"), w.pick("in", "out")+w.pick("", "\", topology.istio.io/network: \"net"))
	case 6, 7:
		return "apiVersion: networking.istio.io/v1\n" + meta("ServiceEntry", w.pick("e", "f"), w.pick("", ", creationTimestamp: \"2024-01-01T00:00:00Z\"")) + w.entry()
	case 8:
		return "apiVersion: networking.istio.io/v1\n" + meta("WorkloadEntry", w.pick("p", "w"), "") +
			"spec: {address: " + w.pick(w.ip(), "vm.example.com") + w.pick("", ", ports: {http: 7}", ", serviceAccount: sa") + "}"
	case 9:
		return "apiVersion: networking.istio.io/v1\n" + meta("VirtualService", "v", "") + "spec: {hosts: [" + w.app() + "]}"
	}
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + w.pick("istio", "other") + ", namespace: istio-system}\ndata: {mesh: \"" +
		w.pick("", "{discoverySelectors: [{matchLabels: {mesh: in}}]}", "{ingressControllerMode: DEFAULT, ingressSelector: edge}", "{defaultServiceExportTo: ['.'], trustDomain: td}") + "\"}"
}

func (w world) endpoint() string {
	ref := ""
	if w.IntN(2) == 0 {
		ref = ", targetRef: {kind: Pod, name: " + w.pick("p", "q") + "}"
	}
	return fmt.Sprintf("{addresses: [%s], nodeName: %s, conditions: {ready: %s, terminating: %s}%s}", w.ip(), w.pick("k1", "k2"), w.maybe(), w.maybe(), ref)
}

func (w world) entry() string {
	hosts := w.pick("x.example.com", "x.example.com, y.example.com", "a.n1.svc.cluster.local", "'*.example.com'")
	var rest []string
	if w.IntN(3) == 0 {
		rest = append(rest, "addresses: ["+w.pick("192.0.2.1", "240.240.1.1", "'2001:2::f0f0:102'")+"]")
	}
	switch w.IntN(3) {
	case 0:
		rest = append(rest, "workloadSelector: {labels: {app: "+w.app()+"}}")
	case 1:
		rest = append(rest, "endpoints: [{address: "+w.ip()+", labels: {v: x}}]")
	}
	rest = append(rest, "resolution: "+w.pick("STATIC", "DNS", "NONE"), "ports: [{number: 80, name: "+w.pick("http", "x")+", protocol: HTTP}]")
	text := "spec: {hosts: [" + hosts + "], " + strings.Join(rest, ", ") + "}"
	if w.IntN(5) == 0 {
		text += "\nstatus: {addresses: [{host: x.example.com, value: 240.240.9.9}]}"
	}
	return text
}
