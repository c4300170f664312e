package serve_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
	"github.com/pilotfish-mesh/pilotfish/e2e/pki"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

const (
	frontAndVault = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: gw, namespace: front}
---
apiVersion: v1
kind: Namespace
metadata: {name: vault}
---
`
	namingGateway = frontAndVault + `apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: front}
spec:
  selector: {istio: front}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [a.example.com]
    tls: {mode: SIMPLE, credentialName: "kubernetes-gateway://vault/cert"}
`
	grantToFront = `
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: front, namespace: vault}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: front}]
  to: [{group: "", kind: Secret, name: cert}]
`
)

// asking is a delta stream that has asked for one Secret.
type asking struct {
	t      *testing.T
	stream grpc.BidiStreamingClient[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse]
	name   string
}

func subscribe(t *testing.T, conn *grpc.ClientConn, token, node, secret string) *asking {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	s, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(
		metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token))
	if err != nil {
		t.Fatal(err)
	}
	md, err := structpb.NewStruct(map[string]any{
		"NAMESPACE": "front", "SERVICE_ACCOUNT": "gw", "LABELS": map[string]any{"istio": "front"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&discovery.DeltaDiscoveryRequest{
		Node: &core.Node{Id: node, Metadata: md}, TypeUrl: translate.SecretType, ResourceNamesSubscribe: []string{secret},
	}); err != nil {
		t.Fatal(err)
	}
	return &asking{t, s, secret}
}

// told waits for the next response, takes it, and returns whether it has the
// Secret rather than that there is none.
func (a *asking) told() bool {
	a.t.Helper()
	r, err := a.stream.Recv()
	if err != nil {
		a.t.Fatal(err)
	}
	if err := a.stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}); err != nil {
		a.t.Fatal(err)
	}
	has := slices.ContainsFunc(r.GetResources(), func(r *discovery.Resource) bool { return r.GetName() == a.name })
	if has == slices.Contains(r.GetRemovedResources(), a.name) {
		a.t.Fatalf("a response neither has %s nor takes it away", a.name)
	}
	return has
}

// A gateway is sent a Secret of another namespace while a ReferenceGrant is
// there, whose CRD comes last. Sidecars of its service account are not.
func TestReferenceGrants(t *testing.T) {
	s := kubetest.Shared(t)
	c := s.Client(t)
	c.InstallCRDs(t, "Gateway")
	t.Cleanup(func() { c.RemoveCRDs(t, "Gateway") })
	c.Apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}\n---\n"+namingGateway)
	r := startReplica(t, s, nil).ready()
	_, err := r.kube.CoreV1().Secrets("vault").Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "cert"}, Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths": {"kept-from-logs": {}}}`)},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const (
		secret  = "kubernetes-gateway://vault/cert"
		gateway = "router~127.0.0.1~gw.front~front.svc.cluster.local"
		another = "router~127.0.0.1~gw-2.front~front.svc.cluster.local"
		sidecar = "sidecar~127.0.0.1~gw-3.front~front.svc.cluster.local"
	)
	conn, token := r.dial("front", "127.0.0.1", nil), r.token("front", "gw", "", "istio-ca")
	a := subscribe(t, conn, token, gateway, secret)
	if a.told() {
		t.Fatal("the Secret is given without a grant")
	}
	t.Cleanup(func() { c.RemoveReferenceGrants(t) })
	c.InstallReferenceGrants(t)
	for range 2 {
		c.Apply(t, grantToFront)
		if !a.told() {
			t.Fatal("the Secret is not given with a grant")
		}
		if !subscribe(t, conn, token, another, secret).told() {
			t.Error("a new stream of the gateway is not given the Secret")
		}
		if subscribe(t, conn, token, sidecar, secret).told() {
			t.Error("a sidecar is given the Secret")
		}
		if subscribe(t, conn, token, another, "kubernetes://vault/cert").told() {
			t.Error("the Secret is given by a name that no grant is for")
		}
		code, page := get(t, "http://"+r.at["serving metrics and debug pages"]+"/debug/config_dump?proxyID=gw.front")
		if code != 200 || !strings.Contains(page, secret) {
			t.Errorf("the debug page does not say that the Secret is given: %d %s", code, page)
		}
		if strings.Contains(page, "kept-from-logs") || strings.Contains(page, "a2VwdC1mcm9tLWxvZ3") {
			t.Error("a debug page shows the Secret")
		}
		c.Delete(t, grantToFront)
		if a.told() {
			t.Fatal("the Secret is still given")
		}
		if subscribe(t, conn, token, another, secret).told() {
			t.Error("a new stream is given the Secret after the grant's end")
		}
	}
	c.Apply(t, grantToFront)
	if !a.told() {
		t.Fatal("the Secret is not given with a grant")
	}
	c.Delete(t, "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: gw, namespace: front}}")
	if a.told() {
		t.Fatal("the Secret is given though no Gateway names it")
	}
	for _, l := range r.logs.All() {
		if text := fmt.Sprint(l.Message, l.ContextMap()); strings.Contains(text, "kept-from-logs") {
			t.Errorf("a log line shows the Secret: %s", text)
		}
	}
}

const manyNames = frontAndVault + `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: many, namespace: front}
spec:
  selector: {istio: front}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [a.example.com]
    tls:
      mode: MUTUAL
      credentialNames: ["kubernetes-gateway://vault/rsa", "kubernetes-gateway://vault/ec"]
      caCertCredentialName: "kubernetes-gateway://vault/clients"
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: many, namespace: vault}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: front}]
  to: [{group: "", kind: Secret, name: rsa}, {group: "", kind: Secret, name: ec}, {group: "", kind: Secret, name: clients}]
`

// By each field that names Secrets a gateway gets those of another namespace that
// a grant is for, and of an authority never the key.
func TestGrantsByEachField(t *testing.T) {
	s := kubetest.Shared(t)
	c := s.Client(t)
	c.InstallCRDs(t, "Gateway")
	t.Cleanup(func() { c.RemoveCRDs(t, "Gateway") })
	c.InstallReferenceGrants(t)
	t.Cleanup(func() { c.RemoveReferenceGrants(t) })
	c.Apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}\n---\n"+manyNames)
	r := startReplica(t, s, nil).ready()
	authority, err := pki.Root("clients", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rsa", "ec", "clients", "private"} {
		_, err := r.kube.CoreV1().Secrets("vault").Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Type: corev1.SecretTypeTLS,
			Data: map[string][]byte{"tls.crt": authority.Cert, "tls.key": authority.KeyPEM, "ca.crt": authority.Cert},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = r.kube.CoreV1().Secrets("vault").Delete(context.Background(), name, metav1.DeleteOptions{})
		})
	}
	conn, token := r.dial("front", "127.0.0.1", nil), r.token("front", "gw", "", "istio-ca")
	for i, c := range []struct {
		name string
		want bool
	}{
		{"rsa", true}, {"ec", true}, {"clients-cacert", true},
		{"clients", false}, {"rsa-cacert", false}, {"private", false}, {"private-cacert", false},
	} {
		node := fmt.Sprintf("router~127.0.0.1~gw-%d.front~front.svc.cluster.local", i)
		a := subscribe(t, conn, token, node, "kubernetes-gateway://vault/"+c.name)
		if c.want {
			envoytest.Eventually(t, 30*time.Second, func() string { // the watches bring Secret, grant and Gateway in any order
				if !a.told() {
					return "is not given"
				}
				return ""
			})
		} else if a.told() {
			t.Errorf("%s is given", c.name)
		}
	}
}
