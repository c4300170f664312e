package serve_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/structpb"
	mesh "istio.io/api/mesh/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
)

// Agents that ask are told whom to trust, and again when that changes: the
// authority's roots and those of MeshConfig caCertificates.
func TestAgentsAreToldOfRoots(t *testing.T) {
	s := kubetest.Start(t)
	s.Client(t).Apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}\n---\n"+twoPods)
	r := startReplica(t, s, nil).ready()
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(r.dial("shop", "127.0.0.11", nil)).DeltaAggregatedResources(bearing(t, r.token("shop", "web", "web-1", "istio-ca")))
	if err != nil {
		t.Fatal(err)
	}
	md, err := structpb.NewStruct(map[string]any{"NAMESPACE": "shop"})
	if err != nil {
		t.Fatal(err)
	}
	const url = "type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig"
	if err := stream.Send(&discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: "sidecar~127.0.0.11~web-1.shop~shop.svc.cluster.local", Metadata: md}, TypeUrl: url}); err != nil {
		t.Fatal(err)
	}
	told := func() string {
		t.Helper()
		resp, err := stream.Recv()
		if err != nil || len(resp.GetResources()) != 1 {
			t.Fatal(resp, err)
		}
		if err := stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: url, ResponseNonce: resp.GetNonce()}); err != nil {
			t.Fatal(err)
		}
		pc := &mesh.ProxyConfig{}
		if err := resp.GetResources()[0].GetResource().UnmarshalTo(pc); err != nil {
			t.Fatal(err)
		}
		return strings.Join(pc.GetCaCertificatesPem(), "")
	}
	bundle := func() string {
		c, err := r.kube.CoreV1().ConfigMaps("shop").Get(t.Context(), "istio-ca-root-cert", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		return c.Data["root-cert.pem"]
	}
	r.roots("shop")
	first := told()
	if first != bundle() || strings.Count(first, "BEGIN") != 1 {
		t.Errorf("told of %q, ConfigMap %q", first, bundle())
	}
	other := newAuthority(t)
	pem := readFile(t, other.root())
	settings := fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    caCertificates:\n    - pem: %q\n", pem)
	s.Client(t).Apply(t, settings)
	second := told()
	if strings.Count(second, "BEGIN") != 2 || !strings.Contains(second, pem) {
		t.Errorf("told of %q", second)
	}
	envoytest.Eventually(t, 30*time.Second, func() string {
		if bundle() != second {
			return "the ConfigMap differs"
		}
		return ""
	})
	s.Client(t).Delete(t, settings)
	if third := told(); third != first {
		t.Errorf("told of %q without MeshConfig", third)
	}
	r.says("MeshConfig: no ConfigMap has it any more: the defaults are in effect")
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
