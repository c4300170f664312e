package live

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// authority signs the certificates that clients of test requests show, in
// place of the authorities that the configuration names, with a key that lives
// in memory only.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
	crl  []byte // lists revokedSerial
}

// revokedSerial is that of every revoked certificate.
const revokedSerial = 666

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	a := &authority{key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, key.Public(), key)
	if err != nil {
		return nil, err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(24 * time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(revokedSerial), RevocationTime: now}},
	}, a.cert, key)
	a.crl = pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list})
	return a, err
}

// certificate makes what a client shows.
func (i *Issuer) certificate(c *simulate.Certificate) (*tls.Certificate, error) {
	by := i.authority
	if c.Untrusted {
		by = i.stranger
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: subjectOf(c.Subject), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if c.Expired {
		t.NotAfter = now.Add(-time.Minute)
	}
	if c.Revoked {
		t.SerialNumber = big.NewInt(revokedSerial)
	}
	for _, n := range c.SubjectAltNames {
		switch simulate.KindOfName(n) {
		case simulate.NameURI:
			u, err := url.Parse(n)
			if err != nil {
				return nil, err
			}
			t.URIs = append(t.URIs, u)
		case simulate.NameAddress:
			t.IPAddresses = append(t.IPAddresses, net.ParseIP(n))
		case simulate.NameEmail:
			t.EmailAddresses = append(t.EmailAddresses, n)
		default:
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, by.cert, key.Public(), by.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// subjectOf reads a distinguished name in the form CN=alice,O=example.
func subjectOf(text string) pkix.Name {
	var out pkix.Name
	for _, part := range strings.Split(text, ",") {
		kind, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch strings.ToUpper(kind) {
		case "CN":
			out.CommonName = value
		case "O":
			out.Organization = append(out.Organization, value)
		case "OU":
			out.OrganizationalUnit = append(out.OrganizationalUnit, value)
		case "C":
			out.Country = append(out.Country, value)
		}
	}
	return out
}

// authorityKeys are the keys of Secrets and ConfigMaps that hold authorities
// and their revocation lists.
var authorityKeys = map[string]func(*authority) []byte{
	"ca.crt": (*authority).certificates, "cacert": (*authority).certificates,
	"ca.crl": (*authority).revocations, "crl": (*authority).revocations,
}

func (a *authority) certificates() []byte { return a.pem }
func (a *authority) revocations() []byte  { return a.crl }

// Authority is the certificate of the authority of clients, in PEM, and
// Revocations its list of what it no longer stands for.
func (i *Issuer) Authority() (certificate, revocations []byte) {
	return i.authority.pem, i.authority.crl
}

// vouch puts the authority in the place of one that an object holds.
func (i *Issuer) vouch(o map[string]any) {
	for _, under := range []string{"data", "stringData"} {
		data, _ := o[under].(map[string]any)
		for key, of := range authorityKeys {
			if _, has := data[key]; !has {
				continue
			}
			if o["kind"] == "ConfigMap" {
				data[key] = string(of(i.authority))
				continue
			}
			delete(data, key)
			text, _ := o["stringData"].(map[string]any)
			if text == nil {
				text = map[string]any{}
				o["stringData"] = text
			}
			text[key] = string(of(i.authority))
		}
	}
}
