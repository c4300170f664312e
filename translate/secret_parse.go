package translate

import (
	"crypto/rsa"
	ctls "crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"sort"
	"strings"

	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// pairKeys are the data keys under which Secrets hold a certificate and its
// key: generic ones first, then those of type kubernetes.io/tls.
var pairKeys = []struct{ cert, key, staple string }{
	{"cert", "key", ""},
	{"tls.crt", "tls.key", "tls.ocsp-staple"},
}

// authorityKeys are those for a certificate authority and its revocations.
var authorityKeys = []struct{ cert, crl string }{
	{"cacert", "crl"},
	{"ca.crt", "ca.crl"},
}

// minRSABits is the smallest key that Envoy accepts.
const minRSABits = 2048

func keyPairOf(s *config.Secret) (*tls.TlsCertificate, *config.Problem) {
	for _, k := range pairKeys {
		cert, key := s.Data[k.cert], s.Data[k.key]
		if len(cert) == 0 || len(key) == 0 {
			continue
		}
		if problem := checkPair(&s.Meta, k.cert, k.key, cert, key); problem != nil {
			return nil, problem
		}
		out := &tls.TlsCertificate{CertificateChain: inlineSource(cert), PrivateKey: inlineSource(key)}
		if staple := s.Data[k.staple]; k.staple != "" && len(staple) > 0 {
			out.OcspStaple = inlineSource(staple)
		}
		return out, nil
	}
	p := secretProblem(&s.Meta, "SecretIncomplete",
		"holds no certificate and key: want data tls.crt and tls.key, or cert and key, not empty; it has %s", dataKeys(s.Data))
	return nil, &p
}

// checkPair reports what Envoy would reject: one bad certificate would keep a
// whole listener from its update. It prints no content; the parsers' own
// messages about a key are left out.
func checkPair(m *config.Meta, certKey, keyKey string, cert, key []byte) *config.Problem {
	bad := func(data, format string, args ...any) *config.Problem {
		p := secretProblem(m, "SecretInvalid", "data "+data+": "+format, args...)
		return &p
	}
	chain, err := parseCertificates(cert)
	if err != nil {
		return bad(certKey, "%v; want PEM certificates, the server's own first", err)
	}
	if block, _ := pem.Decode(key); block == nil || !strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return bad(keyKey, "no PEM private key")
	} else if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
		return bad(keyKey, "the private key is encrypted; store it without a passphrase")
	}
	if _, err := ctls.X509KeyPair(cert, key); err != nil {
		if strings.Contains(err.Error(), "does not match") {
			return bad(keyKey, "the private key is not that of the certificate in %s", certKey)
		}
		return bad(keyKey, "not a private key that can be read (PKCS #8, PKCS #1 or EC)")
	}
	if public, ok := chain[0].PublicKey.(*rsa.PublicKey); ok && public.N.BitLen() < minRSABits {
		return bad(certKey, "RSA key of %d bits; want at least %d", public.N.BitLen(), minRSABits)
	}
	return nil
}

func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for len(data) > 0 {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("a certificate cannot be parsed")
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("no PEM certificate")
	}
	return out, nil
}

func trustOf(m *config.Meta, data map[string][]byte) (*tls.CertificateValidationContext, *config.Problem) {
	for _, k := range authorityKeys {
		cert := data[k.cert]
		if len(cert) == 0 {
			continue
		}
		if _, err := parseCertificates(cert); err != nil {
			p := secretProblem(m, "SecretInvalid", "data %s: %v; want PEM certificates of authorities", k.cert, err)
			return nil, &p
		}
		out := &tls.CertificateValidationContext{TrustedCa: inlineSource(cert)}
		if crl := data[k.crl]; len(crl) > 0 {
			if !validCRL(crl) {
				p := secretProblem(m, "SecretInvalid", "data %s: want PEM certificate revocation lists (X509 CRL)", k.crl)
				return nil, &p
			}
			out.Crl = inlineSource(crl)
		}
		return out, nil
	}
	p := secretProblem(m, "SecretIncomplete",
		"holds no certificate authority: want data ca.crt or cacert, not empty; it has %s", dataKeys(data))
	return nil, &p
}

func validCRL(data []byte) bool {
	found := false
	for len(data) > 0 {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "X509 CRL" {
			continue
		}
		if _, err := x509.ParseRevocationList(block.Bytes); err != nil {
			return false
		}
		found = true
	}
	return found
}

// dataKeys names a Secret's keys, which are no secret.
func dataKeys(data map[string][]byte) string {
	keys := make([]string, 0, len(data))
	for k := range data {
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return "no data"
	}
	sort.Strings(keys)
	const shown = 5
	if len(keys) > shown {
		keys = append(slices.Clone(keys[:shown]), "…")
	}
	return strings.Join(keys, ", ")
}
