package serve_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	security "istio.io/api/security/v1alpha1"
	authentication "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
	"github.com/pilotfish-mesh/pilotfish/serve"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// replica is a control plane of a real API server.
type replica struct {
	t      *testing.T
	kube   kubernetes.Interface
	logs   *observer.ObservedLogs
	at     map[string]string // addresses by what they serve
	ended  chan error
	cancel context.CancelFunc
}

// startReplica serves the cluster of s until the test ends; change may be nil.
func startReplica(t *testing.T, s *kubetest.Server, change func(*serve.Options)) *replica {
	t.Helper()
	const any = "127.0.0.1:0"
	kube, err := kubernetes.NewForConfig(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	log, logs := observer.New(zapcore.DebugLevel)
	ctx, cancel := context.WithCancel(context.Background())
	r := &replica{t: t, kube: kube, logs: logs, at: map[string]string{}, ended: make(chan error, 1), cancel: cancel}
	o := serve.Options{
		Kubeconfig: s.Kubeconfig(), XDSAddress: any, SecureXDSAddress: any, HTTPAddress: any, MonitoringAddress: any, Log: zap.New(log),
	}
	if change != nil {
		change(&o)
	}
	go func() { r.ended <- serve.Run(ctx, o) }()
	t.Cleanup(r.stop)
	return r
}

func (r *replica) stop() {
	r.cancel()
	if err, ok := <-r.ended; ok {
		close(r.ended)
		if err != nil {
			r.t.Errorf("Run: %v", err)
		}
	}
	if r.t.Failed() {
		for _, l := range r.logs.TakeAll() {
			r.t.Log(l.Level, l.Message, l.ContextMap())
		}
	}
}

// ready waits until the replica says that it is.
func (r *replica) ready() *replica {
	r.t.Helper()
	envoytest.Eventually(r.t, 60*time.Second, func() string {
		for _, l := range r.logs.All() {
			if addr, ok := l.ContextMap()["address"].(string); ok {
				r.at[l.Message] = addr
			}
		}
		if r.at["serving readiness"] == "" {
			return "no address yet"
		}
		return r.unready()
	})
	return r
}

// says waits for a line of the log.
func (r *replica) says(message string) {
	r.t.Helper()
	envoytest.Eventually(r.t, 30*time.Second, func() string {
		if r.logs.FilterMessage(message).Len() == 0 {
			return "the log does not say: " + message
		}
		return ""
	})
}

// unready is what /ready says, nothing if the replica is ready.
func (r *replica) unready() string {
	code, body := get(r.t, "http://"+r.at["serving readiness"]+"/ready")
	if code == 200 {
		return ""
	}
	return body
}

// roots are the trust bundle as pods of a namespace mount it.
func (r *replica) roots(ns string) *x509.CertPool {
	r.t.Helper()
	pool := x509.NewCertPool()
	envoytest.Eventually(r.t, 30*time.Second, func() string {
		c, err := r.kube.CoreV1().ConfigMaps(ns).Get(r.t.Context(), "istio-ca-root-cert", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		if !pool.AppendCertsFromPEM([]byte(c.Data["root-cert.pem"])) {
			return "no certificate in the ConfigMap"
		}
		return ""
	})
	return pool
}

// token asks for a token as the kubelet does for a pod; without a pod as
// kubectl create token does.
func (r *replica) token(ns, account, pod, audience string) string {
	r.t.Helper()
	hour := int64(3600)
	req := &authentication.TokenRequest{Spec: authentication.TokenRequestSpec{Audiences: []string{audience}, ExpirationSeconds: &hour}}
	if pod != "" {
		p, err := r.kube.CoreV1().Pods(ns).Get(r.t.Context(), pod, metav1.GetOptions{})
		if err != nil {
			r.t.Fatal(err)
		}
		req.Spec.BoundObjectRef = &authentication.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod, UID: p.UID}
	}
	got, err := r.kube.CoreV1().ServiceAccounts(ns).CreateToken(r.t.Context(), account, req, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return got.Status.Token
}

// dial connects as a pod does that trusts the roots of ns, perhaps with a
// certificate, and from an address of this machine.
func (r *replica) dial(ns, from string, cert *tls.Certificate) *grpc.ClientConn {
	r.t.Helper()
	cfg := &tls.Config{RootCAs: r.roots(ns), ServerName: "istiod.istio-system.svc", MinVersion: tls.VersionTLS12}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := grpc.NewClient("passthrough:///"+r.at["serving ADS over TLS"], grpc.WithTransportCredentials(credentials.NewTLS(cfg)),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// bearing adds a token to a call.
func bearing(t *testing.T, token string) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// sign asks for a certificate as an agent does.
func sign(t *testing.T, conn *grpc.ClientConn, token, san string) (*tls.Certificate, error) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.CertificateRequest{}
	if san != "" {
		u, err := url.Parse(san)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = []*url.URL{u}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	resp, err := security.NewIstioCertificateServiceClient(conn).CreateCertificate(bearing(t, token), &security.IstioCertificateRequest{Csr: string(csr)})
	if err != nil {
		return nil, err
	}
	out := &tls.Certificate{PrivateKey: key}
	for _, text := range resp.GetCertChain()[:len(resp.GetCertChain())-1] {
		block, _ := pem.Decode([]byte(text))
		out.Certificate = append(out.Certificate, block.Bytes)
	}
	return out, nil
}

// claim is what a node says of itself.
type claim struct{ id, namespace, account string }

// stream asks for clusters, and then for a Secret if one is named: its names.
func stream(t *testing.T, conn *grpc.ClientConn, token string, c claim, secret string) ([]string, error) {
	t.Helper()
	s, err := discovery.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(bearing(t, token))
	if err != nil {
		return nil, err
	}
	md, err := structpb.NewStruct(map[string]any{"NAMESPACE": c.namespace, "SERVICE_ACCOUNT": c.account})
	if err != nil {
		t.Fatal(err)
	}
	req := &discovery.DiscoveryRequest{Node: &core.Node{Id: c.id, Metadata: md}, TypeUrl: translate.ClusterType}
	if secret != "" {
		req.TypeUrl, req.ResourceNames = translate.SecretType, []string{secret}
	}
	if err := s.Send(req); err != nil {
		return nil, err
	}
	resp, err := s.Recv()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range resp.GetResources() {
		names = append(names, r.GetTypeUrl())
	}
	return names, nil
}

const twoPods = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: admin, namespace: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop}
spec: {serviceAccountName: web, containers: [{name: a, image: a}]}
status: {phase: Running, podIP: 127.0.0.11, podIPs: [{ip: 127.0.0.11}]}
---
apiVersion: v1
kind: Pod
metadata: {name: admin-1, namespace: shop}
spec: {serviceAccountName: admin, containers: [{name: a, image: a}]}
status: {phase: Running, podIP: 127.0.0.12, podIPs: [{ip: 127.0.0.12}]}
---
apiVersion: v1
kind: Pod
metadata: {name: gone, namespace: shop}
spec: {serviceAccountName: web, containers: [{name: a, image: a}]}
`

const (
	webID   = "spiffe://cluster.local/ns/shop/sa/web"
	adminID = "spiffe://cluster.local/ns/shop/sa/admin"
)

// A pod gets a certificate for what its token proves, and with the certificate
// its configuration; with others' it gets nothing.
func TestProxiesProveWhoTheyAre(t *testing.T) {
	s := kubetest.Shared(t)
	s.Client(t).Apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}\n---\n"+twoPods)
	r := startReplica(t, s, func(o *serve.Options) { o.ReadOnly = false }).ready()
	web, admin := r.token("shop", "web", "web-1", "istio-ca"), r.token("shop", "admin", "admin-1", "istio-ca")
	gone := r.token("shop", "web", "gone", "istio-ca")
	zero := int64(0)
	if err := r.kube.CoreV1().Pods("shop").Delete(t.Context(), "gone", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	at := func(claim string, then time.Duration) string {
		return s.Resign(t, web, func(claims map[string]any) { claims[claim] = time.Now().Add(then).Unix() })
	}
	conn := r.dial("shop", "127.0.0.11", nil)
	for name, c := range map[string]struct {
		token, san string
		from       string // default: the pod's own
		want       codes.Code
		says       string
	}{
		"its own":                {token: web, san: webID},
		"no name asked for":      {token: web},
		"another identity":       {token: web, san: adminID, want: codes.PermissionDenied, says: "the caller is " + webID},
		"no token":               {want: codes.Unauthenticated, says: "no credential"},
		"not a token":            {token: "x.y", want: codes.Unauthenticated, says: "no JSON web token"},
		"a wrong audience":       {token: r.token("shop", "web", "web-1", "vault"), want: codes.Unauthenticated, says: `for audiences ["vault"]`},
		"a deleted pod's":        {token: gone, want: codes.Unauthenticated, says: "refuses the token"},
		"signed again, and good": {token: s.Resign(t, web, func(map[string]any) {})},
		"expired long ago":       {token: at("exp", -time.Hour), want: codes.Unauthenticated, says: "the token has expired at"},
		"not valid yet":          {token: at("nbf", time.Hour), want: codes.Unauthenticated, says: "refuses the token"},
		"a changed token":        {token: web[:len(web)-8] + "AAAAAAAA", want: codes.Unauthenticated, says: "refuses the token"},
		"stolen":                 {token: admin, want: codes.PermissionDenied, says: "comes from pod web-1.shop"},
		"through some gateway":   {token: admin, from: "127.0.0.99"},
		"bound to no pod":        {token: r.token("shop", "web", "", "istio-ca")},
	} {
		t.Run(name, func(t *testing.T) {
			conn := conn
			if c.from != "" {
				conn = r.dial("shop", c.from, nil)
			}
			_, err := sign(t, conn, c.token, c.san)
			if status.Code(err) != c.want || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %v and %q", err, c.want, c.says)
			}
		})
	}

	cert, err := sign(t, conn, web, webID)
	if err != nil {
		t.Fatal(err)
	}
	id := func(name string) string { return "sidecar~127.0.0.11~" + name + "~shop.svc.cluster.local" }
	withCert := r.dial("shop", "127.0.0.11", cert)
	for name, c := range map[string]struct {
		conn  *grpc.ClientConn
		token string
		claim claim
		want  codes.Code
		says  string
	}{
		"by certificate":            {withCert, "", claim{id("web-1.shop"), "shop", "web"}, codes.OK, ""},
		"by token":                  {conn, web, claim{id("web-1.shop"), "shop", "web"}, codes.OK, ""},
		"with no account claimed":   {withCert, "", claim{id("web-1.shop"), "", ""}, codes.OK, ""},
		"another account":           {withCert, "", claim{id("web-1.shop"), "shop", "admin"}, codes.PermissionDenied, `of service account "web", its node of "admin"`},
		"another pod":               {withCert, "", claim{id("admin-1.shop"), "shop", ""}, codes.PermissionDenied, `pod admin-1 has "admin"`},
		"another pod by token":      {conn, web, claim{id("web-2.shop"), "shop", "web"}, codes.PermissionDenied, `token is of pod "web-1"`},
		"another namespace":         {withCert, "", claim{id("web-1.bank"), "bank", "web"}, codes.PermissionDenied, `for namespace "shop", its node for "bank"`},
		"an id of another":          {withCert, "", claim{id("web-1.bank"), "shop", "web"}, codes.PermissionDenied, `id is of "web-1.bank"`},
		"a stolen token":            {conn, admin, claim{id("admin-1.shop"), "shop", "admin"}, codes.PermissionDenied, "comes from pod web-1.shop"},
		"nothing":                   {conn, "", claim{id("web-1.shop"), "shop", "web"}, codes.Unauthenticated, "no credential"},
		"certificate and not token": {withCert, admin, claim{id("web-1.shop"), "shop", "web"}, codes.Unauthenticated, "its token of " + adminID},
	} {
		t.Run("stream "+name, func(t *testing.T) {
			got, err := stream(t, c.conn, c.token, c.claim, "")
			if status.Code(err) != c.want || err != nil && !strings.Contains(err.Error(), c.says) || err == nil && len(got) == 0 {
				t.Errorf("%v, %v, want %v and %q", got, err, c.want, c.says)
			}
		})
	}
	// The certificate alone also renews itself.
	if _, err := sign(t, withCert, "", webID); err != nil {
		t.Errorf("renewal with the certificate: %v", err)
	}
	if _, err := sign(t, withCert, "", adminID); status.Code(err) != codes.PermissionDenied {
		t.Errorf("another identity with the certificate: %v", err)
	}
	_, metrics := get(t, "http://"+r.at["serving metrics and debug pages"]+"/metrics")
	for _, want := range []string{
		"citadel_server_success_cert_issuance_count 7", `citadel_server_csr_sign_err_count{error="other_identity"} 3`,
		"citadel_server_id_extraction_err_count 3", `citadel_server_csr_sign_err_count{error="unauthenticated"} 7`,
		"citadel_server_root_cert_expiry_timestamp 2", `pilotfish_refused_callers_total{reason="claim"} 7`,
		`pilotfish_refused_callers_total{reason="credential"} 2`, "citadel_server_authentication_failure_count 8",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

const gatewaySecrets = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: ingress, namespace: edge}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: plain, namespace: edge}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reads-one, namespace: edge}
rules: [{apiGroups: [""], resources: [secrets], resourceNames: [web-cert], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: ingress, namespace: edge}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reads-one}
subjects: [{kind: ServiceAccount, name: ingress, namespace: edge}]
`

// A gateway is sent the Secrets that its service account may read, over the
// secure address only.
func TestSecretsOfGateways(t *testing.T) {
	s := kubetest.Shared(t)
	s.Client(t).Apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}\n---\n"+gatewaySecrets)
	r := startReplica(t, s, nil).ready()
	cert, key := newAuthority(t).issue("web.example.com", 5)
	for _, name := range []string{"web-cert", "other-cert"} {
		data := map[string][]byte{}
		for k, file := range map[string]string{"tls.crt": cert, "tls.key": key} {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			data[k] = b
		}
		_, err := r.kube.CoreV1().Secrets("edge").Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Type: corev1.SecretTypeTLS, Data: data,
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	conn := r.dial("edge", "127.0.0.1", nil)
	plaintext, err := grpc.NewClient(r.at["serving ADS in plaintext"], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plaintext.Close() })
	for name, c := range map[string]struct {
		conn            *grpc.ClientConn
		account, secret string
		want            int
	}{
		"allowed":             {conn, "ingress", "kubernetes://web-cert", 1},
		"another Secret":      {conn, "ingress", "kubernetes://other-cert", 0},
		"another account":     {conn, "plain", "kubernetes://web-cert", 0},
		"another namespace's": {conn, "ingress", "kubernetes-gateway://istio-system/istio-ca-secret", 0},
		"the authority's key": {conn, "ingress", "kubernetes://istio-system/istio-ca-secret", 0},
		"in plaintext":        {plaintext, "ingress", "kubernetes://web-cert", 0},
	} {
		t.Run(name, func(t *testing.T) {
			token := r.token("edge", c.account, "", "istio-ca")
			gw := claim{"router~127.0.0.1~gw.edge~edge.svc.cluster.local", "edge", c.account}
			envoytest.Eventually(t, 20*time.Second, func() string { // until the Secret has come by the watch
				got, err := stream(t, c.conn, token, gw, c.secret)
				if err != nil || len(got) != c.want {
					return fmt.Sprintf("%d secrets, %v, want %d", len(got), err, c.want)
				}
				return ""
			})
		})
	}
}

// get reads a page.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := pages.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// pages keeps no connection that a test would leave behind.
var pages = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// mount writes the Secret of the root as the kubelet mounts it.
func (r *replica) mount() string {
	r.t.Helper()
	dir := r.t.TempDir()
	s, err := r.kube.CoreV1().Secrets("istio-system").Get(r.t.Context(), "istio-ca-secret", metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	for k, v := range s.Data {
		if err := os.WriteFile(filepath.Join(dir, k), v, 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	return dir
}

// A replica that starts while the API server is away serves the last good
// state to proxies with certificates, says that it is stale, and catches up.
func TestRestartWithoutServer(t *testing.T) {
	s := kubetest.Start(t)
	s.Client(t).Apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}\n---\n"+twoPods+
		"\n---\n{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{name: http, port: 80}]}}")
	state := t.TempDir()
	first := startReplica(t, s, func(o *serve.Options) { o.StateDir = state }).ready()
	cert, err := sign(t, first.dial("shop", "127.0.0.11", nil), first.token("shop", "web", "web-1", "istio-ca"), webID)
	if err != nil {
		t.Fatal(err)
	}
	web := claim{"sidecar~127.0.0.11~web-1.shop~shop.svc.cluster.local", "shop", "web"}
	before, err := stream(t, first.dial("shop", "127.0.0.11", cert), "", web, "")
	if err != nil {
		t.Fatal(err)
	}
	mounted := map[string]string{"istio-ca-secret": first.mount()}
	roots := first.roots("shop")
	first.stop()
	s.Stop(t)

	second := startReplica(t, s, func(o *serve.Options) { o.StateDir, o.MountedSecrets = state, mounted }).ready()
	readiness := "http://" + second.at["serving readiness"] + "/ready"
	if _, body := get(t, readiness); !strings.Contains(body, "stale") {
		t.Errorf("/ready says %q", body)
	}
	cfg := &tls.Config{RootCAs: roots, ServerName: "istiod.istio-system.svc", Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}
	conn, err := grpc.NewClient(second.at["serving ADS over TLS"], grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	after, err := stream(t, conn, "", web, "")
	if err != nil || len(after) != len(before) {
		t.Errorf("serves %d clusters, %v, want %d", len(after), err, len(before))
	}
	// What needs the API server is refused for the time being.
	if _, err := sign(t, conn, "a.eyJhdWQiOlsiaXN0aW8tY2EiXSwiZXhwIjo5OTk5OTk5OTk5fQ.c", webID); status.Code(err) != codes.Unavailable {
		t.Errorf("a token that nobody can review: %v", err)
	}
	if _, err := sign(t, conn, "", webID); err != nil {
		t.Errorf("renewal with the certificate: %v", err)
	}
	const stale = "pilotfish_state_stale_seconds"
	if n := second.metrics()[stale]; n <= 0 {
		t.Errorf("%s is %g", stale, n)
	}
	s.Restart(t)
	envoytest.Eventually(t, 60*time.Second, func() string {
		_, body := get(t, readiness)
		return strings.TrimPrefix(body, "ready\n")
	})
	if n := second.metrics()[stale]; n != 0 {
		t.Errorf("%s is %g", stale, n)
	}
}
