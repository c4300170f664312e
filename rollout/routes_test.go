package rollout

import (
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func routesOf(t *testing.T, text string) []any {
	t.Helper()
	var o map[string]any
	if err := yaml.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	list, ok := o["http"].([]any)
	if !ok {
		t.Fatalf("no http in %s", text)
	}
	return list
}

const shared = `
http:
- name: testers
  match: [{headers: {tester: {exact: "yes"}}}]
  route:
  - destination: {host: app, subset: v2}
- name: main
  timeout: 5s
  route:
  - destination: {host: app, subset: v1}
    weight: 60
  - destination: {host: app, subset: v2}
    weight: 10
  - destination: {host: app, subset: v0}
    weight: 30
`

// Each step changes the weights of the rules that share requests, and nothing
// else; the others share what is left as they did before.
func TestWeights(t *testing.T) {
	before := routesOf(t, shared)
	list, err := chooseRules(before, "v2", "", nil)
	if err != nil || len(list) != 1 || list[0].Rule != 1 || list[0].share() != 10 {
		t.Fatalf("chose %+v: %v", list, err)
	}
	for percent, want := range map[int]string{
		10: "v1 60, v2 10, v0 30", 30: "v1 47, v2 30, v0 23", 50: "v1 33, v2 50, v0 17", 99: "v1 1, v2 99, v0 0", 100: "v1 0, v2 100, v0 0",
	} {
		after, err := at(before, list, Stage{Percent: percent})
		if err != nil {
			t.Fatal(err)
		}
		rule := after[1].(map[string]any)
		if got := weights(rule["route"].([]any)); got != want || rule["timeout"] != "5s" {
			t.Errorf("at %d: %s, want %s", percent, got, want)
		}
		if !sameJSON(after[0], before[0]) {
			t.Errorf("at %d another rule was changed", percent)
		}
		back, err := restored(after, list)
		if err != nil || !sameJSON(back, before) {
			t.Errorf("after %d: restored to %v, %v", percent, back, err)
		}
	}
	mirror, err := at(before, list, Stage{Percent: 20, Mirror: true})
	if err != nil {
		t.Fatal(err)
	}
	if rule := mirror[1].(map[string]any); !sameJSON(rule["mirror"], map[string]any{"host": "app", "subset": "v2"}) ||
		!sameJSON(rule["mirrorPercentage"], map[string]any{"value": 20}) || !sameJSON(rule["route"], before[1].(map[string]any)["route"]) {
		t.Errorf("mirrored by %v", rule)
	}
	if back, err := restored(mirror, list); err != nil || !sameJSON(back, before) {
		t.Errorf("restored to %v, %v", back, err)
	}
	if !sameJSON(before, routesOf(t, shared)) {
		t.Error("the input was changed")
	}
	if _, err := restored(before[:1], list); err == nil || !strings.Contains(err.Error(), "spec.http[1] is gone") {
		t.Errorf("a rule that is gone: %v", err)
	}
}

func TestChooseRules(t *testing.T) {
	const lone = "http: [{route: [{destination: {host: app, subset: v1}}]}]"
	const two = "http: [{name: a, route: [{destination: {host: app, subset: v1}}]}, {name: b, route: [{destination: {host: app, subset: v1}}]}]"
	for name, c := range map[string]struct {
		http, route string
		subset      bool
		rules       []int
		says        string
	}{
		"shared":         {http: shared, rules: []int{1}},
		"by name":        {http: shared, route: "main", rules: []int{1}},
		"no such name":   {http: shared, route: "other", says: `no rule of spec.http has the name "other"`},
		"all already":    {http: shared, route: "testers", says: errPromoted.Error()},
		"added":          {http: lone, subset: true, rules: []int{0}},
		"unknown":        {http: lone, says: `no rule of spec.http has a destination "v2", or a host with a subset of that name: there are app subset v1`},
		"several":        {http: two, subset: true, says: "2 rules of spec.http could be given"},
		"one of several": {http: two, route: "b", subset: true, rules: []int{1}},
		"hosts":          {http: "http: [{route: [{destination: {host: v1}, weight: 100}, {destination: {host: v2.shop.svc.cluster.local}}]}]", rules: []int{0}},
		"twice":          {http: "http: [{route: [{destination: {host: a, subset: v2}}, {destination: {host: b, subset: v2}}]}]", says: "two destinations"},
		"mirrors":        {http: strings.Replace(shared, "timeout: 5s", "mirror: {host: other}", 1), says: "mirrors requests already"},
		"no routes":      {http: "http: [{redirect: {uri: /}}]", says: "it has no http routes"},
		"nonsense":       {http: "http: [1]", says: "is no object"},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := chooseRules(routesOf(t, c.http), "v2", c.route, func(string) bool { return c.subset })
			var rules []int
			for _, e := range list {
				rules = append(rules, e.Rule)
			}
			if !slices.Equal(rules, c.rules) || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("chose %v, %v; want %v, %q", rules, err, c.rules, c.says)
			}
		})
	}
}

// A rule with one version gets the new one as a second destination, which a
// rollback takes out again.
func TestAddedDestination(t *testing.T) {
	before := routesOf(t, "http: [{route: [{destination: {host: app, subset: v1, port: {number: 80}}}]}]")
	list, err := chooseRules(before, "v2", "", func(host string) bool { return host == "app" })
	if err != nil {
		t.Fatal(err)
	}
	list[0].named("v2")
	after, err := at(before, list, Stage{Percent: 30})
	if err != nil {
		t.Fatal(err)
	}
	want := routesOf(t, `http: [{route: [{destination: {host: app, subset: v1, port: {number: 80}}, weight: 70}, {destination: {host: app, subset: v2, port: {number: 80}}, weight: 30}]}]`)
	if !sameJSON(after, want) {
		t.Errorf("got %v", after)
	}
	if back, err := restored(after, list); err != nil || !sameJSON(back, before) {
		t.Errorf("restored to %v, %v", back, err)
	}
}

func TestManagedBy(t *testing.T) {
	yes := true
	managed := func(manager, fields string) []metav1.ManagedFieldsEntry {
		return []metav1.ManagedFieldsEntry{{Manager: manager, FieldsV1: metav1.NewFieldsV1(fields)}}
	}
	for name, c := range map[string]struct {
		change func(*unstructured.Unstructured)
		want   string
	}{
		"nobody": {func(*unstructured.Unstructured) {}, ""},
		"kubectl": {func(o *unstructured.Unstructured) {
			o.SetManagedFields(managed("kubectl-client-side-apply", `{"f:spec":{"f:http":{}}}`))
		}, ""},
		"Helm": {func(o *unstructured.Unstructured) {
			o.SetLabels(map[string]string{"app.kubernetes.io/managed-by": "Helm"})
			o.SetManagedFields(managed("helm", `{"f:spec":{"f:http":{}}}`))
		}, ""},
		"Flagger, by its owner": {func(o *unstructured.Unstructured) {
			o.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "flagger.app/v1beta1", Kind: "Canary", Name: "app", Controller: &yes}})
		}, "Canary app, its owner"},
		"Flagger, by its fields": {func(o *unstructured.Unstructured) { o.SetManagedFields(managed("flagger", `{"f:spec":{"f:http":{}}}`)) }, "Flagger"},
		"Argo Rollouts": {func(o *unstructured.Unstructured) {
			o.SetManagedFields(managed("rollouts-controller", `{"f:spec":{"f:http":{}}}`))
		}, "Argo Rollouts"},
		"Argo Rollouts, other fields": {func(o *unstructured.Unstructured) {
			o.SetManagedFields(managed("rollouts-controller", `{"f:metadata":{}}`))
		}, ""},
		"Flux": {func(o *unstructured.Unstructured) {
			o.SetLabels(map[string]string{"kustomize.toolkit.fluxcd.io/name": "apps"})
		}, "Flux"},
		"Argo CD": {func(o *unstructured.Unstructured) {
			o.SetAnnotations(map[string]string{"argocd.argoproj.io/tracking-id": "x"})
		}, "Argo CD"},
		"an owner that is no controller": {func(o *unstructured.Unstructured) {
			o.SetOwnerReferences([]metav1.OwnerReference{{Kind: "App", Name: "x"}})
		}, ""},
	} {
		o := &unstructured.Unstructured{Object: map[string]any{}}
		c.change(o)
		if got := managedBy(o); !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s: managed by %q, want %q", name, got, c.want)
		}
	}
}

func TestPlanCheck(t *testing.T) {
	good := Plan{Namespace: "shop", Name: "app", To: "v2", Mode: Canary, Steps: []int{10, 50}, Interval: 60e9, MaxErrorRate: 0.01, MinRequests: 1}
	if p := good; p.Check() != nil || !slices.Equal(p.Steps, []int{10, 50, 100}) || p.Deadline != 300e9 {
		t.Errorf("a good plan became %+v", p)
	}
	for says, change := range map[string]func(*Plan){
		"--to is missing":    func(p *Plan) { p.To = "" },
		"name and namespace": func(p *Plan) { p.Name = "" },
		`--mode "slow"`:      func(p *Plan) { p.Mode = "slow" },
		"--steps [50 10]":    func(p *Plan) { p.Steps = []int{50, 10} },
		"--steps [0]":        func(p *Plan) { p.Steps = []int{0} },
		"--steps [101]":      func(p *Plan) { p.Steps = []int{101} },
		"has one step":       func(p *Plan) { p.Mode = BlueGreen },
		"--mirror-first":     func(p *Plan) { p.Mode, p.MirrorFirst = Mirror, true },
		"--interval 0s":      func(p *Plan) { p.Interval = 0 },
		"--deadline 1s":      func(p *Plan) { p.Deadline = 1e9 },
		"at most 100%":       func(p *Plan) { p.MaxErrorRate = 2 },
		"no limit is set":    func(p *Plan) { p.MaxErrorRate, p.MaxErrorIncrease = -1, -1 },
		"--max-p99":          func(p *Plan) { p.MaxP99 = -1 },
		"--min-requests 0":   func(p *Plan) { p.MinRequests = 0 },
	} {
		p := good
		change(&p)
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
}
