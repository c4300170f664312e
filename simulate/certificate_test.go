package simulate_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/simulate"
)

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue signs a certificate; nil makes an authority.
func (a *authority) issue(t *testing.T, serial int64, name string, until time.Time) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key := newKey(t)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, DNSNames: []string{name},
	}
	by := a
	if by == nil {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage, c.DNSNames = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil, nil
		by = &authority{c, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out, key
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	var none *authority
	cert, key := none.issue(t, 1, name, time.Now().Add(time.Hour))
	return &authority{cert, key}
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// TestRealCertificates: a gateway's verdict about certificates as files, which
// are verified against the authority, its revocation list and the names and
// hashes that the server asks for.
func TestRealCertificates(t *testing.T) {
	ca, other := newAuthority(t, "clients"), newAuthority(t, "others")
	good, _ := ca.issue(t, 2, "client.test", time.Now().Add(time.Hour))
	stranger, _ := other.issue(t, 2, "client.test", time.Now().Add(time.Hour))
	expired, _ := ca.issue(t, 3, "client.test", time.Now().Add(-time.Minute))
	revoked, _ := ca.issue(t, 4, "client.test", time.Now().Add(time.Hour))
	named, _ := ca.issue(t, 5, "someone.test", time.Now().Add(time.Hour))
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(4), RevocationTime: time.Now()}},
	}, ca.cert, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	serverKey, err := x509.MarshalECPrivateKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	hash, key := sha256.Sum256(good.Raw), sha256.Sum256(good.RawSubjectPublicKeyInfo)
	for name, c := range map[string]struct {
		tls   string // besides credentialName
		shows *x509.Certificate
		why   string // "" for taken
	}{
		"good":              {"mode: MUTUAL", good, ""},
		"none":              {"mode: MUTUAL", nil, "the server requires a client certificate and the client has none"},
		"none, optional":    {"mode: OPTIONAL_MUTUAL", nil, ""},
		"stranger":          {"mode: MUTUAL", stranger, "certificate signed by unknown authority"},
		"stranger, simple":  {"mode: SIMPLE", stranger, ""},
		"expired":           {"mode: OPTIONAL_MUTUAL", expired, "certificate has expired"},
		"revoked":           {"mode: MUTUAL", revoked, "is revoked"},
		"another name":      {"mode: MUTUAL, subjectAltNames: [client.test]", named, `the server takes a client whose name is "client.test", and this one has someone.test`},
		"the name":          {"mode: MUTUAL, subjectAltNames: [client.test]", good, ""},
		"names need one":    {"mode: OPTIONAL_MUTUAL, subjectAltNames: [client.test]", nil, "requires a client certificate"},
		"the hash":          {"mode: MUTUAL, verifyCertificateHash: ['" + hex.EncodeToString(hash[:]) + "']", good, ""},
		"another hash":      {"mode: MUTUAL, verifyCertificateHash: ['" + hex.EncodeToString(hash[:]) + "']", named, "by the hashes of their certificates"},
		"the key":           {"mode: MUTUAL, verifyCertificateSpki: ['" + base64.StdEncoding.EncodeToString(key[:]) + "']", good, ""},
		"not looked at":     {"mode: MUTUAL, insecureSkipVerify: true", stranger, ""},
		"not even expired":  {"mode: OPTIONAL_MUTUAL, insecureSkipVerify: true", expired, ""},
		"skipped, but none": {"mode: MUTUAL, insecureSkipVerify: true", nil, "requires a client certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			text := fmt.Sprintf(mutualGateway, pemOf("CERTIFICATE", ca.cert.Raw), pemOf("X509 CRL", list), pemOf("EC PRIVATE KEY", serverKey), c.tls)
			path := filepath.Join(t.TempDir(), "gateway.yaml")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			q := &simulate.Query{From: "gateway/a/gw", URL: "https://x.test/"}
			if c.shows != nil {
				if q.Certificate, err = simulate.ParseCertificate([]byte(pemOf("CERTIFICATE", c.shows.Raw))); err != nil {
					t.Fatal(err)
				}
			}
			a, err := worldOf(t, path).Ask(q)
			if err != nil {
				t.Fatal(err)
			}
			reason := ""
			if r := a.Hop.Reply; r != nil && r.Status == 0 {
				reason = r.Reason
			}
			if (reason == "") != (c.why == "") || !strings.Contains(reason, c.why) {
				t.Errorf("refused: %q, want %q", reason, c.why)
			}
			if len(a.Unknown) > 0 {
				t.Errorf("not known: %q", a.Unknown)
			}
		})
	}
}

const mutualGateway = `apiVersion: v1
kind: Secret
metadata: {name: gw, namespace: a}
stringData: {tls.crt: %[1]q, tls.key: %[3]q, ca.crt: %[1]q, ca.crl: %[2]q}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ingress, namespace: a}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  template:
    metadata: {labels: {istio: ingressgateway, sidecar.istio.io/inject: "true"}, annotations: {inject.istio.io/templates: gateway}}
    spec: {containers: [{name: istio-proxy, image: auto}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: a}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: ["x.test"], tls: {credentialName: gw, %[4]s}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: x, namespace: a}
spec: {hosts: [x.test], gateways: [gw], http: [{directResponse: {status: 200}}]}
`
