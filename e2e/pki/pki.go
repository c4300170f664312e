// Package pki makes what the API server of a test cluster and its clients need
// to trust each other: certificates and keys, as files; and authorities for other
// tests. It imports nothing of ours; production code does not import it.
package pki

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

// lifetime is that of a cluster's certificates; nothing renews them.
const lifetime = 365 * 24 * time.Hour

// PKI is that of one cluster, in a folder: ca.crt and ca.key, server.crt and
// server.key of the API server, sa.key and sa.pub for service account tokens,
// admin.crt and admin.key of a member of system:masters.
type PKI struct {
	dir       string
	CA, Admin *Identity
	// Accounts is the key that service account tokens are signed with.
	Accounts crypto.Signer
}

// Identity is a certificate and its key, in PEM too.
type Identity struct {
	cert         *x509.Certificate
	key          crypto.Signer
	Cert, KeyPEM []byte
}

// Write makes all of it for an API server that is reached by names and
// addresses, and writes it into dir, which is made if need be.
func Write(dir string, names []string, ips ...net.IP) (*PKI, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	p := &PKI{dir: dir}
	var err error
	if p.CA, err = issue(nil, pkix.Name{CommonName: "cluster-ca"}, nil); err != nil {
		return nil, err
	}
	server, err := issue(p.CA, pkix.Name{CommonName: "kube-apiserver"}, names, ips...)
	if err != nil {
		return nil, err
	}
	if p.Admin, err = issue(p.CA, pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}, nil); err != nil {
		return nil, err
	}
	accounts, err := issue(nil, pkix.Name{CommonName: "service-accounts"}, nil)
	if err != nil {
		return nil, err
	}
	p.Accounts = accounts.key
	public, err := x509.MarshalPKIXPublicKey(accounts.key.Public())
	if err != nil {
		return nil, err
	}
	for name, content := range map[string][]byte{
		"ca.crt": p.CA.Cert, "ca.key": p.CA.KeyPEM,
		"server.crt": server.Cert, "server.key": server.KeyPEM,
		"admin.crt": p.Admin.Cert, "admin.key": p.Admin.KeyPEM,
		"sa.key": accounts.KeyPEM, "sa.pub": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
	} {
		if err := os.WriteFile(p.Path(name), content, 0o600); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Path is where a file of it is.
func (p *PKI) Path(name string) string { return filepath.Join(p.dir, name) }

// Root is an authority of its own that lasts until a time.
func Root(name string, until time.Time) (*Identity, error) {
	return issueUntil(until, nil, pkix.Name{CommonName: name}, nil)
}

// Revoke is the number-th revocation list of an authority, in PEM.
func (i *Identity) Revoke(number int64, serials ...*big.Int) ([]byte, error) {
	list := &x509.RevocationList{
		Number: big.NewInt(number), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour),
	}
	for _, n := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, i.cert, i.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), nil
}

// issue makes an identity signed by ca, or by itself if ca is nil.
func issue(ca *Identity, subject pkix.Name, names []string, ips ...net.IP) (*Identity, error) {
	return issueUntil(time.Now().Add(lifetime), ca, subject, names, ips...)
}

func issueUntil(until time.Time, ca *Identity, subject pkix.Name, names []string, ips ...net.IP) (*Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	id := &Identity{key: key, cert: &x509.Certificate{
		SerialNumber: serial, Subject: subject, DNSNames: names, IPAddresses: ips,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: until,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}}
	if ca == nil {
		ca = id
		id.cert.IsCA, id.cert.BasicConstraintsValid = true, true
		id.cert.KeyUsage |= x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	der, err := x509.CreateCertificate(rand.Reader, id.cert, ca.cert, key.Public(), ca.key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	if id.cert, err = x509.ParseCertificate(der); err != nil { // what was signed, with the key's identifier
		return nil, err
	}
	id.Cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	id.KeyPEM = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	return id, nil
}
