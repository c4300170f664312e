package ca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Bounds of a certificate request. The shortest RSA key is that of the CA/Browser
// Forum's baseline requirements; the longest keeps a handshake affordable.
const (
	maxRequestBytes = 16 << 10
	minRSABits      = 2048
	maxRSABits      = 8192
)

// parseRequest reads a PEM certificate request and checks all of it that does
// not depend on the caller. The error is a Refusal.
func parseRequest(text []byte) (*x509.CertificateRequest, error) {
	if len(text) > maxRequestBytes {
		return nil, refuse(BadRequest, "the certificate request has %d bytes, more than %d", len(text), maxRequestBytes)
	}
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, refuse(BadRequest, "the certificate request is not PEM")
	case block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST":
		return nil, refuse(BadRequest, "the PEM block is a %q, want a CERTIFICATE REQUEST", block.Type)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, refuse(BadRequest, "%d bytes follow the certificate request", len(rest))
	case !bytes.HasPrefix(bytes.TrimSpace(text), []byte("-----BEGIN")):
		return nil, refuse(BadRequest, "text comes before the certificate request")
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, refuse(BadRequest, "the certificate request cannot be read: %v", err)
	}
	if err := checkKey(r.PublicKey); err != nil {
		return nil, err
	}
	return r, checkSignature(r)
}

func checkKey(key any) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return refuse(WeakKey, "an ECDSA key on curve %s: want P-256, P-384 or P-521", k.Curve.Params().Name)
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSABits || n > maxRSABits {
			return refuse(WeakKey, "an RSA key of %d bits: want %d to %d", n, minRSABits, maxRSABits)
		}
		if k.E < 65537 {
			return refuse(WeakKey, "an RSA key with the exponent %d: want 65537 or more", k.E)
		}
		return nil
	}
	return refuse(WeakKey, "a key of an unusual kind (%T): want ECDSA or RSA", key)
}

// checkSignature proves that the requester holds the key.
func checkSignature(r *x509.CertificateRequest) error {
	switch r.SignatureAlgorithm {
	case x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512,
		x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS:
	default:
		return refuse(BadSignature, "the certificate request is signed with %v: want ECDSA or RSA with SHA-256 or better", r.SignatureAlgorithm)
	}
	if err := r.CheckSignature(); err != nil {
		return refuse(BadSignature, "the certificate request's signature is wrong: %v", err)
	}
	return nil
}

var subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// checkNames requires that a request asks for no name, or for the one that the
// caller has proven. The trust domain may be any of domains: what is issued
// names the mesh's own whatever was asked for.
func checkNames(r *x509.CertificateRequest, id Identity, domains []string) error {
	asked := 0
	for _, e := range r.Extensions {
		if e.Id.Equal(subjectAltName) {
			n, ok := countNames(e.Value)
			if !ok {
				return refuse(BadRequest, "the certificate request's subject alternative names cannot be read")
			}
			asked += n
		}
	}
	if asked == 0 {
		return nil
	}
	if asked != 1 || len(r.URIs) != 1 {
		return refuse(OtherIdentity, "the certificate request asks for %d names (DNS %v, addresses %v, mail %v, URIs %v): want only %s",
			asked, r.DNSNames, r.IPAddresses, r.EmailAddresses, r.URIs, id)
	}
	want, err := ParseIdentity(r.URIs[0].String())
	if err != nil {
		return refuse(OtherIdentity, "the certificate request asks for %q; the caller is %s", r.URIs[0], id)
	}
	for _, d := range append(domains, id.TrustDomain) {
		if (want == Identity{d, id.Namespace, id.ServiceAccount}) {
			return nil
		}
	}
	return refuse(OtherIdentity, "the certificate request asks for %s; the caller is %s", want, id)
}

// countNames counts GeneralNames, also those of kinds that crypto/x509 passes
// over (RFC 5280, section 4.2.1.6).
func countNames(der []byte) (n int, ok bool) {
	in := cryptobyte.String(der)
	var names cryptobyte.String
	if !in.ReadASN1(&names, casn1.SEQUENCE) || !in.Empty() {
		return 0, false
	}
	for !names.Empty() {
		var name cryptobyte.String
		var tag casn1.Tag
		if !names.ReadAnyASN1(&name, &tag) {
			return 0, false
		}
		n++
	}
	return n, true
}
