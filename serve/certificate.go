package serve

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"os"
	"time"
)

// Authority is what the TLS listeners need of a certificate authority.
type Authority interface {
	// Serving returns the certificate that the control plane shows. It is
	// asked at each handshake, so that a new one is in use at once.
	Serving() (*tls.Certificate, error)
	// Clients are the roots whose certificates clients may show. It is asked
	// at each handshake; an empty pool means that none is accepted.
	Clients() (*x509.CertPool, error)
}

// selfMade is the Authority of a control plane that was given none: a
// certificate that lives in memory only, and no clients at all.
type selfMade struct{ certificate *tls.Certificate }

// servingNames are those under which proxies and the API server look for the
// control plane in a cluster, and those of this machine.
var servingNames = []string{
	"istiod.istio-system.svc", "istiod.istio-system.svc.cluster.local", "istiod.istio-system", "localhost",
}

const servingLifetime = 365 * 24 * time.Hour

func newSelfMade() (*selfMade, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: servingNames[0]}, DNSNames: servingNames,
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(servingLifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &selfMade{&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}, nil
}

// Serving implements Authority.
func (s *selfMade) Serving() (*tls.Certificate, error) { return s.certificate, nil }

// Clients implements Authority.
func (s *selfMade) Clients() (*x509.CertPool, error) { return x509.NewCertPool(), nil }

// files is the Authority of certificates that somebody else makes and renews.
// They are read at each handshake: a renewed file is in use at once.
type files struct {
	certificate, key string
	clients          string // may be empty: then no client is let in
}

// NewAuthority returns the Authority of PEM files: the serving certificate
// with its chain, its key, and the roots of clients. Without files the
// certificate is made in memory; without roots no client is let in.
func NewAuthority(certificate, key, clients string) (Authority, error) {
	if (certificate == "") != (key == "") {
		return nil, errors.New("--tls-cert and --tls-key belong together: give both or none")
	}
	made, err := newSelfMade()
	if err != nil {
		return nil, err
	}
	if certificate == "" && clients == "" {
		return made, nil
	}
	f := &files{certificate: certificate, key: key, clients: clients}
	if _, err := f.Clients(); err != nil {
		return nil, err
	}
	if certificate == "" {
		return &mixed{made, f}, nil
	}
	if _, err := f.Serving(); err != nil {
		return nil, err
	}
	return f, nil
}

// mixed shows a self-made certificate to clients that files vouch for.
type mixed struct {
	*selfMade
	clients *files
}

// Clients implements Authority.
func (m *mixed) Clients() (*x509.CertPool, error) { return m.clients.Clients() }

// Serving implements Authority.
func (f *files) Serving() (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(f.certificate, f.key)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert %s, --tls-key %s: %w", f.certificate, f.key, err)
	}
	return &c, nil
}

// Clients implements Authority.
func (f *files) Clients() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if f.clients == "" {
		return pool, nil
	}
	pem, err := os.ReadFile(f.clients)
	if err != nil {
		return nil, fmt.Errorf("--tls-client-ca: %w", err)
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--tls-client-ca %s: holds no PEM certificate", f.clients)
	}
	return pool, nil
}

// tlsConfig is that of a listener; clients says whether they may show a
// certificate, which then must be good. What those without one may do is
// decided call by call.
func tlsConfig(a Authority, clients bool, protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c, err := a.Serving()
			if err != nil {
				return nil, err
			}
			out := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*c}, NextProtos: protocols}
			if clients {
				out.ClientAuth = tls.VerifyClientCertIfGiven
				if out.ClientCAs, err = a.Clients(); err != nil {
					return nil, err
				}
			}
			return out, nil
		},
	}
}
