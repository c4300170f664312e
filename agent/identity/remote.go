package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"
	security "istio.io/api/security/v1alpha1"
)

// Remote is a Signer that asks a control plane (IstioCertificateService). It
// connects anew for each certificate, with the token and the roots of then.
type Remote struct {
	Address string // host:port; the server's certificate must carry the host
	// ServerName is the name to verify if not the address's host.
	ServerName string
	RootsFile  string
	TokenFile  string // the pod's projected token
	// Certificate authenticates the caller where there is no token; nil, or nil
	// of it, is none.
	Certificate func() *tls.Certificate
	ClusterID   string
	CertSigner  string
	Lifetime    time.Duration // asked for
}

// Sign asks for one certificate. Errors never quote the token.
func (r *Remote) Sign(ctx context.Context, request []byte) ([]string, error) {
	tlsConfig, err := r.tls()
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///"+r.Address, grpc.WithTransportCredentials(credentials.NewTLS(tlsConfig)), grpc.WithNoProxy())
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	md := metadata.Pairs("ClusterID", r.ClusterID)
	token, err := r.token()
	if err != nil {
		return nil, err
	}
	if token != "" {
		md.Set("authorization", "Bearer "+token)
	}
	in := &security.IstioCertificateRequest{Csr: string(request), ValidityDuration: int64(r.Lifetime / time.Second)}
	if r.CertSigner != "" {
		in.Metadata = &structpb.Struct{Fields: map[string]*structpb.Value{"CertSigner": structpb.NewStringValue(r.CertSigner)}}
	}
	out, err := security.NewIstioCertificateServiceClient(conn).CreateCertificate(metadata.NewOutgoingContext(ctx, md), in)
	if err != nil {
		return nil, fmt.Errorf("certificate authority %s: %w", r.Address, err)
	}
	return out.GetCertChain(), nil
}

func (r *Remote) tls() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: r.ServerName}
	if c.ServerName == "" {
		host, _, err := net.SplitHostPort(r.Address)
		if err != nil {
			return nil, fmt.Errorf("certificate authority %q: %w", r.Address, err)
		}
		c.ServerName = host
	}
	if r.RootsFile != "" { // otherwise the system's
		b, err := os.ReadFile(r.RootsFile)
		if err != nil {
			return nil, fmt.Errorf("roots to verify the certificate authority by: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("roots to verify the certificate authority by: no certificate in %s", r.RootsFile)
		}
	}
	if r.Certificate != nil {
		if cert := r.Certificate(); cert != nil {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
		}
	}
	return c, nil
}

func (r *Remote) token() (string, error) {
	if r.TokenFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(r.TokenFile)
	if errors.Is(err, os.ErrNotExist) && r.Certificate != nil && r.Certificate() != nil {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("the pod's token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
