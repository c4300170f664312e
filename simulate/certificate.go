package simulate

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
)

// Certificate is what a client of a TLS connection shows. The authority that
// the server asks for is taken to have signed it, unless it says otherwise, or
// it is a real one (ParseCertificate), which is verified.
type Certificate struct {
	// SubjectAltNames are URIs (with ://), addresses, e-mail addresses and DNS names.
	SubjectAltNames []string `json:"subjectAltNames,omitempty" yaml:"subjectAltNames"`
	// Subject is a distinguished name: CN=alice,O=example (RFC 4514).
	Subject string `json:"subject,omitempty" yaml:"subject"`
	// Untrusted: some other authority signed it.
	Untrusted bool `json:"untrusted,omitempty" yaml:"untrusted"`
	// Expired: its time is over.
	Expired bool `json:"expired,omitempty" yaml:"expired"`
	// Revoked: the authority's revocation list has it, where there is one.
	Revoked bool `json:"revoked,omitempty" yaml:"revoked"`

	chain []*x509.Certificate // the real one, and those between it and its authority
}

// ParseCertificate reads a real certificate, and what follows it, as PEM.
func ParseCertificate(text []byte) (*Certificate, error) {
	out := &Certificate{}
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, err
		}
		out.chain = append(out.chain, c)
	}
	if len(out.chain) == 0 {
		return nil, errors.New("want a PEM certificate")
	}
	leaf := out.chain[0]
	for _, u := range leaf.URIs {
		out.SubjectAltNames = append(out.SubjectAltNames, u.String())
	}
	out.SubjectAltNames = append(out.SubjectAltNames, leaf.DNSNames...)
	out.SubjectAltNames = append(out.SubjectAltNames, leaf.EmailAddresses...)
	for _, ip := range leaf.IPAddresses {
		out.SubjectAltNames = append(out.SubjectAltNames, ip.String())
	}
	out.Subject = leaf.Subject.String()
	return out, nil
}

// The kinds of names in certificates.
const (
	NameURI     = "URI"
	NameDNS     = "DNS"
	NameEmail   = "email"
	NameAddress = "address"
)

// KindOfName is which kind of name a certificate has this one as.
func KindOfName(name string) string {
	switch _, err := netip.ParseAddr(name); {
	case strings.Contains(name, "://"):
		return NameURI
	case err == nil:
		return NameAddress
	case strings.Contains(name, "@"):
		return NameEmail
	}
	return NameDNS
}

func (c *Certificate) named(kind string) []string {
	return slices.DeleteFunc(slices.Clone(c.SubjectAltNames), func(n string) bool { return KindOfName(n) != kind })
}

// principals are the names by which policies know the client: those of URIs,
// of DNS, and the subject (envoy config.rbac.v3 Principal.Authenticated).
func (c *Certificate) principals() []string {
	return append(append(c.named(NameURI), c.named(NameDNS)...), c.Subject)
}

// clientCheck is what a server asks of its clients' certificates.
type clientCheck struct {
	*tls.CertificateValidationContext
	required bool
	asks     bool
	ca, crl  []byte // as far as they are known
	revokes  bool   // there is a revocation list
}

// checkOf reads what a server's context says about clients.
func (e *exchange) checkOf(c *tls.DownstreamTlsContext) *clientCheck {
	common := c.GetCommonTlsContext()
	out := &clientCheck{CertificateValidationContext: common.GetValidationContext(), required: c.GetRequireClientCertificate().GetValue()}
	if both := common.GetCombinedValidationContext(); both != nil {
		out.CertificateValidationContext = both.GetDefaultValidationContext()
		if s := e.config.secret(both.GetValidationContextSdsSecretConfig().GetName()); s != nil {
			out.ca = s.GetValidationContext().GetTrustedCa().GetInlineBytes()
			out.crl = s.GetValidationContext().GetCrl().GetInlineBytes()
			out.revokes = s.GetValidationContext().GetCrl() != nil
		}
	}
	out.asks = out.required || common.GetValidationContextType() != nil
	out.revokes = out.revokes || out.GetCrl() != nil
	if out.skips() {
		return out
	}
	// What a certificate must have besides makes Envoy require one.
	out.required = out.required || out.pins() || len(out.GetMatchTypedSubjectAltNames())+len(out.GetMatchSubjectAltNames()) > 0 //nolint:staticcheck // the field in use
	return out
}

// skips reports whether any certificate will do.
func (c *clientCheck) skips() bool {
	return c.GetTrustChainVerification() == tls.CertificateValidationContext_ACCEPT_UNTRUSTED
}

func (c *clientCheck) pins() bool {
	return len(c.GetVerifyCertificateHash())+len(c.GetVerifyCertificateSpki()) > 0
}

// refuses is why the server ends the handshake, or "".
func (c *clientCheck) refuses(cert *Certificate) string {
	switch {
	case !c.asks:
		return ""
	case cert == nil && c.required:
		return "the server requires a client certificate and the client has none"
	case cert == nil || c.skips():
		return ""
	}
	if why := c.distrusts(cert); why != "" {
		return why
	}
	return c.names(cert)
}

// distrusts is why the certificate is not a valid one of the authority, or "".
func (c *clientCheck) distrusts(cert *Certificate) string {
	switch {
	case cert.chain != nil && len(c.ca) > 0:
		return c.verify(cert)
	case cert.Untrusted:
		return "the client's certificate is not signed by the authority that the server asks for"
	case cert.Expired || cert.chain != nil && time.Now().After(cert.chain[0].NotAfter):
		return "the client's certificate has expired"
	case cert.Revoked && c.revokes:
		return "the client's certificate is revoked"
	}
	return ""
}

// verify is why a real certificate is not a valid one of the authority, or "".
func (c *clientCheck) verify(cert *Certificate) string {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(c.ca)
	for _, i := range cert.chain[1:] {
		between.AddCert(i)
	}
	leaf := cert.chain[0]
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return "the client's certificate is not valid: " + strings.TrimPrefix(err.Error(), "x509: ")
	}
	rest := c.crl
	for {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return ""
		}
		list, err := x509.ParseRevocationList(b.Bytes)
		if err == nil && slices.ContainsFunc(list.RevokedCertificateEntries, func(r x509.RevocationListEntry) bool { return r.SerialNumber.Cmp(leaf.SerialNumber) == 0 }) {
			return "the client's certificate is revoked"
		}
	}
}

// names is why the certificate is not one of those that the server takes, or "".
func (c *clientCheck) names(cert *Certificate) string {
	var wants []string
	for _, m := range c.GetMatchSubjectAltNames() { //nolint:staticcheck // the field in use: names of every kind
		if slices.ContainsFunc(cert.SubjectAltNames, func(n string) bool { match, _ := matchString(m, n); return match }) {
			wants = nil
			break
		}
		wants = append(wants, describeString(m))
	}
	if len(wants) > 0 {
		return fmt.Sprintf("the server takes a client whose name %s, and this one has %s", strings.Join(wants, " or "), orNone(strings.Join(cert.SubjectAltNames, ", ")))
	}
	if c.pins() && !c.pinned(cert) {
		return "the server takes clients by the hashes of their certificates, and this one's is another"
	}
	return ""
}

func (c *clientCheck) pinned(cert *Certificate) bool {
	if cert.chain == nil {
		return false
	}
	whole, key := sha256.Sum256(cert.chain[0].Raw), sha256.Sum256(cert.chain[0].RawSubjectPublicKeyInfo)
	for _, h := range c.GetVerifyCertificateHash() {
		if strings.EqualFold(strings.ReplaceAll(h, ":", ""), hex.EncodeToString(whole[:])) {
			return true
		}
	}
	return slices.Contains(c.GetVerifyCertificateSpki(), base64.StdEncoding.EncodeToString(key[:]))
}

// secret is what SDS says about a name, as far as it is known.
func (c *Config) secret(name string) *tls.Secret {
	if c.secrets == nil || name == "" {
		return nil
	}
	r := c.secrets(name)
	if r == nil {
		return nil
	}
	out := &tls.Secret{}
	if proto.Unmarshal(r.Bytes(), out) != nil {
		return nil
	}
	if f := out.GetValidationContext().GetTrustedCa(); f.GetSpecifier() != nil && isFile(f) {
		out.GetValidationContext().TrustedCa = nil // in the gateway's pod
	}
	return out
}

// lacking is a secret that a side's TLS needs and does not have, or "".
func (c *Config) lacking(t *tls.CommonTlsContext) string {
	if c.lacks == nil {
		return ""
	}
	named := slices.Clone(t.GetTlsCertificateSdsSecretConfigs())
	named = append(named, t.GetValidationContextSdsSecretConfig(), t.GetCombinedValidationContext().GetValidationContextSdsSecretConfig())
	for _, s := range named {
		if name := s.GetName(); name != "" && c.lacks(name) {
			return name
		}
	}
	return ""
}

func isFile(d *core.DataSource) bool { return d.GetFilename() != "" }
