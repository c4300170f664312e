package inject_test

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
	"github.com/pilotfish-mesh/pilotfish/webhook/inject"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

// hooks are the webhooks that a mesh's MutatingWebhookConfiguration has, by
// the labels of namespaces and pods.
const hooks = `
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: istio-sidecar-injector}
webhooks:
- name: rev.namespace.sidecar-injector.istio.io
  namespaceSelector: {matchExpressions: [{key: istio.io/rev, operator: In, values: [default]}, {key: istio-injection, operator: DoesNotExist}]}
  objectSelector: {matchExpressions: [{key: sidecar.istio.io/inject, operator: NotIn, values: ["false"]}]}
- name: rev.object.sidecar-injector.istio.io
  namespaceSelector: {matchExpressions: [{key: istio.io/rev, operator: DoesNotExist}, {key: istio-injection, operator: DoesNotExist}]}
  objectSelector: {matchExpressions: [{key: sidecar.istio.io/inject, operator: NotIn, values: ["false"]}, {key: istio.io/rev, operator: In, values: [default]}]}
- name: namespace.sidecar-injector.istio.io
  namespaceSelector: {matchExpressions: [{key: istio-injection, operator: In, values: [enabled]}]}
  objectSelector: {matchExpressions: [{key: sidecar.istio.io/inject, operator: NotIn, values: ["false"]}]}
- name: object.sidecar-injector.istio.io
  namespaceSelector: {matchExpressions: [{key: istio-injection, operator: DoesNotExist}, {key: istio.io/rev, operator: DoesNotExist}]}
  objectSelector: {matchExpressions: [{key: sidecar.istio.io/inject, operator: In, values: ["true"]}, {key: istio.io/rev, operator: DoesNotExist}]}
`

// configured is a webhook configuration that leads to a server.
func configured(t *testing.T, text string, web *httptest.Server) string {
	t.Helper()
	var o map[string]any
	if err := yaml.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	for _, h := range o["webhooks"].([]any) {
		hook := h.(map[string]any)
		hook["clientConfig"] = map[string]any{"url": web.URL + "/inject", "caBundle": base64.StdEncoding.EncodeToString(certificate)}
		hook["rules"] = []any{map[string]any{
			"operations": []any{"CREATE"}, "apiGroups": []any{""}, "apiVersions": []any{"v1"}, "resources": []any{"pods"},
		}}
		hook["admissionReviewVersions"] = []any{"v1"}
		hook["sideEffects"], hook["failurePolicy"], hook["reinvocationPolicy"] = "None", "Fail", "IfNeeded"
		hook["timeoutSeconds"] = 30
	}
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// stage is an API server that asks the webhook.
type stage struct {
	pods     func(ns string) podsOf
	client   *kubetest.Client
	registry *prometheus.Registry
}

type podsOf func(pod string, o metav1.CreateOptions) (*corev1.Pod, error)

var dry = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}

// newStage also shows each request to before.
func newStage(t *testing.T, o inject.Options, before func()) *stage {
	t.Helper()
	server := kubetest.Shared(t)
	cs, err := kubernetes.NewForConfig(server.Config())
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{client: server.Client(t), registry: prometheus.NewRegistry()}
	s.pods = func(ns string) podsOf {
		return func(pod string, o metav1.CreateOptions) (*corev1.Pod, error) {
			p := &corev1.Pod{}
			if err := yaml.UnmarshalStrict([]byte(pod), p); err != nil {
				t.Fatal(err)
			}
			p.Spec.ServiceAccountName = "default" // as an admission plugin would that needs a controller
			return cs.CoreV1().Pods(ns).Create(t.Context(), p, o)
		}
	}
	f := inject.NewFollower(o)
	f.Follow(config.NewBuilder(nil).Mesh())
	handler := inject.Handler(f, s.registry, zap.NewNop())
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		before()
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(web.Close)
	hook := configured(t, hooks, web)
	s.client.Apply(t, hook)
	t.Cleanup(func() { s.client.Delete(t, hook) })
	s.client.Apply(t, `{apiVersion: v1, kind: Namespace, metadata: {name: asked, labels: {istio-injection: enabled}}}`)
	envoytest.Eventually(t, 30*time.Second, func() string {
		p, err := s.pods("asked")(`{metadata: {generateName: a-}, spec: {containers: [{name: a, image: a}]}}`, dry)
		if err != nil || len(p.Spec.InitContainers) == 0 {
			return fmt.Sprint("the webhook is not asked: ", err)
		}
		return ""
	})
	return s
}

func containerNames(p *corev1.Pod) (inits, containers []string) {
	for _, c := range p.Spec.InitContainers {
		inits = append(inits, c.Name)
	}
	for _, c := range p.Spec.Containers {
		containers = append(containers, c.Name)
	}
	return inits, containers
}

// podCases are pods, and whether they are to be injected.
var podCases = []struct {
	namespace, what, pod string
	injected             bool
}{
	{"labelled", "a pod", `{metadata: {name: p}, spec: {containers: [{name: app, image: a}]}}`, true},
	{"labelled", "a Deployment's", `{metadata: {generateName: d-5f-, labels: {pod-template-hash: 5f}, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: d-5f, uid: u, controller: true}]},
		spec: {containers: [{name: app, image: a, ports: [{name: http, containerPort: 80}], livenessProbe: {httpGet: {path: /, port: http}}, readinessProbe: {grpc: {port: 9}}}, {name: b, image: b}]}}`, true},
	{"labelled", "a Job's", `{metadata: {generateName: j-, ownerReferences: [{apiVersion: batch/v1, kind: Job, name: j, uid: u, controller: true}]},
		spec: {restartPolicy: Never, containers: [{name: app, image: a}], initContainers: [{name: first, image: f}]}}`, true},
	{"labelled", "hardened", `{metadata: {name: h}, spec: {securityContext: {runAsUser: 5, fsGroup: 6}, containers: [{name: app, image: a, securityContext: {readOnlyRootFilesystem: true}}]}}`, true},
	{"labelled", "a user's proxy", `{metadata: {name: u}, spec: {containers: [{name: app, image: a}, {name: istio-proxy, image: auto, resources: {requests: {cpu: 1m}}}]}}`, true},
	{"labelled", "of the host's network", `{metadata: {name: node}, spec: {hostNetwork: true, containers: [{name: app, image: a}]}}`, false},
	{"labelled", "opted out", `{metadata: {name: o, labels: {sidecar.istio.io/inject: "false"}}, spec: {containers: [{name: app, image: a}]}}`, false},
	{"revision", "a pod", `{metadata: {name: p}, spec: {containers: [{name: app, image: a}]}}`, true},
	{"other", "a pod", `{metadata: {name: p}, spec: {containers: [{name: app, image: a}]}}`, false},
	{"plain", "a pod", `{metadata: {name: p}, spec: {containers: [{name: app, image: a}]}}`, false},
	{"plain", "opted in", `{metadata: {name: i, labels: {sidecar.istio.io/inject: "true"}}, spec: {containers: [{name: app, image: a}]}}`, true},
	{"plain", "of the revision", `{metadata: {name: r, labels: {istio.io/rev: default}}, spec: {containers: [{name: app, image: a}]}}`, true},
	{"disabled", "opted in", `{metadata: {name: i, labels: {sidecar.istio.io/inject: "true"}}, spec: {containers: [{name: app, image: a}]}}`, false},
	{"plain", "a gateway", `{metadata: {name: g, labels: {sidecar.istio.io/inject: "true"}, annotations: {inject.istio.io/templates: gateway}}, spec: {containers: [{name: istio-proxy, image: auto}]}}`, true},
}

// TestPodsOfAnAPIServer creates pods: the API server asks by the labels, and
// accepts what comes out.
func TestPodsOfAnAPIServer(t *testing.T) {
	for _, native := range []inject.Native{inject.NativeTrue, inject.NativeFalse} {
		t.Run("native "+string(native), func(t *testing.T) {
			s := newStage(t, inject.Options{Native: native}, func() {})
			for name, labels := range map[string]string{
				"labelled": "istio-injection: enabled", "revision": "istio.io/rev: default", "other": "istio.io/rev: canary",
				"plain": "", "disabled": "istio-injection: disabled",
			} {
				s.client.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+name+", labels: {"+labels+"}}")
			}
			for _, c := range podCases {
				pod, err := s.pods(c.namespace)(c.pod, dry)
				if err != nil {
					t.Errorf("%s, %s: %v", c.namespace, c.what, err)
					continue
				}
				inits, containers := containerNames(pod)
				var got bool
				switch {
				case c.what == "a gateway":
					got = strings.HasSuffix(pod.Spec.Containers[0].Image, "/pilotfish-proxy:latest") && len(inits) == 0
				case native == inject.NativeTrue:
					got = len(inits) >= 2 && inits[0] == "istio-init" && inits[1] == "istio-proxy"
				default:
					got = slices.Contains(containers, "istio-proxy") && len(inits) > 0 && inits[len(inits)-1] == "istio-init"
				}
				if got != c.injected {
					t.Errorf("%s, %s: init containers %v, containers %v", c.namespace, c.what, inits, containers)
				}
			}
		})
	}
}

// addsLate is a webhook that adds a container to pods that do not have it.
func addsLate(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Request struct {
				UID    string
				Object corev1.Pod
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		answer := map[string]any{"uid": in.Request.UID, "allowed": true}
		if _, containers := containerNames(&in.Request.Object); !slices.Contains(containers, "late") {
			answer["patch"] = []byte(`[{"op":"add","path":"/spec/containers/-","value":{"name":"late","image":"l"}}]`)
			answer["patchType"] = "JSONPatch"
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer})
	}))
	t.Cleanup(s.Close)
	return s
}

// Another webhook that adds a container later makes the API server ask again:
// the second answer knows the container, and there is still one proxy.
func TestAskedAgain(t *testing.T) {
	s := newStage(t, inject.Options{Native: inject.NativeTrue}, func() {})
	hook := configured(t, `{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingWebhookConfiguration, metadata: {name: later},
		webhooks: [{name: later.example.com, namespaceSelector: {matchLabels: {istio-injection: enabled}}}]}`, addsLate(t))
	s.client.Apply(t, hook)
	t.Cleanup(func() { s.client.Delete(t, hook) })
	var pod *corev1.Pod
	envoytest.Eventually(t, 30*time.Second, func() string {
		var err error
		pod, err = s.pods("asked")(`{metadata: {name: twice}, spec: {containers: [{name: app, image: a}]}}`, dry)
		if err != nil || len(pod.Spec.Containers) == 1 {
			return fmt.Sprint("the other webhook is not asked: ", err)
		}
		return ""
	})
	inits, containers := containerNames(pod)
	if !slices.Equal(inits, []string{"istio-init", "istio-proxy"}) || !slices.Equal(containers, []string{"app", "late"}) {
		t.Fatal(inits, containers)
	}
	for _, e := range pod.Spec.InitContainers[1].Env {
		if e.Name == "ISTIO_META_APP_CONTAINERS" && e.Value != "app,late" {
			t.Error(e)
		}
	}
}

// Errors reach the user, and are counted.
func TestErrorsReachTheUser(t *testing.T) {
	s := newStage(t, inject.Options{Native: inject.NativeTrue}, func() {})
	_, err := s.pods("asked")(`{metadata: {name: bad, annotations: {sidecar.istio.io/interceptionMode: MAGIC}}, spec: {containers: [{name: app, image: a}]}}`, dry)
	want := `injection of the sidecar failed: annotation sidecar.istio.io/interceptionMode is "MAGIC"; want REDIRECT, TPROXY, NONE`
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "sidecar_injection_failure_total" && f.GetMetric()[0].GetCounter().GetValue() != 1 {
			t.Error(f)
		}
	}
}

// A namespace that goes while the webhook answers: the API server refuses the
// pod or keeps it, and the next one is served as before.
func TestNamespaceGoesMeanwhile(t *testing.T) {
	outside := kubetest.Shared(t).Client(t)
	going := make(chan struct{}, 1)
	s := newStage(t, inject.Options{Native: inject.NativeTrue}, func() {
		select {
		case <-going:
			outside.Delete(t, `{apiVersion: v1, kind: Namespace, metadata: {name: going}}`)
		default:
		}
	})
	s.client.Apply(t, `{apiVersion: v1, kind: Namespace, metadata: {name: going, labels: {istio-injection: enabled}}}`)
	const pod = `{metadata: {generateName: p-}, spec: {containers: [{name: app, image: a}]}}`
	going <- struct{}{}
	if _, err := s.pods("going")(pod, metav1.CreateOptions{}); err != nil && !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) {
		t.Errorf("while the namespace went: %v", err)
	}
	if len(going) > 0 {
		t.Error("the webhook was not asked")
	}
	if _, err := s.pods("asked")(pod, dry); err != nil {
		t.Error(err)
	}
}
