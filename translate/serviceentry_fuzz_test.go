package translate_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// around is what fuzzed objects of ServiceEntry's family meet: each other, and
// a pod with their labels.
const around = `
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: default, labels: {app: a}}
spec: {containers: [{name: app, ports: [{name: http, containerPort: 8080}]}]}
status: {podIP: 10.1.0.1, phase: Running, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: near, namespace: default}
spec:
  hosts: [near.test, "*.near.test"]
  addresses: [240.1.1.1]
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 9000, name: tcp, protocol: TCP, targetPort: 9001}]
  workloadSelector: {labels: {app: a}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: near, namespace: default}
spec: {address: 10.1.0.7, labels: {app: a}}
`

// FuzzServiceEntry: one that passes its checks makes services, clusters,
// endpoints, listeners and routes that pass Envoy's validation.
func FuzzServiceEntry(f *testing.F) {
	translate.AddCases(f, "ServiceEntry")
	for _, s := range []string{
		`{"hosts": ["a.test", "*.b.test"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "DNS", "endpoints": [{"address": "c.test", "ports": {"http": 8080}, "weight": 3, "locality": "a/b/c"}]}`,
		`{"hosts": ["a.test"], "addresses": ["10.0.0.0/8", "::1", "2001:db8::/32"], "ports": [{"number": 443, "name": "tls", "protocol": "TLS", "targetPort": 8443}], "resolution": "STATIC", "endpoints": [{"address": "unix:///x"}, {"address": "10.9.9.9", "network": "n", "serviceAccount": "s"}]}`,
		`{"hosts": ["a.test"], "ports": [{"number": 1, "name": "t", "protocol": "TCP"}], "resolution": "NONE", "exportTo": [".", "x"], "subjectAltNames": ["spiffe://a"]}`,
		`{"hosts": ["near.test", "near.test", "NEAR.test."], "location": "MESH_INTERNAL", "ports": [{"number": 80, "name": "http2", "protocol": "GRPC"}], "resolution": "STATIC", "workloadSelector": {"labels": {"app": "a"}}}`,
		`{"hosts": ["*.d.test"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}, {"number": 443, "name": "tls", "protocol": "TLS"}], "resolution": "DYNAMIC_DNS"}`,
		`{"hosts": ["r.test"], "ports": [{"number": 80, "name": "http", "protocol": "MONGO"}], "resolution": "DNS_ROUND_ROBIN"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, js []byte) { soundWith(t, "ServiceEntry", js, &networking.ServiceEntry{}) })
}

// FuzzWorkloadEntry is the same for WorkloadEntries.
func FuzzWorkloadEntry(f *testing.F) {
	translate.AddCases(f, "WorkloadEntry")
	for _, s := range []string{
		`{"address": "10.1.0.8", "labels": {"app": "a"}, "ports": {"http": 8081, "tcp": 1}, "weight": 4294967295, "locality": "a/b", "network": "x", "serviceAccount": "s"}`,
		`{"address": "unix:///var/run/x", "labels": {"app": "a"}}`,
		`{"address": "host.test", "labels": {"app": "a"}, "ports": {"http": 0}}`,
		`{"address": "::1", "labels": {"app": "a", "istio-locality": "a.b.c", "topology.istio.io/network": "n"}}`,
		`{"network": "n", "labels": {"app": "a"}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, js []byte) { soundWith(t, "WorkloadEntry", js, &networking.WorkloadEntry{}) })
}

// FuzzWorkloadGroup is the same for WorkloadGroups.
func FuzzWorkloadGroup(f *testing.F) {
	translate.AddCases(f, "WorkloadGroup")
	for _, s := range []string{
		`{"metadata": {"labels": {"app": "a"}, "annotations": {"x": "y"}}, "template": {"address": "10.1.0.9", "ports": {"http": 80}, "serviceAccount": "s"}, "probe": {"httpGet": {"path": "/x", "port": 8080, "host": "h", "scheme": "HTTPS", "httpHeaders": [{"name": "a", "value": "b"}]}, "periodSeconds": 1}}`,
		`{"template": {"weight": 1}, "probe": {"tcpSocket": {"port": 70000}, "timeoutSeconds": -1}}`,
		`{"template": {}, "probe": {"exec": {"command": ["a", ""]}, "failureThreshold": 3}}`,
		`{"template": {}, "probe": {"grpc": {"port": 1, "service": "s"}}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, js []byte) { soundWith(t, "WorkloadGroup", js, &networking.WorkloadGroup{}) })
}

// soundWith adds one object to the mesh of around and requires every resource
// of a sidecar and a gateway to be valid.
func soundWith(t *testing.T, kind string, js []byte, spec proto.Message) {
	if (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(config.PlainDurations(js, spec.ProtoReflect().Descriptor()), spec) != nil {
		return
	}
	store := discovery.NewStore(translate.Check, "fuzz")
	objects, problems := file.Parse("around.yaml", []byte(around))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	objects = append(objects, discovery.Object{Body: spec, Meta: config.Meta{
		Key:     config.Key{Group: discovery.NetworkingGroup, Kind: kind, Namespace: "default", Name: "fuzzed"},
		Version: "v1",
	}})
	for _, o := range objects {
		store.Apply("fuzz", []discovery.Change{{Object: o}})
	}
	store.Synced("fuzz")
	w := &world{mesh: store.Mesh(), index: translate.NewIndex(store.Mesh()), translate: translate.NewTranslator(1000)}
	w.index.Problems()
	for _, w.proxy = range []*config.Proxy{defaultProxy(), makeProxy(proxySection{Type: "router", Labels: map[string]string{"app": "a"}})} {
		w.resources = nil
		for _, c := range w.index.Classes(w.proxy) {
			r := w.translate.Translate(w.index.Scope(c))
			for _, p := range r.Problems {
				if strings.HasSuffix(p.Code, "Invalid") || p.Code == "NotEncodable" {
					t.Errorf("the checks let pass what Envoy refuses: %s\n%s", p, js)
				}
			}
			w.resources = append(w.resources, r)
		}
		for _, kind := range []string{"cluster", "listener", "route", "endpoints"} {
			for _, r := range w.all(kind) {
				w.decode(t, kind, r)
			}
		}
	}
}
