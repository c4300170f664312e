package serve_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
	"github.com/pilotfish-mesh/pilotfish/serve"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

const machines = `
{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: db, namespace: vms}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: other, namespace: vms}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: db, namespace: vms}
spec:
  metadata: {labels: {app: db}, annotations: {team: storage}}
  template: {serviceAccount: db, ports: {tcp: 5433}, labels: {app: replaced, class: vm}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db, namespace: vms}
spec:
  hosts: [db.vms.example]
  ports: [{number: 5432, name: tcp, protocol: TCP}]
  resolution: STATIC
  workloadSelector: {labels: {app: db}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: by-hand, namespace: vms, annotations: {proxy.istio.io/health-checks-enabled: "true"}}
spec: {address: 10.9.0.9, serviceAccount: db, labels: {app: db}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: db-10.9.0.8, namespace: vms}
spec: {address: 10.9.0.8, labels: {app: elsewhere}}
`

var workloadEntries = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "workloadentries"}

// machine is the agent of a workload outside of Kubernetes.
type machine struct {
	t       *testing.T
	replica *replica
	account string
	node    map[string]any // metadata
	ip      string
}

// connect opens a stream and asks for endpoints of the database. The stream ends
// with end.
func (m *machine) connect(token string) (s grpc.BidiStreamingClient[discovery.DiscoveryRequest, discovery.DiscoveryResponse], end func(), err error) {
	m.t.Helper()
	ctx, end := context.WithCancel(bearing(m.t, token))
	m.t.Cleanup(end)
	s, err = discovery.NewAggregatedDiscoveryServiceClient(m.replica.dial("vms", "127.0.0.1", nil)).StreamAggregatedResources(ctx)
	if err != nil {
		m.t.Fatal(err)
	}
	md, err := structpb.NewStruct(m.node)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := s.Send(&discovery.DiscoveryRequest{
		Node:    &core.Node{Id: "sidecar~" + m.ip + "~machine-1.vms~vms.svc.cluster.local", Metadata: md, Locality: &core.Locality{Region: "here"}},
		TypeUrl: translate.EndpointType, ResourceNames: []string{"outbound|5432||db.vms.example"},
	}); err != nil {
		m.t.Fatal(err)
	}
	_, err = s.Recv()
	return s, end, err
}

func (m *machine) connected() (s grpc.BidiStreamingClient[discovery.DiscoveryRequest, discovery.DiscoveryResponse], end func()) {
	m.t.Helper()
	s, end, err := m.connect(m.replica.token("vms", m.account, "", "istio-ca"))
	if err != nil {
		m.t.Fatal(err)
	}
	return s, end
}

// entry waits until the WorkloadEntry is as wanted; nil stands for none.
func (r *replica) entry(objects dynamic.Interface, name string, wrong func(*unstructured.Unstructured) string) {
	r.t.Helper()
	envoytest.Eventually(r.t, 30*time.Second, func() string {
		o, err := objects.Resource(workloadEntries).Namespace("vms").Get(context.Background(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			o, err = nil, nil
		}
		if err != nil {
			return err.Error()
		}
		if o == nil && wrong != nil {
			return "it is not there"
		}
		if wrong == nil {
			if o != nil {
				return "it is still there"
			}
			return ""
		}
		return wrong(o)
	})
}

// connectedTo is what an entry must say whose proxy is connected to a replica.
func connectedTo(identity string) func(*unstructured.Unstructured) string {
	return func(o *unstructured.Unstructured) string {
		a := o.GetAnnotations()
		if a["istio.io/workloadController"] != identity || a["istio.io/connectedAt"] == "" || a["istio.io/disconnectedAt"] != "" {
			return fmt.Sprint(a)
		}
		return ""
	}
}

// hasEndpoint waits until a replica has, or has not, an endpoint of the database.
func (r *replica) hasEndpoint(address string, want bool) {
	r.t.Helper()
	envoytest.Eventually(r.t, 30*time.Second, func() string {
		_, body := get(r.t, "http://"+r.at["serving readiness"]+"/debug/endpointz")
		if strings.Contains(body, `"`+address+`"`) != want {
			return "endpoints: " + body
		}
		return ""
	})
}

// A workload outside of Kubernetes registers itself, takes requests while it is
// healthy, moves to another replica, and is gone when it does not come back.
func TestRegistration(t *testing.T) {
	s := kubetest.Start(t)
	s.Client(t).InstallCRDs(t)
	s.Client(t).Apply(t, machines)
	objects, err := dynamic.NewForConfig(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	start := func(identity string) *replica {
		return startReplica(t, s, func(o *serve.Options) { o.Identity, o.WorkloadEntryGrace = identity, 2*time.Second }).ready()
	}
	one, two := start("one"), start("two")
	const name = "db-10.9.0.7-west"
	m := &machine{t: t, replica: one, account: "db", ip: "10.9.0.7", node: map[string]any{
		"NAMESPACE": "vms", "SERVICE_ACCOUNT": "db", "AUTO_REGISTER_GROUP": "db", "NETWORK": "west", "LABELS": map[string]any{"version": "v2"},
		"PROXY_CONFIG": map[string]any{"readinessProbe": map[string]any{"periodSeconds": 1}},
	}}
	for what, c := range map[string]struct {
		change  func(*machine)
		account string
		code    codes.Code
		says    string
	}{
		"another service account":       {func(*machine) {}, "other", codes.PermissionDenied, `is of service account "db", the proxy has proven to be of "other"`},
		"a group that is not there":     {func(m *machine) { m.node["AUTO_REGISTER_GROUP"] = "none" }, "db", codes.FailedPrecondition, "there is no WorkloadGroup vms/none"},
		"an entry that was not made so": {func(m *machine) { m.ip, m.node["NETWORK"] = "10.9.0.8", "" }, "db", codes.AlreadyExists, "WorkloadEntry vms/db-10.9.0.8 is there and was not made"},
		"an entry that is not there":    {func(m *machine) { delete(m.node, "AUTO_REGISTER_GROUP"); m.node["WORKLOAD_ENTRY"] = "none" }, "db", codes.FailedPrecondition, "vms/none, which does not exist"},
	} {
		t.Run(what, func(t *testing.T) {
			bad := *m
			bad.t, bad.node = t, map[string]any{}
			for k, v := range m.node {
				bad.node[k] = v
			}
			delete(bad.node, "SERVICE_ACCOUNT")
			c.change(&bad)
			_, _, err := bad.connect(one.token("vms", c.account, "", "istio-ca"))
			if status.Code(err) != c.code || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %v and %q", err, c.code, c.says)
			}
		})
	}
	t.Run("in plaintext", func(t *testing.T) {
		conn, err := grpc.NewClient(one.at["serving ADS in plaintext"], grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		s, err := discovery.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		md, _ := structpb.NewStruct(m.node)
		if err := s.Send(&discovery.DiscoveryRequest{Node: &core.Node{Id: "sidecar~10.9.0.7~machine-1.vms~vms.svc.cluster.local", Metadata: md}, TypeUrl: translate.ClusterType}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "have proven who they are") {
			t.Error(err)
		}
	})
	one.entry(objects, name, nil)

	stream, end := m.connected()
	one.entry(objects, name, func(o *unstructured.Unstructured) string {
		spec, _, _ := unstructured.NestedMap(o.Object, "spec")
		if text := fmt.Sprint(spec); text != "map[address:10.9.0.7 labels:map[app:db class:vm version:v2] locality:here network:west ports:map[tcp:5433] serviceAccount:db]" {
			return text
		}
		a, owners := o.GetAnnotations(), o.GetOwnerReferences()
		if a["istio.io/autoRegistrationGroup"] != "db" || a["team"] != "storage" || a["proxy.istio.io/health-checks-enabled"] != "true" || o.GetLabels()["app"] != "db" {
			return fmt.Sprint(a, o.GetLabels())
		}
		if len(owners) != 1 || owners[0].Kind != "WorkloadGroup" || owners[0].Name != "db" || owners[0].UID == "" {
			return fmt.Sprint(owners)
		}
		return connectedTo("one")(o)
	})
	one.hasEndpoint("10.9.0.7", false) // nobody knows yet that it is healthy
	report := func(fault *rpc.Status) {
		t.Helper()
		if err := stream.Send(&discovery.DiscoveryRequest{TypeUrl: "type.googleapis.com/istio.v1.HealthInformation", ErrorDetail: fault}); err != nil {
			t.Fatal(err)
		}
	}
	health := func(want string) func(*unstructured.Unstructured) string {
		return func(o *unstructured.Unstructured) string {
			list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
			for _, c := range list {
				if c := c.(map[string]any); c["type"] == "Healthy" {
					if got := fmt.Sprint(c["status"], " ", c["message"]); got != want {
						return got
					}
					return ""
				}
			}
			return fmt.Sprint(list)
		}
	}
	report(nil)
	one.entry(objects, name, health("True <nil>"))
	for _, r := range []*replica{one, two} {
		r.hasEndpoint("10.9.0.7", true)
	}
	report(&rpc.Status{Code: 13, Message: "connection refused"})
	one.entry(objects, name, health("False connection refused"))
	two.hasEndpoint("10.9.0.7", false)
	report(nil)
	two.hasEndpoint("10.9.0.7", true)

	// It goes to another replica and is nobody's loss.
	m.replica = two
	again, endAgain := m.connected()
	two.entry(objects, name, connectedTo("two"))
	end()
	if err := objects.Resource(workloadEntries).Namespace("vms").Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	two.entry(objects, name, connectedTo("two")) // made again for the one that is there
	_ = again
	endAgain()
	two.entry(objects, name, func(o *unstructured.Unstructured) string {
		if a := o.GetAnnotations(); a["istio.io/disconnectedAt"] == "" || a["istio.io/connectedAt"] != "" {
			return fmt.Sprint(a)
		}
		return ""
	})
	_, endThird := m.connected() // within its grace
	two.entry(objects, name, connectedTo("two"))
	endThird()
	two.entry(objects, name, nil)

	// An entry that somebody has written by hand has its health from its proxy, and
	// stays.
	delete(m.node, "AUTO_REGISTER_GROUP")
	m.node["WORKLOAD_ENTRY"], m.ip = "by-hand", "10.9.0.9"
	two.hasEndpoint("10.9.0.9", false)
	stream, end = m.connected()
	two.entry(objects, "by-hand", connectedTo("two"))
	report(nil)
	two.hasEndpoint("10.9.0.9", true)
	end()
	two.hasEndpoint("10.9.0.9", false)
	two.entry(objects, "by-hand", func(o *unstructured.Unstructured) string {
		if a := o.GetAnnotations(); a["istio.io/workloadController"] != "" {
			return fmt.Sprint(a)
		}
		return ""
	})
	if n := two.metrics()["auto_registration_updates_total"]; n != 2 {
		t.Errorf("the machine came back %g times to the second replica, want 2", n)
	}
	metrics := ""
	for _, r := range []*replica{one, two} {
		_, text := get(t, "http://"+r.at["serving metrics and debug pages"]+"/metrics")
		metrics += text
	}
	for _, want := range []string{"auto_registration_success_total 1", "auto_registration_unregister_total 2", "auto_registration_errors_total 5", "auto_registration_deletes_total"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}
