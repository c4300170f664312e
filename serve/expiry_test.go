package serve_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/serve"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// renewing is a client whose certificate is replaced while it has a connection.
type renewing struct {
	t    *testing.T
	conn *grpc.ClientConn

	mu          sync.Mutex
	certificate *tls.Certificate
	connections atomic.Int32
}

func newRenewing(t *testing.T, address string, roots *x509.CertPool) *renewing {
	t.Helper()
	c := &renewing{t: t}
	config := &tls.Config{
		RootCAs: roots, ServerName: "istiod.istio-system.svc", MinVersion: tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.certificate, nil
		},
	}
	var err error
	c.conn, err = grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			c.connections.Add(1)
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.conn.Close() })
	return c
}

// uses has connections from now on begin with a certificate.
func (c *renewing) uses(cert, key string) {
	c.t.Helper()
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.certificate = &pair
}

// stream begins one and takes the first answer.
func (c *renewing) stream() (discovery.AggregatedDiscoveryService_StreamAggregatedResourcesClient, error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	c.t.Cleanup(cancel)
	s, err := discovery.NewAggregatedDiscoveryServiceClient(c.conn).StreamAggregatedResources(ctx, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	if err := s.Send(&discovery.DiscoveryRequest{
		Node: &core.Node{Id: "sidecar~10.0.0.1~client.shop~shop.svc.cluster.local"}, TypeUrl: translate.ClusterType,
	}); err != nil {
		return nil, err
	}
	_, err = s.Recv()
	return s, err
}

// TestCertificateExpiresOnAConnection: a stream that began with a good
// certificate runs on when that has expired. The next one on the connection is
// refused, and the one after it is let in, since the refusal ended the
// connection: the client shows the certificate that it has meanwhile.
func TestCertificateExpiresOnAConnection(t *testing.T) {
	a := newAuthority(t)
	servingCert, servingKey := a.issue("istiod.istio-system.svc", 10)
	files, err := serve.NewAuthority(servingCert, servingKey, a.root())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	c := newRenewing(t, run(t, files)["serving ADS over TLS"], roots)
	const name = "spiffe://cluster.local/ns/shop/sa/default"
	end := time.Now().Add(2 * time.Second).Truncate(time.Second) // certificates have whole seconds
	c.uses(a.issueUntil(end, name, 20))
	first, err := c.stream()
	if err != nil {
		t.Fatal(err)
	}
	envoytest.Eventually(t, 20*time.Second, func() string {
		if !time.Now().After(end) {
			return "the certificate is still good"
		}
		return ""
	})
	c.uses(a.issue(name, 21))
	if err := first.Send(&discovery.DiscoveryRequest{TypeUrl: translate.ListenerType}); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Recv(); err != nil {
		t.Errorf("the stream that began before: %v", err)
	}
	if c.connections.Load() != 1 {
		t.Fatal("there was another connection: what follows proves nothing")
	}
	if _, err := c.stream(); status.Code(err) != codes.Unauthenticated && status.Code(err) != codes.Unavailable {
		t.Errorf("another stream of the connection: %v", err)
	}
	if _, err := first.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the first stream goes on: %v", err)
	}
	if _, err := c.stream(); err != nil {
		t.Errorf("after that: %v", err)
	}
	if n := c.connections.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}
