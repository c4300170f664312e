package stock

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	xdscreds "google.golang.org/grpc/credentials/xds"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/xds"

	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/serve"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// grpcWorld is a control plane of a folder, and certificates for the workloads
// of namespace shop.
type grpcWorld struct {
	t         *testing.T
	folder    string
	address   string
	authority *ca.Authority
}

const grpcMesh = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: shop}
spec: {selector: {app: echo}, ports: [{name: grpc, port: 80, targetPort: 50051}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo, namespace: shop}
spec:
  host: echo
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
` + "---\n" + echoPod + "---\n"

const echoPod = `
apiVersion: v1
kind: Pod
metadata: {name: echo-v1, namespace: shop, labels: {app: echo, version: v1, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: echo, containers: [{name: a, image: a, ports: [{containerPort: 50051}]}]}
status: {phase: Running, podIP: 127.0.1.1, podIPs: [{ip: 127.0.1.1}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: echo-v2, namespace: shop, labels: {app: echo, version: v2, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: echo, containers: [{name: a, image: a, ports: [{containerPort: 50051}]}]}
status: {phase: Running, podIP: 127.0.1.2, podIPs: [{ip: 127.0.1.2}], conditions: [{type: Ready, status: "True"}]}
`

func newGRPCWorld(t *testing.T) *grpcWorld {
	t.Helper()
	w := &grpcWorld{t: t, folder: t.TempDir()}
	root, err := ca.SelfSigned("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	w.authority = ca.NewAuthority(root, ca.Options{})
	w.write("mesh.yaml", grpcMesh)
	plane := serve.NewPlane([]serve.NamedSource{{Name: file.Name, Source: file.New([]string{w.folder})}}, snapshot.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = l.Addr().String()
	g := grpc.NewServer(snapshot.Options{}.GRPC()...)
	plane.Server.Register(g)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = plane.Run(ctx) })
	running.Go(func() { _ = g.Serve(l) })
	t.Cleanup(func() {
		if t.Failed() {
			for _, p := range plane.Server.Proxies() {
				t.Log(p.Proxy.ID, p.Sync())
			}
			t.Log(plane.Problems())
		}
		g.Stop()
		plane.Server.Close()
		cancel()
		running.Wait()
	})
	return w
}

func (w *grpcWorld) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.folder, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		w.t.Fatal(err)
	}
}

// bootstrap is what Istio's agent writes for a gRPC library in a pod.
func (w *grpcWorld) bootstrap(pod, ip, account string, labels map[string]string) []byte {
	w.t.Helper()
	dir := w.certificates(account)
	b, err := json.Marshal(map[string]any{
		"xds_servers": []any{map[string]any{
			"server_uri": w.address, "channel_creds": []any{map[string]any{"type": "insecure"}}, "server_features": []string{"xds_v3"},
		}},
		"node": map[string]any{
			"id": "sidecar~" + ip + "~" + pod + ".shop~shop.svc.cluster.local",
			"metadata": map[string]any{
				"GENERATOR": "grpc", "NAMESPACE": "shop", "LABELS": labels, "SERVICE_ACCOUNT": account, "INSTANCE_IPS": ip,
			},
		},
		"server_listener_resource_name_template": "xds.istio.io/grpc/lds/inbound/%s",
		"certificate_providers": map[string]any{"default": map[string]any{"plugin_name": "file_watcher", "config": map[string]any{
			"certificate_file": filepath.Join(dir, "cert-chain.pem"), "private_key_file": filepath.Join(dir, "key.pem"),
			"ca_certificate_file": filepath.Join(dir, "root-cert.pem"), "refresh_interval": "900s",
		}}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// echo is a gRPC server that is its own proxy, until the test ends. It serves
// once the control plane has said how.
func (w *grpcWorld) echo(version, ip string) {
	w.t.Helper()
	creds, err := xdscreds.NewServerCredentials(xdscreds.ServerOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		w.t.Fatal(err)
	}
	mode := make(chan string, 10)
	s, err := xds.NewGRPCServer(grpc.Creds(creds), grpc.UnaryInterceptor(w.answer(version)),
		xds.BootstrapContentsForTesting(w.bootstrap("echo-"+version, ip, "echo", map[string]string{
			"app": "echo", "version": version, "security.istio.io/tlsMode": "istio",
		})),
		xds.ServingModeCallback(func(_ net.Addr, args xds.ServingModeChangeArgs) {
			select {
			case mode <- fmt.Sprint(args.Mode, " ", args.Err):
			default:
			}
		}))
	if err != nil {
		w.t.Fatal(err)
	}
	healthpb.RegisterHealthServer(s, health.NewServer())
	l, err := net.Listen("tcp", ip+":50051")
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	w.t.Cleanup(func() { s.Stop(); <-done })
	for {
		select {
		case m := <-mode:
			if strings.HasPrefix(m, "SERVING") {
				return
			}
			w.t.Log(m)
		case <-time.After(20 * time.Second):
			w.t.Fatal("the server does not serve")
		}
	}
}

// answer adds the server's version and the caller's identity to each answer.
func (w *grpcWorld) answer(version string) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		caller := "nobody"
		if p, ok := peer.FromContext(ctx); ok {
			if t, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(t.State.PeerCertificates) > 0 {
				caller = t.State.PeerCertificates[0].URIs[0].String()
			}
		}
		_ = grpc.SetHeader(ctx, metadata.Pairs("version", version, "caller", caller))
		return next(ctx, req)
	}
}

// client dials as an application does whose library is its own proxy.
func (w *grpcWorld) client(target, account string) *grpc.ClientConn {
	w.t.Helper()
	builder, err := xds.NewXDSResolverWithConfigForTesting(w.bootstrap("client", "127.0.1.9", account, map[string]string{"app": "client"}))
	if err != nil {
		w.t.Fatal(err)
	}
	creds, err := xdscreds.NewClientCredentials(xdscreds.ClientOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		w.t.Fatal(err)
	}
	conn, err := grpc.NewClient("xds:///"+target, grpc.WithTransportCredentials(creds), grpc.WithResolvers([]resolver.Builder{builder}...))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// call is one request's answer.
func call(t *testing.T, conn *grpc.ClientConn, more ...string) (version, caller string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), more...), 20*time.Second)
	defer cancel()
	var md metadata.MD
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Header(&md), grpc.WaitForReady(true))
	return strings.Join(md.Get("version"), ","), strings.Join(md.Get("caller"), ","), err
}

// gRPC libraries without a proxy find servers by the names that people use,
// speak mutual TLS, follow routes, and obey policies.
func TestProxylessGRPC(t *testing.T) {
	w := newGRPCWorld(t)
	w.echo("v1", "127.0.1.1")
	w.echo("v2", "127.0.1.2")
	for _, target := range []string{"echo.shop.svc.cluster.local:80", "echo:80", "echo.shop:80", "echo.shop.svc:80"} {
		conn := w.client(target, "client")
		seen := map[string]int{}
		eventually(t, func() string { // until there are connections to both
			version, caller, err := call(t, conn)
			seen[version]++
			switch {
			case err != nil || caller != "spiffe://cluster.local/ns/shop/sa/client":
				return fmt.Sprintf("%s: %v, called by %q", target, err, caller)
			case seen["v1"] == 0 || seen["v2"] == 0:
				return fmt.Sprintf("%s is balanced as %v, want both", target, seen)
			}
			return ""
		})
	}
	conn := w.client("echo.shop.svc.cluster.local:80", "client")

	w.write("routes.yaml", `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo, namespace: shop}
spec:
  hosts: [echo]
  http:
  - match: [{headers: {who: {exact: tester}}}]
    route: [{destination: {host: echo, subset: v2}}]
  - match: [{headers: {who: {exact: faulty}}}]
    fault: {abort: {grpcStatus: RESOURCE_EXHAUSTED, percentage: {value: 100}}}
    corsPolicy: {allowOrigins: [{exact: "*"}]}
    route: [{destination: {host: echo, subset: v2}}]
  - route:
    - {destination: {host: echo, subset: v1}, weight: 90}
    - {destination: {host: echo, subset: v2}, weight: 10}
`)
	eventually(t, func() string {
		// Until the client has the routes, its balancer alone can come to the shares.
		if _, _, err := call(t, conn, "who", "faulty"); status.Code(err) != codes.ResourceExhausted {
			return fmt.Sprintf("a fault gives %v", err)
		}
		seen := map[string]int{}
		for range 200 {
			version, _, err := call(t, conn)
			if err != nil {
				return err.Error()
			}
			seen[version]++
		}
		if n := seen["v2"]; n < 3 || n > 45 { // binomial: 20 give or take 6 standard deviations
			return fmt.Sprintf("v2 has %d of 200, want 10%%", n)
		}
		return ""
	})
	if version, _, err := call(t, conn, "who", "tester"); err != nil || version != "v2" {
		t.Errorf("a header leads to %q, %v, want v2", version, err)
	}

	w.write("policy.yaml", `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: echo, namespace: shop}
spec:
  selector: {matchLabels: {app: echo}}
  rules: [{from: [{source: {principals: ["cluster.local/ns/shop/sa/client"]}}], to: [{operation: {paths: ["/grpc.health.v1.Health/*"]}}]}]
`)
	stranger := w.client("echo.shop.svc.cluster.local:80", "stranger")
	eventually(t, func() string {
		for range 20 {
			if _, _, err := call(t, stranger); status.Code(err) != codes.PermissionDenied {
				return fmt.Sprintf("a stranger is answered %v", err)
			}
		}
		return ""
	})
	if _, _, err := call(t, conn); err != nil {
		t.Errorf("who may call is answered %v", err)
	}
	plain, err := grpc.NewClient("127.0.1.1:50051", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := healthpb.NewHealthClient(plain).Check(ctx, &healthpb.HealthCheckRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("plaintext is answered %v", err)
	}
}

func eventually(t *testing.T, check func() string) {
	t.Helper()
	envoytest.Eventually(t, 60*time.Second, check)
}

// certificates are a workload's, in files as an agent writes them for gRPC.
func (w *grpcWorld) certificates(account string) string {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		w.t.Fatal(err)
	}
	chain, err := w.authority.Sign(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}),
		ca.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: account}, time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		w.t.Fatal(err)
	}
	dir := w.t.TempDir()
	for name, text := range map[string]string{
		"cert-chain.pem": strings.Join(chain[:len(chain)-1], ""), "root-cert.pem": chain[len(chain)-1],
		"key.pem": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	return dir
}
