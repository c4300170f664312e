package inject

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pilotfish-mesh/pilotfish/config"
)

func meshWith(t testing.TB, injector map[string]string) *config.Mesh {
	t.Helper()
	b := config.NewBuilder(nil)
	if injector != nil {
		cm := &config.ConfigMap{Data: injector}
		cm.Kind, cm.Namespace, cm.Name = "ConfigMap", "istio-system", ConfigMapName
		config.Put(b, func(m *config.Mesh) *config.Index[*config.ConfigMap] { return &m.ConfigMaps }, cm)
	}
	return b.Mesh()
}

func counts(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		m := f.GetMetric()[0]
		if n := m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount()); n > 0 {
			out[f.GetName()] = n
		}
	}
	return out
}

const somePod = `{"metadata":{"name":"a","labels":{"app":"a"},"managedFields":[{"manager":"kubectl"}]},"spec":{"containers":[{"name":"app","image":"i"}]}}`

func reviewOf(operation, resource, pod string) string {
	return `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","namespace":"shop","operation":"` + operation +
		`","resource":{"version":"v1","resource":"` + resource + `"},"object":` + pod + `}}`
}

func TestHandler(t *testing.T) {
	for name, c := range map[string]struct {
		path, body string
		counted    string
		message    string
		patched    string // a path of the patch
	}{
		"a pod":            {"/inject", reviewOf("CREATE", "pods", somePod), "sidecar_injection_success_total", "", "/spec/initContainers"},
		"below the path":   {"/inject/cluster/east/net/n--slash--1", reviewOf("CREATE", "pods", somePod), "sidecar_injection_success_total", "", `n/1`},
		"an update":        {"/inject", reviewOf("UPDATE", "pods", somePod), "sidecar_injection_skip_total", "", ""},
		"another resource": {"/inject", reviewOf("CREATE", "services", `{}`), "sidecar_injection_skip_total", "", ""},
		"opted out":        {"/inject", reviewOf("CREATE", "pods", strings.Replace(somePod, `"app":"a"`, `"sidecar.istio.io/inject":"false"`, 1)), "sidecar_injection_skip_total", "", ""},
		"no pod":           {"/inject", reviewOf("CREATE", "pods", `7`), "sidecar_injection_failure_total", "injection of the sidecar failed: the request's object is no pod", ""},
		"a broken pod": {"/inject", reviewOf("CREATE", "pods", `{"spec":{"containers":7}}`), "sidecar_injection_failure_total",
			"injection of the sidecar failed: the pod does not read as one: json: cannot unmarshal number into Go struct field PodSpec.spec.containers of type []v1.Container", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f, registry := NewFollower(Options{Native: NativeTrue}), prometheus.NewRegistry()
			f.Follow(meshWith(t, nil))
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodPost, c.path, strings.NewReader(c.body))
			r.Header.Set("Content-Type", "application/json")
			Handler(f, registry, zap.NewNop()).ServeHTTP(w, r)
			var got struct {
				Response struct {
					Allowed bool
					Patch   []byte
					Status  struct{ Message string }
				}
			}
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err, w.Body)
			}
			if d := cmp.Diff(map[string]float64{"sidecar_injection_requests_total": 1, c.counted: 1, "sidecar_injection_time_seconds": 1}, counts(t, registry)); d != "" {
				t.Error(d)
			}
			if got.Response.Status.Message != c.message || got.Response.Allowed != (c.message == "") {
				t.Errorf("%+v", got.Response)
			}
			if p := string(got.Response.Patch); !strings.Contains(p, c.patched) || (p == "") != (c.patched == "") || strings.Contains(p, "managedFields") {
				t.Error(p)
			}
		})
	}
}

// What is no review is refused with a clear error and counted as a failure, and
// the next review is answered as before.
func TestWhatIsNoReviewIsCounted(t *testing.T) {
	f, registry := NewFollower(Options{Native: NativeTrue}), prometheus.NewRegistry()
	f.Follow(meshWith(t, nil))
	h := Handler(f, registry, zap.NewNop())
	post := func(body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/inject", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		h.ServeHTTP(w, r)
		return w
	}
	bad := map[string]string{
		"malformed":       `{"apiVersion":`,
		"unknown version": strings.Replace(reviewOf("CREATE", "pods", somePod), "k8s.io/v1", "k8s.io/v9", 1),
		"huge":            strings.Repeat(" ", 8<<20+1),
	}
	for name, body := range bad {
		if w := post(body); w.Code < 400 || w.Body.Len() == 0 {
			t.Errorf("%s: %d %q", name, w.Code, w.Body)
		}
	}
	if w := post(reviewOf("CREATE", "pods", somePod)); w.Code != http.StatusOK {
		t.Errorf("a pod after them: %d %s", w.Code, w.Body)
	}
	want := map[string]float64{
		"sidecar_injection_requests_total": float64(len(bad)) + 1, "sidecar_injection_failure_total": float64(len(bad)), "sidecar_injection_success_total": 1,
		"sidecar_injection_time_seconds": float64(len(bad)) + 1,
	}
	if d := cmp.Diff(want, counts(t, registry)); d != "" {
		t.Error(d)
	}
}

// Before the first Mesh nothing is decided.
func TestHandlerNotReady(t *testing.T) {
	registry := prometheus.NewRegistry()
	w := httptest.NewRecorder()
	Handler(NewFollower(Options{}), registry, zap.NewNop()).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/inject", nil))
	if w.Code != http.StatusServiceUnavailable || counts(t, registry)["sidecar_injection_failure_total"] != 1 {
		t.Error(w.Code, counts(t, registry))
	}
}

// Settings that do not parse leave the last good ones; without any, no pod is
// injected.
func TestFollowerKeepsTheLastGoodSettings(t *testing.T) {
	broken := meshWith(t, map[string]string{"config": `templates: {sidecar: "{{ if }}"}`})
	const message = "ConfigMap istio-system/istio-sidecar-injector: key config: templates.sidecar: template: sidecar:1: missing value for if: "
	f := NewFollower(Options{})
	f.Follow(broken)
	if _, err := f.Injector(); err == nil || err.Error() != message+"no pod is injected until this is mended" {
		t.Error(err)
	}
	f.Follow(meshWith(t, map[string]string{"values": "global: {hub: good}"}))
	if p := f.Problems(); len(p) > 0 {
		t.Error(p)
	}
	f.Follow(broken)
	in, err := f.Injector()
	if err != nil || in.settings.text("global", "hub") != "good" {
		t.Error(in, err)
	}
	if p := f.Problems(); len(p) != 1 || p[0].Object.String()+": "+p[0].Message != message+"the last good settings stay" {
		t.Error(p)
	}
}

// The ConfigMap of the revision counts, if there is one.
func TestFollowerReadsItsRevision(t *testing.T) {
	m := meshWith(t, map[string]string{"values": "global: {hub: plain}"})
	b := config.NewBuilder(m)
	cm := &config.ConfigMap{Data: map[string]string{"values": "global: {hub: canary}"}}
	cm.Kind, cm.Namespace, cm.Name = "ConfigMap", "istio-system", ConfigMapName+"-canary"
	config.Put(b, func(m *config.Mesh) *config.Index[*config.ConfigMap] { return &m.ConfigMaps }, cm)
	m = b.Mesh()
	for revision, want := range map[string]string{"": "plain", "canary": "canary", "other": "plain"} {
		f := NewFollower(Options{Revision: revision, Tag: "v9"})
		f.Follow(m)
		in, err := f.Injector()
		if err != nil {
			t.Fatal(err)
		}
		if got := in.settings.image("proxy", ""); got != want+"/pilotfish-proxy:v9" {
			t.Errorf("revision %q: %s", revision, got)
		}
	}
}

// The patch makes of the one pod the other, whatever its keys are called.
func TestPatch(t *testing.T) {
	from := Object{"a/b~c": "1", "gone": int64(1), "same": []any{"x"}, "deep": Object{"k": "v", "old": "1"}}
	to := Object{"a/b~c": "2", "same": []any{"x"}, "deep": Object{"k": "v", "new": nil}, "added": Object{}}
	got, err := patch(from, to)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"op":"remove","path":"/gone"},{"op":"replace","path":"/a~1b~0c","value":"2"},{"op":"add","path":"/added","value":{}},` +
		`{"op":"remove","path":"/deep/old"},{"op":"add","path":"/deep/new","value":null}]`
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error(d)
	}
}
