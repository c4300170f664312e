package kubetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// pki is what the API server and its clients need to trust each other.
type pki struct {
	dir   string
	ca    *identity
	admin *identity
}

// identity is a certificate and its key.
type identity struct {
	cert            *x509.Certificate
	key             crypto.Signer
	certPEM, keyPEM []byte
}

// newPKI makes a CA, the API server's certificate, the administrator's and the
// keys of service account tokens, and writes them into dir.
func newPKI(dir string) (*pki, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	p := &pki{dir: dir}
	var err error
	if p.ca, err = issue(nil, pkix.Name{CommonName: "test-ca"}, nil); err != nil {
		return nil, err
	}
	server, err := issue(p.ca, pkix.Name{CommonName: "kube-apiserver"},
		[]string{"localhost", "kubernetes.default.svc"}, net.IPv4(127, 0, 0, 1))
	if err != nil {
		return nil, err
	}
	admin := pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}
	if p.admin, err = issue(p.ca, admin, nil); err != nil {
		return nil, err
	}
	accounts, err := issue(nil, pkix.Name{CommonName: "service-accounts"}, nil)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(accounts.key.Public())
	if err != nil {
		return nil, err
	}
	for name, content := range map[string][]byte{
		"ca.crt":     p.ca.certPEM,
		"server.crt": server.certPEM,
		"server.key": server.keyPEM,
		"sa.key":     accounts.keyPEM,
		"sa.pub":     pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
	} {
		if err := os.WriteFile(p.path(name), content, 0o600); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *pki) path(name string) string { return filepath.Join(p.dir, name) }

// issue makes an identity signed by ca, or by itself if ca is nil.
func issue(ca *identity, subject pkix.Name, names []string, ips ...net.IP) (*identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	id := &identity{key: key, cert: &x509.Certificate{
		SerialNumber: serial, Subject: subject, DNSNames: names, IPAddresses: ips,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}}
	if ca == nil {
		ca = id
		id.cert.IsCA, id.cert.BasicConstraintsValid = true, true
		id.cert.KeyUsage |= x509.KeyUsageCertSign
	}
	der, err := x509.CreateCertificate(rand.Reader, id.cert, ca.cert, key.Public(), ca.key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	id.certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	id.keyPEM = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	return id, nil
}
