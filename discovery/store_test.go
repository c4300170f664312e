package discovery_test

import (
	"testing"

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

func changesOf(t *testing.T, text string) []discovery.Change {
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

func TestStorePublishesADerivedMesh(t *testing.T) {
	s := discovery.NewStore(nil, "file")
	s.Apply("file", changesOf(t, shop))
	if s.Mesh() != nil {
		t.Fatal("published before the source has synced")
	}
	s.Synced("file")
	<-s.Changed()
	m := s.Mesh()
	svc, ok := m.Services.Get("shop", "reviews.shop.svc.cluster.local")
	if !ok || svc.Ports[0].Protocol != config.ProtocolHTTP || svc.Ports[0].TargetPortName != "web" || svc.Addresses[0] != "10.0.0.7" {
		t.Fatalf("service %+v", svc)
	}
	eps, _ := m.Endpoints.Get("shop", svc.Hostname)
	if eps == nil || len(eps.ByPort["http"]) != 1 {
		t.Fatalf("endpoints %+v", eps)
	}
	e := eps.ByPort["http"][0]
	if e.Address != "10.1.0.1" || e.Port != 8080 || !e.MTLS || e.ServiceAccount != "reviews" || e.Locality.String() != "r/z" || e.Labels["version"] != "v1" {
		t.Fatalf("endpoint %+v", e)
	}
	if m.VirtualServices.Len() != 1 || m.Workloads.Len() != 1 {
		t.Fatal("virtual service or workload is missing")
	}
	s.Apply("file", changesOf(t, shop))
	if s.Mesh() != m {
		t.Fatal("the same content was published again")
	}
}
