package install

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write manifests/install.yaml anew")

// rendered are the objects of an installation, by kind/name.
func rendered(t *testing.T, o Options) map[string]*unstructured.Unstructured {
	t.Helper()
	text, err := Render(o)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*unstructured.Unstructured{}
	d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		u := &unstructured.Unstructured{}
		if err := d.Decode(&u.Object); err != nil {
			return out
		}
		if len(u.Object) > 0 {
			out[u.GetKind()+"/"+u.GetName()] = u
		}
	}
}

func as[T any](t *testing.T, u *unstructured.Unstructured) *T {
	t.Helper()
	if u == nil {
		t.Fatalf("no such object")
	}
	var out T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(u.Object, &out, true); err != nil {
		t.Fatal(err)
	}
	return &out
}

// TestInstallYAML holds manifests/install.yaml to the charts.
func TestInstallYAML(t *testing.T) {
	const file = "../manifests/install.yaml"
	text, err := Render(Options{Gateway: true})
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, []byte(text)) {
		t.Errorf("%s is not what the charts render: go test ./install -update", file)
	}
}

// TestControlPlane holds what a cluster's owner asks first.
func TestControlPlane(t *testing.T) {
	all := rendered(t, Options{Version: "1.2.3"})
	d := as[appsv1.Deployment](t, all["Deployment/istiod"])
	pod := d.Spec.Template.Spec
	c := pod.Containers[0]
	if *d.Spec.Replicas != 2 || c.Image != "docker.io/pilotfish/pilotfish:1.2.3" {
		t.Errorf("%d replicas of %s", *d.Spec.Replicas, c.Image)
	}
	s := c.SecurityContext
	if !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || !*s.RunAsNonRoot || s.Capabilities.Drop[0] != "ALL" || len(s.Capabilities.Add) > 0 {
		t.Errorf("security context: %+v", s)
	}
	if pod.Affinity.PodAntiAffinity == nil || c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() {
		t.Error("no anti-affinity or no requests")
	}
	ports := map[int32]int32{}
	for _, p := range as[corev1.Service](t, all["Service/istiod"]).Spec.Ports {
		target := p.TargetPort.IntVal
		if target == 0 {
			target = p.Port
		}
		ports[p.Port] = target
	}
	for port, target := range map[int32]int32{15010: 15010, 15012: 15012, 443: 15017, 15014: 15014} {
		if ports[port] != target {
			t.Errorf("port %d leads to %d, want %d", port, ports[port], target)
		}
	}
	for _, name := range []string{"PodDisruptionBudget/istiod", "HorizontalPodAutoscaler/istiod", "ConfigMap/istio", "ConfigMap/istio-sidecar-injector"} {
		if all[name] == nil {
			t.Errorf("no %s", name)
		}
	}
}

// TestRights: nobody may do everything, and what may write says to what.
func TestRights(t *testing.T) {
	all := rendered(t, Options{Gateway: true})
	for name, u := range all {
		if u.GetKind() != "ClusterRole" && u.GetKind() != "Role" {
			continue
		}
		for _, r := range as[rbacv1.ClusterRole](t, u).Rules {
			for _, v := range r.Verbs {
				if v == "*" || (v != "get" && v != "list" && v != "watch" && r.Resources[0] == "*") {
					t.Errorf("%s: %v on %v", name, r.Verbs, r.Resources)
				}
			}
			for _, resource := range r.Resources {
				writes := strings.Contains(strings.Join(r.Verbs, ","), "update")
				if (resource == "secrets" || resource == "configmaps" || resource == "leases") && writes && len(r.ResourceNames) == 0 {
					t.Errorf("%s: may change every one of %s", name, resource)
				}
			}
		}
	}
}

// TestRevision: a revision's objects do not touch those of the default one.
func TestRevision(t *testing.T) {
	canary := rendered(t, Options{Values: map[string]any{"revision": "canary", "crds": map[string]any{"install": false}}})
	for name := range rendered(t, Options{}) {
		if canary[name] != nil && !strings.HasPrefix(name, "Namespace/") {
			t.Errorf("both revisions have %s", name)
		}
	}
	if _, ok := canary["Service/istiod-canary"]; !ok {
		t.Error("no Service istiod-canary")
	}
	mesh, _, _ := unstructured.NestedString(canary["ConfigMap/istio-canary"].Object, "data", "mesh")
	if !strings.Contains(mesh, "istiod-canary.istio-system.svc:15012") {
		t.Errorf("proxies of the revision are sent elsewhere: %s", mesh)
	}
}

// TestSchema: a wrong value is refused by its name, not rendered.
func TestSchema(t *testing.T) {
	for name, values := range map[string]map[string]any{
		"replicas":        {"replicas": 0},
		"repliccas":       {"repliccas": 2},
		"logLevel":        {"logLevel": "loud"},
		"imagePullPolicy": {"imagePullPolicy": "Sometimes"},
		"Not_A_Label":     {"revision": "Not_A_Label"},
		"failurePolicy":   {"injection": map[string]any{"failurePolicy": "Maybe"}},
	} {
		_, err := Render(Options{Values: values})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v: %v", values, err)
		}
	}
}

// TestMonitoring: dashboards, rules and monitors are there if they are asked
// for, whole.
func TestMonitoring(t *testing.T) {
	for name := range rendered(t, Options{}) {
		if strings.Contains(name, "dashboard") || strings.HasPrefix(name, "PrometheusRule/") || strings.HasPrefix(name, "PodMonitor/") {
			t.Errorf("%s is there though nobody asked for it", name)
		}
	}
	on := func(more map[string]any) map[string]any {
		more["enabled"] = true
		return more
	}
	all := rendered(t, Options{Values: map[string]any{"monitoring": map[string]any{
		"dashboards":  on(map[string]any{"namespace": "grafana", "annotations": map[string]any{"grafana_folder": "Mesh"}}),
		"rules":       on(map[string]any{"labels": map[string]any{"release": "monitoring"}}),
		"podMonitors": on(map[string]any{}),
	}}})
	files, err := os.ReadDir("../manifests/chart/files/grafana")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d dashboards, %v", len(files), err)
	}
	for _, f := range files {
		want, err := os.ReadFile("../manifests/chart/files/grafana/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		c := as[corev1.ConfigMap](t, all["ConfigMap/pilotfish-dashboard-"+strings.TrimSuffix(f.Name(), ".json")])
		if c.Namespace != "grafana" || c.Labels["grafana_dashboard"] != "1" || c.Annotations["grafana_folder"] != "Mesh" {
			t.Errorf("%s: namespace %s, labels %v", c.Name, c.Namespace, c.Labels)
		}
		if got := c.Data["pilotfish-"+f.Name()]; strings.TrimSpace(got) != strings.TrimSpace(string(want)) {
			t.Errorf("%s is not the file", c.Name)
		}
	}
	text, err := os.ReadFile("../manifests/chart/files/prometheus/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var want any
	if err := sigsyaml.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	rule := all["PrometheusRule/pilotfish"]
	if rule == nil || rule.GetLabels()["release"] != "monitoring" || rule.GetNamespace() != "istio-system" || !reflect.DeepEqual(rule.Object["spec"], want) {
		t.Errorf("the rules are not those of the file: %v", rule)
	}
	for _, name := range []string{"PodMonitor/pilotfish-control-plane", "PodMonitor/pilotfish-proxies"} {
		if all[name] == nil {
			t.Errorf("no %s", name)
		}
	}
}

// TestDashboardsOfRevisions: those of two revisions stand beside each other in
// one Grafana: each has a file, a uid of up to 40 characters, and a title of
// its own.
func TestDashboardsOfRevisions(t *testing.T) {
	seen := map[string]string{}
	n := 0
	for _, revision := range []string{"", "canary", "1-2-3", "a-revision-with-a-long-name-of-its-own", "a-revision-with-a-long-name-of-its-own-2"} {
		values := map[string]any{"revision": revision, "monitoring": map[string]any{"dashboards": map[string]any{"enabled": true}}}
		for name, o := range rendered(t, Options{Values: values}) {
			if !strings.HasPrefix(name, "ConfigMap/pilotfish-dashboard") {
				continue
			}
			for file, text := range as[corev1.ConfigMap](t, o).Data {
				var b struct{ UID, Title string }
				if err := json.Unmarshal([]byte(text), &b); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				n++
				for _, id := range []string{name, "file " + file, "uid " + b.UID, "title " + b.Title} {
					if other, taken := seen[id]; taken {
						t.Errorf("revision %q: %s is also that of revision %q", revision, id, other)
					}
					seen[id] = revision
				}
				if len(b.UID) > 40 || !strings.HasPrefix(b.UID, "pilotfish-") || revision != "" && !strings.Contains(b.Title, revision) {
					t.Errorf("revision %q: uid %q, title %q", revision, b.UID, b.Title)
				}
			}
		}
	}
	if n != 25 {
		t.Errorf("%d dashboards of five revisions", n)
	}
}
