package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Root is what certificates are signed with, and what they are trusted by.
// Immutable. Nothing prints its key.
type Root struct {
	// chain is the signing certificate, then its intermediates up to but
	// without the root. A self-signed root has only itself.
	chain []*x509.Certificate
	key   crypto.Signer
	// roots are all that the mesh trusts; the one that the chain leads to
	// first.
	roots []*x509.Certificate
	// revoked are the lists of certificates that are no longer good.
	revoked revocations
}

// String implements fmt.Stringer: whatever prints a Root shows no key.
func (r *Root) String() string {
	return fmt.Sprintf("%s, until %s", r.chain[0].Subject, r.chain[0].NotAfter.UTC().Format(time.RFC3339))
}

// GoString implements fmt.GoStringer, see String.
func (r *Root) GoString() string { return r.String() }

// selfSignedLifetime is that of Istio's self-signed root.
const selfSignedLifetime = 10 * 365 * 24 * time.Hour

// clockSkew is by how much certificates begin in the past: clocks differ.
const clockSkew = 2 * time.Minute

// SelfSigned makes a new root with an ECDSA P-256 key.
func SelfSigned(trustDomain string) (*Root, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		// Roots of one mesh must differ by name, or verifiers try the wrong one.
		Subject:   pkix.Name{Organization: []string{trustDomain}, CommonName: fmt.Sprintf("Root CA %x", serial.Bytes()[:4])},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(selfSignedLifetime),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Root{chain: []*x509.Certificate{c}, key: key, roots: []*x509.Certificate{c}}, nil
}

// newSerial is a random positive serial number of at least 121 bits.
func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return n.SetBit(n, 126, 1), nil
}

// ParseRoot reads a signing certificate with its key, the certificates between
// it and its root, and the trusted roots, all PEM. It refuses what cannot sign
// certificates that the roots vouch for at the time now.
func ParseRoot(cert, key, chain, roots []byte, now time.Time) (*Root, error) {
	own, err := parseCertificates("the signing certificate", cert)
	if err != nil {
		return nil, err
	}
	between, err := parseCertificates("the certificate chain", chain)
	if err != nil && len(bytes.TrimSpace(chain)) > 0 {
		return nil, err
	}
	trusted, err := parseCertificates("the root certificates", roots)
	if err != nil {
		return nil, err
	}
	signer, err := parseKey(key)
	if err != nil {
		return nil, err
	}
	leaf := own[0]
	if pub, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(signer.Public()) {
		return nil, errors.New("the signing certificate is not of the given key")
	}
	if err := checkKey(leaf.PublicKey); err != nil {
		return nil, fmt.Errorf("the signing certificate: %w", err)
	}
	if !leaf.IsCA || leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, fmt.Errorf("%s may not sign certificates: it is no CA certificate", leaf.Subject)
	}
	path, err := pathToRoot(leaf, append(own[1:], between...), trusted, now)
	if err != nil {
		return nil, err
	}
	r := &Root{chain: path[:len(path)-1], key: signer, roots: unique(path[len(path)-1:], trusted)}
	if len(path) == 1 {
		r.chain = path
	}
	return r, nil
}

// pathToRoot is a verified chain from a signing certificate to a trusted root,
// both included.
func pathToRoot(leaf *x509.Certificate, between, trusted []*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range trusted {
		roots.AddCert(c)
	}
	for _, c := range between {
		intermediates.AddCert(c)
	}
	paths, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, fmt.Errorf("no root certificate vouches for the signing certificate (%s): %w", leaf.Subject, err)
	}
	return paths[0], nil
}

// unique are the certificates of lists in order, each once.
func unique(lists ...[]*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for _, list := range lists {
	next:
		for _, c := range list {
			for _, have := range out {
				if have.Equal(c) {
					continue next
				}
			}
			out = append(out, c)
		}
	}
	return out
}

// ParseCertificates reads one or more PEM certificates and nothing else.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	return parseCertificates("the certificates", text)
}

// parseCertificates reads one or more PEM certificates and nothing else.
func parseCertificates(what string, text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if len(bytes.TrimSpace(rest)) > 0 && len(out) > 0 {
				return nil, fmt.Errorf("%s: %d bytes after the last one are no PEM", what, len(rest))
			}
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s: holds a PEM block %q, want CERTIFICATE only", what, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no PEM certificate", what)
	}
	return out, nil
}

// parseKey reads a PEM private key. Its errors never quote it.
func parseKey(text []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "EC PARAMETERS": // openssl ecparam writes them first
			continue
		case "EC PRIVATE KEY":
			if k, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
				return k, nil
			}
		case "RSA PRIVATE KEY":
			if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
				return k, nil
			}
		case "PRIVATE KEY":
			k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				break
			}
			switch k := k.(type) {
			case *ecdsa.PrivateKey:
				return k, nil
			case *rsa.PrivateKey:
				return k, nil
			}
			return nil, fmt.Errorf("the key is of an unusual kind (%T): want ECDSA or RSA", k)
		}
		return nil, fmt.Errorf("the key (PEM block %q) cannot be read", block.Type)
	}
	return nil, errors.New("the key: no PEM private key")
}

// encodeCertificates is the PEM of certificates.
func encodeCertificates(list ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range list {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a Buffer takes everything
	}
	return b.Bytes()
}

// encodeKey is the PEM of the signing key, for the Secret that keeps it.
func (r *Root) encodeKey() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(r.key)
	if err != nil {
		return nil, errors.New("the signing key cannot be encoded")
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Trusts reports whether the roots of r include that of another Root.
func (r *Root) Trusts(other *Root) bool { return len(unique(r.roots, other.roots[:1])) == len(r.roots) }

// expiry is when the first certificate of the chain to the root ends.
func (r *Root) expiry() time.Time {
	at := r.roots[0].NotAfter
	for _, c := range r.chain {
		if c.NotAfter.Before(at) {
			at = c.NotAfter
		}
	}
	return at
}
