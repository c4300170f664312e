package echo

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// TLS is what is known of a connection that came over TLS.
type TLS struct {
	SNI     string `json:"sni,omitempty"`
	ALPN    string `json:"alpn,omitempty"`
	Version string `json:"version"` // such as TLS 1.3
	// Client is who the client's certificate says it is: its first URI, or its
	// subject. The certificate is not verified.
	Client string `json:"client,omitempty"`
}

func tlsOf(c net.Conn) *TLS {
	if p, ok := c.(*peekedConn); ok {
		c = p.Conn
	}
	secure, ok := c.(*tls.Conn)
	if !ok {
		return nil
	}
	state := secure.ConnectionState()
	t := &TLS{SNI: state.ServerName, ALPN: state.NegotiatedProtocol, Version: tls.VersionName(state.Version)}
	if len(state.PeerCertificates) > 0 {
		leaf := state.PeerCertificates[0]
		t.Client = leaf.Subject.String()
		if len(leaf.URIs) > 0 {
			t.Client = leaf.URIs[0].String()
		}
	}
	return t
}

// certificates are self-made, one for each name that a client asks for.
type certificates struct {
	key  *ecdsa.PrivateKey
	made *lru.Cache[string, *tls.Certificate]
}

const rememberedCertificates = 100

func newCertificates() (*certificates, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	made, err := lru.New[string, *tls.Certificate](rememberedCertificates)
	return &certificates{key, made}, err
}

func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		ClientAuth: tls.RequestClientCert, GetCertificate: c.forName,
	}
}

func (c *certificates) forName(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := hello.ServerName
	if name == "" {
		name = "localhost"
	}
	if cert, ok := c.made.Get(name); ok {
		return cert, nil
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "echo"}, DNSNames: []string{name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(365 * 24 * time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, c.key.Public(), c.key)
	if err != nil {
		return nil, err
	}
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: c.key}
	c.made.Add(name, cert)
	return cert, nil
}
