package validate_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/kube"
	"github.com/pilotfish-mesh/pilotfish/webhook/validate"
)

// source reads as the control plane does, over an empty mesh.
type source struct{}

func (source) Read(kind metav1.GroupVersionKind, text []byte) (*validate.Object, []config.Problem, bool) {
	for _, k := range discovery.Kinds() {
		if k.Group == kind.Group && k.Kind == kind.Kind {
			o, problems, err := kube.Read(k, kind.Version, text)
			if err != nil || o == nil {
				return nil, problems, true
			}
			return &validate.Object{Meta: o.Meta, Spec: o.Body.(proto.Message)}, problems, true
		}
	}
	return nil, nil, false
}

func (source) With(o *validate.Object) *config.Mesh {
	return discovery.With(config.NewBuilder(nil).Mesh(), &discovery.Object{Meta: o.Meta, Body: o.Spec})
}

func (source) Owns(named string) bool { return named == "" || named == "default" || named == "prod" }

func gateway(labels, spec string) string {
	return fmt.Sprintf(`{"apiVersion":"networking.istio.io/v1","kind":"Gateway","metadata":{"name":"g","namespace":"shop","labels":{%s}},"spec":%s}`, labels, spec)
}

const (
	good = `{"servers":[{"hosts":["*"],"port":{"number":80,"name":"http","protocol":"HTTP"}}]}`
)

func TestHandler(t *testing.T) {
	for name, c := range map[string]struct {
		operation, sub, kind string
		object, old          string
		refused              string // part of the message
		warned               bool
		counted              string
	}{
		"valid":            {operation: "CREATE", object: gateway("", good), counted: "galley_validation_passed"},
		"invalid":          {operation: "CREATE", object: gateway("", `{}`), refused: "Gateway shop/g is not valid:\n* spec.servers is empty; want at least one server (Missing)", counted: "galley_validation_failed invalid_resource"},
		"an update":        {operation: "UPDATE", object: gateway("", `{}`), old: gateway("", good), refused: "spec.servers is empty", counted: "galley_validation_failed invalid_resource"},
		"labels only":      {operation: "UPDATE", object: gateway(`"a":"b"`, `{}`), old: gateway("", `{}`)},
		"an end":           {operation: "DELETE", object: "null", old: gateway("", `{}`)},
		"finalizers":       {operation: "UPDATE", object: strings.Replace(gateway("", `{}`), `"name"`, `"deletionTimestamp":"2026-01-02T03:04:05Z","name"`, 1), old: gateway("", good)},
		"status":           {operation: "UPDATE", sub: "status", object: gateway("", `{}`)},
		"another revision": {operation: "CREATE", object: gateway(`"istio.io/rev":"canary"`, `{}`)},
		"our revision":     {operation: "CREATE", object: gateway(`"istio.io/rev":"default"`, `{}`), refused: "spec.servers is empty", counted: "galley_validation_failed invalid_resource"},
		"our tag":          {operation: "CREATE", object: gateway(`"istio.io/rev":"prod"`, `{}`), refused: "spec.servers is empty", counted: "galley_validation_failed invalid_resource"},
		"another kind":     {operation: "CREATE", kind: "Other", object: gateway("", `{}`)},
		"no object":        {operation: "CREATE", object: `7`, refused: "the object is no JSON object", counted: "galley_validation_failed yaml_decode_error"},
		"of a wrong type":  {operation: "CREATE", object: gateway("", `{"servers":7}`), refused: "spec.servers", counted: "galley_validation_failed invalid_resource"},
		"an unknown field": {operation: "CREATE", object: gateway("", strings.Replace(good, `"servers"`, `"nope":1,"servers"`, 1)), warned: true, counted: "galley_validation_passed"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.kind == "" {
				c.kind = "Gateway"
			}
			if c.old == "" {
				c.old = "null"
			}
			body := fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","namespace":"shop","name":"g","operation":%q,"subResource":%q,
				"kind":{"group":"networking.istio.io","version":"v1","kind":%q},"resource":{"group":"networking.istio.io","version":"v1","resource":"gateways"},"object":%s,"oldObject":%s}}`,
				c.operation, c.sub, c.kind, c.object, c.old)
			registry, w := prometheus.NewRegistry(), httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodPost, "/validate", strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			validate.Handler(source{}, registry, zap.NewNop()).ServeHTTP(w, r)
			var got struct {
				Response struct {
					Allowed  bool
					Status   struct{ Message string }
					Warnings []string
				}
			}
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err, w.Body)
			}
			if got.Response.Allowed != (c.refused == "") || !strings.Contains(got.Response.Status.Message, c.refused) {
				t.Errorf("allowed %t, said %q; want %q", got.Response.Allowed, got.Response.Status.Message, c.refused)
			}
			if c.refused == "" && (len(got.Response.Warnings) > 0) != c.warned {
				t.Errorf("warnings %q", got.Response.Warnings)
			}
			if d := cmp.Diff(c.counted, counted(t, registry)); d != "" {
				t.Error(d)
			}
		})
	}
}

// counted names the counter that is not zero, with its reason.
func counted(t *testing.T, r *prometheus.Registry) string {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.GetCounter().GetValue() == 0 {
				continue
			}
			name := f.GetName()
			for _, l := range m.GetLabel() {
				if l.GetName() == "reason" {
					name += " " + l.GetValue()
				}
			}
			out = append(out, name)
		}
	}
	return strings.Join(out, ", ")
}

// What is no review is refused with a clear error and counted, and the next
// review is answered as before.
func TestWhatIsNoReviewIsCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	h := validate.Handler(source{}, registry, zap.NewNop())
	review := fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","namespace":"shop","name":"g","operation":"CREATE",
		"kind":{"group":"networking.istio.io","version":"v1","kind":"Gateway"},"object":%s}}`, gateway("", good))
	post := func(body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/validate", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		h.ServeHTTP(w, r)
		return w
	}
	bad := map[string]string{
		"malformed": `{"apiVersion":`, "unknown version": strings.Replace(review, "k8s.io/v1", "k8s.io/v9", 1), "huge": strings.Repeat(" ", 8<<20+1),
	}
	for name, body := range bad {
		if w := post(body); w.Code < 400 || w.Body.Len() == 0 {
			t.Errorf("%s: %d %q", name, w.Code, w.Body)
		}
	}
	if w := post(review); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"allowed":true`) {
		t.Errorf("a Gateway after them: %d %s", w.Code, w.Body)
	}
	if d := cmp.Diff("galley_validation_http_error, galley_validation_passed", counted(t, registry)); d != "" {
		t.Error(d)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if n := f.GetMetric()[0].GetCounter().GetValue(); f.GetName() == "galley_validation_http_error" && n != float64(len(bad)) {
			t.Errorf("%g are counted, want %d", n, len(bad))
		}
	}
}

// No user is shown thousands of lines.
func TestManyFaults(t *testing.T) {
	servers := strings.Repeat(`{"hosts":["*"],"port":{"number":0,"name":"http","protocol":"HTTP"}},`, 200)
	body := fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","namespace":"shop","name":"g","operation":"CREATE",
		"kind":{"group":"networking.istio.io","version":"v1","kind":"Gateway"},"object":%s}}`, gateway("", `{"servers":[`+strings.TrimSuffix(servers, ",")+`]}`))
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/validate", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	validate.Handler(source{}, prometheus.NewRegistry(), zap.NewNop()).ServeHTTP(w, r)
	var got struct {
		Response struct{ Status struct{ Message string } }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(got.Response.Status.Message, "\n* "); n != 21 || !strings.HasSuffix(got.Response.Status.Message, " more") {
		t.Errorf("%d lines: %s", n, got.Response.Status.Message)
	}
}
