package serve_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
	"github.com/pilotfish-mesh/pilotfish/serve"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(kubetest.Tests{M: m}) }

// authority signs certificates for tests.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tests"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) root() string { return a.pem("root.pem", "CERTIFICATE", a.cert.Raw) }

func (a *authority) pem(name, kind string, der []byte) string {
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// issue signs a certificate for a DNS name or a URI and returns its files.
func (a *authority) issue(name string, serial int64) (cert, key string) {
	a.t.Helper()
	return a.issueUntil(time.Now().Add(time.Hour), name, serial)
}

func (a *authority) issueUntil(end time.Time, name string, serial int64) (cert, key string) {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: end,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if u, err := url.Parse(name); err == nil && u.Scheme != "" {
		template.URIs = []*url.URL{u}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, k.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	base := strings.NewReplacer("/", "_", ":", "_").Replace(name)
	return a.pem(base+".crt", "CERTIFICATE", der), a.pem(base+".key", "PRIVATE KEY", pk)
}

// client proves an identity to a control plane of this authority.
func (a *authority) client(identity string) credentials.TransportCredentials {
	a.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	cert, key := a.issue(identity, 20)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		a.t.Fatal(err)
	}
	return credentials.NewTLS(&tls.Config{
		RootCAs: roots, ServerName: "istiod.istio-system.svc", MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
	})
}

// run serves examples/canary on free ports until the test ends, and returns
// the addresses by what they serve.
func run(t *testing.T, a serve.Authority) map[string]string {
	t.Helper()
	return runFolder(t, a, "../examples/canary")
}

func runFolder(t *testing.T, a serve.Authority, folder string) map[string]string {
	t.Helper()
	const any = "127.0.0.1:0"
	log, logs := observer.New(zap.InfoLevel)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- serve.Run(ctx, serve.Options{
			Config: []string{folder}, InternalKeys: true, XDSAddress: any, SecureXDSAddress: any, MonitoringAddress: any, Authority: a, Log: zap.New(log),
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	out := map[string]string{}
	envoytest.Eventually(t, 20*time.Second, func() string {
		for _, l := range logs.All() {
			if addr, ok := l.ContextMap()["address"].(string); ok {
				out[l.Message] = addr
			}
			if strings.HasPrefix(l.Message, "ready: ") {
				return ""
			}
		}
		return "not ready"
	})
	return out
}

// ask requests clusters as a sidecar of a namespace.
func ask(t *testing.T, address string, creds credentials.TransportCredentials, ns string) (clusters int, err error) {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		return 0, err
	}
	id := "sidecar~10.0.0.1~client." + ns + "~" + ns + ".svc.cluster.local"
	if err := stream.Send(&discovery.DiscoveryRequest{Node: &core.Node{Id: id}, TypeUrl: translate.ClusterType}); err != nil {
		return 0, err
	}
	resp, err := stream.Recv()
	return len(resp.GetResources()), err
}

// The secure address serves those whose certificate is for the namespace that
// their node names, and nobody else.
func TestSecureADS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	servingCert, servingKey := ours.issue("istiod.istio-system.svc", 10)
	a, err := serve.NewAuthority(servingCert, servingKey, ours.root())
	if err != nil {
		t.Fatal(err)
	}
	at := run(t, a)
	secure := at["serving ADS over TLS"]
	roots := x509.NewCertPool()
	roots.AddCert(ours.cert)
	client := func(by *authority, name string) credentials.TransportCredentials {
		cfg := &tls.Config{RootCAs: roots, ServerName: "istiod.istio-system.svc", MinVersion: tls.VersionTLS12}
		if by != nil {
			cert, key := by.issue(name, 20)
			pair, err := tls.LoadX509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Certificates = []tls.Certificate{pair}
		}
		return credentials.NewTLS(cfg)
	}
	const shop = "spiffe://cluster.local/ns/shop/sa/default"
	for _, c := range []struct {
		name  string
		creds credentials.TransportCredentials
		ns    string
		want  codes.Code
	}{
		{"its own namespace", client(ours, shop), "shop", codes.OK},
		{"another namespace", client(ours, shop), "bank", codes.PermissionDenied},
		{"a certificate without an identity", client(ours, "client.example.com"), "shop", codes.Unauthenticated},
		{"another authority's certificate", client(theirs, shop), "shop", codes.Unavailable},
		{"another trust domain's", client(ours, "spiffe://elsewhere/ns/shop/sa/default"), "shop", codes.Unauthenticated},
		{"no certificate", client(nil, ""), "shop", codes.Unauthenticated},
	} {
		n, err := ask(t, secure, c.creds, c.ns)
		if status.Code(err) != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if c.want == codes.OK && n == 0 {
			t.Errorf("%s: no clusters", c.name)
		}
	}
	if n, err := ask(t, at["serving ADS in plaintext"], insecure.NewCredentials(), "shop"); err != nil || n == 0 {
		t.Errorf("in plaintext: %d clusters, %v", n, err)
	}

	// A renewed certificate is in use at once.
	renewed, key := ours.issue("istiod.istio-system.svc", 11)
	if renewed != servingCert || key != servingKey {
		t.Fatal("the test must write the same files")
	}
	conn, err := tls.Dial("tcp", secure, &tls.Config{RootCAs: roots, ServerName: "istiod.istio-system.svc", NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if got := conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != 11 {
		t.Errorf("shows certificate %d, want the renewed one, 11", got)
	}
}

// Without authorities for clients nobody gets in.
func TestSecureADSWithoutAuthorities(t *testing.T) {
	a, err := serve.NewAuthority("", "", "")
	if err != nil {
		t.Fatal(err)
	}
	ours := newAuthority(t)
	cert, key := ours.issue("spiffe://cluster.local/ns/shop/sa/default", 1)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	creds := credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // the server's certificate is self-made
	if _, err := ask(t, run(t, a)["serving ADS over TLS"], creds, "shop"); status.Code(err) != codes.Unavailable {
		t.Errorf("let in: %v", err)
	}
}

const headless = `
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints: [{addresses: [ADDRESS]}]
`

// An agent is told what names stand for, and again when that changes, by both
// protocols.
func TestNameTable(t *testing.T) {
	dir := t.TempDir()
	write := func(address string) {
		if err := os.WriteFile(filepath.Join(dir, "db.yaml"), []byte(strings.Replace(headless, "ADDRESS", address, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("10.1.0.1")
	conn, err := grpc.NewClient(runFolder(t, nil, dir)["serving ADS in plaintext"], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	node := &core.Node{Id: "sidecar~10.0.0.1~client.shop~shop.svc.cluster.local"}
	ads := discovery.NewAggregatedDiscoveryServiceClient(conn)
	sotw, err := ads.StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	delta, err := ads.DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sotw.Send(&discovery.DiscoveryRequest{Node: node, TypeUrl: translate.NameTableType}),
		delta.Send(&discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: translate.NameTableType})); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"10.1.0.1", "10.1.0.2"} {
		write(address)
		a, err := sotw.Recv()
		if err != nil {
			t.Fatal(err)
		}
		b, err := delta.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, body := range [][]byte{a.GetResources()[0].GetValue(), b.GetResources()[0].GetResource().GetValue()} {
			table, err := config.UnmarshalNameTable(body)
			if db := table["db.shop.svc.cluster.local"]; err != nil || len(db.IPs) != 1 || db.IPs[0] != address || db.Shortname != "db" {
				t.Errorf("%+v, %v, want address %s", table, err, address)
			}
		}
		if err := errors.Join(sotw.Send(&discovery.DiscoveryRequest{TypeUrl: translate.NameTableType, ResponseNonce: a.GetNonce(), VersionInfo: a.GetVersionInfo()}),
			delta.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: translate.NameTableType, ResponseNonce: b.GetNonce()})); err != nil {
			t.Fatal(err)
		}
	}
}
