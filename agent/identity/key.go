package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
)

// key is a private key and its form for Envoy.
type key struct {
	crypto.Signer
	pem []byte
}

// newKey makes a key: ECDSA P-256, or RSA of so many bits if rsaBits is set.
func newKey(rsaBits int) (key, error) {
	var k crypto.Signer
	var err error
	if rsaBits > 0 {
		k, err = rsa.GenerateKey(rand.Reader, rsaBits)
	} else {
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return key{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return key{}, err
	}
	return key{k, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}, nil
}

// request is a PEM certificate request for an identity, a SPIFFE URI.
func (k key) request(identity string) ([]byte, error) {
	u, err := url.Parse(identity)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{u}}, k.Signer)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

func (k key) fits(c *x509.Certificate) bool {
	public, ok := k.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(c.PublicKey)
}
