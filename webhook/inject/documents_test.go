package inject

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func defaultInjector(t testing.TB) *Injector {
	t.Helper()
	f := NewFollower(Options{Native: NativeTrue})
	f.Follow(meshWith(t, nil))
	in, err := f.Injector()
	if err != nil {
		t.Fatal(err)
	}
	return in
}

const documents = `# A comment that stays.
apiVersion: v1
kind: Service
metadata: {name: web}   # as it is
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: app, image: a}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec: {jobTemplate: {spec: {template: {spec: {containers: [{name: app, image: a}]}}}}}
---
apiVersion: v1
kind: List
items:
- apiVersion: apps/v1
  kind: StatefulSet
  metadata: {name: db}
  spec: {template: {spec: {containers: [{name: app, image: a}]}}}
- apiVersion: apps/v1
  kind: DaemonSet
  metadata: {name: host}
  spec: {template: {spec: {hostNetwork: true, containers: [{name: app, image: a}]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: alone}
spec: {containers: [{name: app, image: a}]}
`

func TestYAML(t *testing.T) {
	out, notes, err := defaultInjector(t).YAML([]byte(documents), "default")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(out), "# A comment that stays.\napiVersion: v1\nkind: Service\nmetadata: {name: web}   # as it is\n---\n") {
		t.Errorf("%.200s", out)
	}
	want := []Note{
		{Object: "Deployment shop/web", Line: 6},
		{Object: "CronJob nightly", Line: 14},
		{Object: "StatefulSet db", Line: 19},
		{Object: "DaemonSet host", Line: 19, Skipped: "it uses the host's network, whose traffic must not be redirected"},
		{Object: "Pod alone", Line: 31},
	}
	if d := cmp.Diff(want, notes); d != "" {
		t.Error(d)
	}
	for _, owner := range []string{
		"kubernetes://apis/apps/v1/namespaces/shop/deployments/web", "kubernetes://apis/batch/v1/namespaces/default/cronjobs/nightly",
		"kubernetes://apis/apps/v1/namespaces/default/statefulsets/db", "kubernetes://apis/v1/namespaces/default/pods/alone",
	} {
		if strings.Count(string(out), owner+"\n") != 1 {
			t.Errorf("no proxy of %s", owner)
		}
	}
	if n := strings.Count(string(out), "name: istio-init"); n != 4 {
		t.Errorf("%d redirections, want 4", n)
	}
	again, _, err := defaultInjector(t).YAML(out, "default")
	if d := cmp.Diff(string(out), string(again)); err != nil || d != "" {
		t.Errorf("the second time: %v\n%s", err, d)
	}
}

// Every fault is told, with its line and object.
func TestYAMLErrors(t *testing.T) {
	_, _, err := defaultInjector(t).YAML([]byte(`kind: Deployment
metadata: {name: empty, namespace: shop}
---
kind: Pod
metadata: {name: bad, annotations: {sidecar.istio.io/proxyCPU: much}}
spec: {containers: [{name: app, image: a}]}
---
{
`), "default")
	want := `line 1: Deployment shop/empty: spec.template is not there
line 4: Pod bad: annotation sidecar.istio.io/proxyCPU is "much"; want a quantity such as 100m or 128Mi
line 8: did not find expected node content`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// BenchmarkInject is what one pod costs at the webhook, without TLS.
func BenchmarkInject(b *testing.B) {
	in := defaultInjector(b)
	pod, err := readObject([]byte(somePod))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		result, err := in.Inject(&Request{Pod: pod, Namespace: "shop"})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := patch(pod, result.Pod); err != nil {
			b.Fatal(err)
		}
	}
}
