package up

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

// planned is a plan in short: role, ports and what else is special, by key.
func planned(t *testing.T, yaml string) map[string]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mesh.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o644); err != nil {
		t.Fatal(err)
	}
	m, problems, err := file.Load(path)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	out := map[string]string{}
	for key, p := range plan(m, nil) {
		text := map[role]string{plain: "plain", sidecar: "sidecar", gateway: "gateway"}[p.role]
		for _, n := range p.ports {
			text += fmt.Sprintf(" %d", n)
		}
		if p.made {
			text += " made"
		}
		if p.fixed != "" {
			text += " at " + p.fixed
		}
		out[key] = text
	}
	return out
}

func TestPlan(t *testing.T) {
	got := planned(t, `
apiVersion: v1
kind: Service
metadata: {name: shop}
spec:
  selector: {app: shop}
  ports:
  - {name: http, port: 80, targetPort: web}
  - {name: admin, port: 4096}
  - {name: dns, port: 53, protocol: UDP}
---
apiVersion: v1
kind: Pod
metadata: {name: shop, labels: {app: shop}}
spec:
  containers:
  - {name: c, image: i, ports: [{name: web, containerPort: 8192}, {name: own, containerPort: 15020}]}
---
apiVersion: v1
kind: Pod
metadata: {name: bare, labels: {sidecar.istio.io/inject: "false"}}
spec: {containers: [{name: c, image: i, ports: [{name: web, containerPort: 256}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: edge, labels: {istio: edge}, annotations: {inject.istio.io/templates: gateway}}
spec: {containers: [{name: c, image: auto, ports: [{name: web, containerPort: 8192}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: chosen, labels: {istio: chosen}}
spec: {containers: [{name: c, image: auto}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm}
spec: {address: 10.1.2.3, ports: {http: 256}, labels: {app: vm}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: a}
spec: {selector: {istio: chosen}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: b}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: c}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 81, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: d}
spec: {selector: {app: other}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
`)
	want := map[string]string{
		"default/shop":                        "sidecar 4096 8192",
		"default/bare":                        "plain 256",
		"default/edge":                        "gateway",
		"default/chosen":                      "gateway",
		"default/vm":                          "sidecar 256 at 10.1.2.3",
		"istio-system/istio-ingressgateway":   "gateway made",
		"istio-system/istio-ingressgateway-2": "gateway made",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestResolve(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mesh.yaml")
	if err := os.WriteFile(path, []byte(`
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: a}
spec: {clusterIP: 10.96.0.7, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: b}
spec: {type: ExternalName, externalName: shop.a.svc.cluster.local}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: out, namespace: a}
spec: {hosts: [out.example.com], addresses: [192.0.2.77], ports: [{number: 80, name: http, protocol: HTTP}], resolution: NONE}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	m, _, err := file.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ ns, host, want string }{
		{"a", "shop", "10.96.0.7"},
		{"b", "shop.a", "10.96.0.7"},
		{"b", "shop.a.svc", "10.96.0.7"},
		{"b", "SHOP.a.svc.cluster.local.", "10.96.0.7"},
		{"b", "alias", "10.96.0.7"},
		{"b", "out.example.com", "192.0.2.77"},
		{"b", "elsewhere.example.org", outsideAddress.String()},
		{"b", "shop", ""},
		{"b", "nobody.a.svc.cluster.local", ""},
	} {
		got, err := resolve(m, c.ns, c.host)
		if c.want == "" {
			if err == nil {
				t.Errorf("%s in %s is %v, want an error", c.host, c.ns, got)
			}
			continue
		}
		if err != nil || got.String() != c.want {
			t.Errorf("%s in %s is %v (%v), want %s", c.host, c.ns, got, err, c.want)
		}
	}
}
