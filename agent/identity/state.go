package identity

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// Certificate is a workload's certificate with its key. It never changes.
type Certificate struct {
	TLS      *tls.Certificate
	ChainPEM []byte // leaf first, without the root
	KeyPEM   []byte
	// Root is the authority that vouches for it, DER; nil if unknown.
	Root []byte
	// Trusted are all roots that came with it, PEM: during a rotation of roots
	// those of the certificates that peers have.
	Trusted  []byte
	NotAfter time.Time
	// Obtained is when it came.
	Obtained time.Time
}

// state is what is served at one time. It never changes; the next one is
// announced by closing changed.
type state struct {
	cert     *Certificate // nil before the first one
	roots    []byte       // PEM; empty before the first ones
	pool     *x509.CertPool
	revoked  []byte            // revocation lists, PEM; empty for none
	versions map[string]string // by secret
	changed  chan struct{}
}

// certificatesIn are the certificates in a PEM file. Other blocks, such as
// comments, are skipped; a certificate that does not parse is an error.
func certificatesIn(file []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, file = pem.Decode(file); block == nil {
			return out, nil
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
}

func encodeCertificates(certs ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a Buffer takes everything
	}
	return b.Bytes()
}

// assemble makes a Certificate of what an authority returned for a key: PEM
// certificates, leaf first, and in the last element all roots that it trusts,
// one of which vouches. It refuses what a peer would refuse, and what is for
// another key.
func assemble(key key, signed []string) (*Certificate, error) {
	var chain, roots []*x509.Certificate
	for i, s := range signed {
		part, err := certificatesIn([]byte(s))
		if err != nil {
			return nil, fmt.Errorf("the authority returned a broken certificate: %w", err)
		}
		if i > 0 && i == len(signed)-1 {
			roots = part
			break
		}
		chain = append(chain, part...)
	}
	if n := len(chain); len(roots) == 0 && n > 1 { // all in one element
		chain, roots = chain[:n-1], chain[n-1:]
	}
	if len(chain) == 0 || len(roots) == 0 {
		return nil, fmt.Errorf("the authority returned %d certificates, want a leaf and a root", len(chain)+len(roots))
	}
	leaf := chain[0]
	if !key.fits(leaf) {
		return nil, errors.New("the authority returned a certificate for another key")
	}
	root, err := verify(leaf, chain[1:], roots)
	if err != nil {
		return nil, err
	}
	out := &Certificate{
		ChainPEM: encodeCertificates(chain...), KeyPEM: key.pem, NotAfter: leaf.NotAfter, Obtained: time.Now(),
		Root: root.Raw, Trusted: encodeCertificates(roots...),
	}
	pair, err := tls.X509KeyPair(out.ChainPEM, out.KeyPEM)
	if err != nil {
		return nil, err
	}
	out.TLS = &pair
	return out, nil
}

// verify returns the root that the leaf leads to. Time is not judged: the
// clocks of a node and of the control plane may differ by a little.
func verify(leaf *x509.Certificate, between, trusted []*x509.Certificate) (*x509.Certificate, error) {
	roots, others := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range trusted {
		roots.AddCert(c)
	}
	for _, c := range between {
		others.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: others, CurrentTime: leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, fmt.Errorf("the authority's own roots do not vouch for the certificate: %w", err)
	}
	return chains[0][len(chains[0])-1], nil
}
