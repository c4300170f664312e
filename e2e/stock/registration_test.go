package stock

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
	"github.com/pilotfish-mesh/pilotfish/serve"
)

const machines = `
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: machines, namespace: shop}
spec: {template: {serviceAccount: app, labels: {role: machine}}}
---
apiVersion: v1
kind: Service
metadata: {name: machine, namespace: shop}
spec: {clusterIP: 10.96.0.78, selector: {role: machine}, ports: [{name: http, port: 80, targetPort: 8080}]}
`

// A stock agent that names a WorkloadGroup is registered, and its probe decides
// whether its workload takes requests.
func TestStockAgentRegisters(t *testing.T) {
	s := kubetest.Start(t)
	s.Client(t).InstallCRDs(t)
	s.Client(t).Apply(t, mesh)
	s.Client(t).Apply(t, machines)
	w := startWorld(t, s, serve.Options{WorkloadEntryGrace: time.Second})
	var sick atomic.Bool
	l, err := net.Listen("tcp", podIP+":0")
	if err != nil {
		t.Fatal(err)
	}
	app := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}), ReadHeaderTimeout: time.Minute}
	go func() { _ = app.Serve(l) }()
	t.Cleanup(func() { _ = app.Close() })
	w.agent("ISTIO_META_AUTO_REGISTER_GROUP=machines", fmt.Sprintf(`PROXY_CONFIG={"discoveryAddress": %q, "binaryPath": %q, "statusPort": 15020,
		"terminationDrainDuration": "1s", "readinessProbe": {"periodSeconds": 1, "httpGet": {"path": "/", "port": %d}}}`,
		w.address, envoytest.Binary(t), l.Addr().(*net.TCPAddr).Port))
	objects, err := dynamic.NewForConfig(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	entries := objects.Resource(schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "workloadentries"}).Namespace("shop")
	healthy := func(want string) {
		t.Helper()
		envoytest.Eventually(t, 90*time.Second, func() string {
			o, err := entries.Get(context.Background(), "machines-"+podIP, metav1.GetOptions{})
			if err != nil {
				return err.Error()
			}
			conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
			for _, c := range conditions {
				if c := c.(map[string]any); c["type"] == "Healthy" && c["status"] == want {
					return ""
				}
			}
			return fmt.Sprint(o.GetAnnotations(), conditions)
		})
	}
	healthy("True")
	envoytest.Eventually(t, 30*time.Second, func() string {
		return get("http://127.0.0.1:15000/clusters", "outbound|80||machine.shop.svc.cluster.local::"+podIP+":8080::")
	})
	envoytest.Eventually(t, 30*time.Second, func() string {
		return get("http://127.0.0.1:15000/config_dump", "inbound|8080||") // by the labels that the group gives
	})
	sick.Store(true)
	healthy("False")
}
