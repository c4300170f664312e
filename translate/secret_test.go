package translate_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

func protoString(s string) protoreflect.Value { return protoreflect.ValueOfString(s) }

func asJSON(t *testing.T, r *translate.Resource, m proto.Message) json.RawMessage {
	t.Helper()
	if err := proto.Unmarshal(r.Bytes(), m); err != nil {
		t.Fatal(err)
	}
	return asJSONMessage(t, m)
}

func asJSONMessage(t *testing.T, m proto.Message) json.RawMessage {
	t.Helper()
	js, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// pair is a key and a self-signed certificate, made afresh: no key is ever
// kept in a file.
func pair(t *testing.T, key crypto.Signer) (cert, private, crl []byte) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"test.example.com"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	own, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	revoked, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Unix(0, 0), NextUpdate: time.Unix(1<<32, 0),
	}, own, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	return block("CERTIFICATE", der), block("PRIVATE KEY", pkcs8), block("X509 CRL", revoked)
}

func rsaKey(t *testing.T, bits int) crypto.Signer {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ecdsaKey(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// secretMesh holds Secrets of each form, good and bad.
func secretMesh(t *testing.T) *config.Mesh {
	t.Helper()
	b := config.NewBuilder(nil)
	put := func(name string, data map[string][]byte) {
		config.Put(b, func(m *config.Mesh) *config.Index[*config.Secret] { return &m.Secrets }, &config.Secret{
			Meta: config.Meta{Key: config.Key{Kind: "Secret", Namespace: "default", Name: name}, Hash: config.NewHasher().Str(name).Sum()},
			Data: data,
		})
	}
	cert, key, crl := pair(t, rsaKey(t, 2048))
	ecCert, ecKey, _ := pair(t, ecdsaKey(t))
	put("rsa", map[string][]byte{"tls.crt": cert, "tls.key": key, "ca.crt": cert, "ca.crl": crl})
	put("ecdsa", map[string][]byte{"cert": ecCert, "key": ecKey})
	put("staple", map[string][]byte{"tls.crt": cert, "tls.key": key, "tls.ocsp-staple": []byte("staple")})
	put("separate", map[string][]byte{"tls.crt": cert, "tls.key": key, "ca.crt": cert})
	put("separate-cacert", map[string][]byte{"cacert": ecCert, "crl": crl})
	put("mixed", map[string][]byte{"tls.crt": cert, "tls.key": ecKey})
	put("garbled", map[string][]byte{"tls.crt": cert, "tls.key": []byte("-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n")})
	put("encrypted", map[string][]byte{"tls.crt": cert, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})})
	put("bad-crl", map[string][]byte{"ca.crt": cert, "ca.crl": []byte("hunter2")})
	return b.Mesh()
}

// TestSecrets: which Secret becomes which SDS resource.
func TestSecrets(t *testing.T) {
	m := secretMesh(t)
	tr := translate.NewTranslator(100)
	get := func(name string) *tls.Secret {
		t.Helper()
		r, problems := tr.Secret(m, translate.Reader{Namespace: "default"}, name)
		if r == nil {
			t.Fatalf("%s: %v", name, problems)
		}
		s := &tls.Secret{}
		if err := proto.Unmarshal(r.Bytes(), s); err != nil {
			t.Fatal(err)
		}
		if err := s.ValidateAll(); err != nil || s.Name != name || r.Name != name {
			t.Errorf("%s: named %s, %v", name, s.Name, err)
		}
		return s
	}
	data := func(name string) map[string][]byte {
		s, _ := m.Secrets.Get("default", name)
		return s.Data
	}
	if c := get("kubernetes://rsa").GetTlsCertificate(); string(c.GetPrivateKey().GetInlineBytes()) != string(data("rsa")["tls.key"]) ||
		string(c.GetCertificateChain().GetInlineBytes()) != string(data("rsa")["tls.crt"]) {
		t.Error("kubernetes://rsa is not the Secret's pair")
	}
	if c := get("kubernetes-gateway://default/ecdsa").GetTlsCertificate(); string(c.GetPrivateKey().GetInlineBytes()) != string(data("ecdsa")["key"]) {
		t.Error("a generic Secret's pair is under cert and key")
	}
	if c := get("kubernetes://staple").GetTlsCertificate(); string(c.GetOcspStaple().GetInlineBytes()) != "staple" {
		t.Error("the OCSP staple is missing")
	}
	if v := get("kubernetes://rsa-cacert").GetValidationContext(); string(v.GetTrustedCa().GetInlineBytes()) != string(data("rsa")["ca.crt"]) || len(v.GetCrl().GetInlineBytes()) == 0 {
		t.Error("kubernetes://rsa-cacert is not the authority and revocations beside the pair")
	}
	if v := get("kubernetes://separate-cacert").GetValidationContext(); string(v.GetTrustedCa().GetInlineBytes()) != string(data("separate-cacert")["cacert"]) {
		t.Error("a Secret of the suffixed name goes before the one that holds the pair")
	}
}

// TestSecretProblems: what is broken is refused by name, and never shown.
func TestSecretProblems(t *testing.T) {
	m := secretMesh(t)
	tr := translate.NewTranslator(100)
	for name, want := range map[string]string{
		"kubernetes://mixed":          "not that of the certificate",
		"kubernetes://garbled":        "no PEM private key",
		"kubernetes://encrypted":      "encrypted",
		"kubernetes://bad-crl-cacert": "revocation",
		"kubernetes://absent":         "does not exist",
		"kubernetes://":               "",
		"unknown":                     "",
	} {
		for range 2 { // the second time from memory
			r, problems := tr.Secret(m, translate.Reader{Namespace: "default"}, name)
			text := fmt.Sprint(problems)
			if r != nil || !strings.Contains(text, want) || (want != "") != (len(problems) == 1) {
				t.Errorf("%s: %v with problems %s, want one that says %q", name, r, text, want)
			}
			if strings.Contains(text, "hunter2") || strings.Contains(text, "BEGIN") {
				t.Errorf("%s: the problem shows content: %s", name, text)
			}
		}
	}
}
