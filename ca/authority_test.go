package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	security "istio.io/api/security/v1alpha1"
)

var shop = Identity{"cluster.local", "shop", "web"}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func request(t testing.TB, key crypto.Signer, template x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func uris(t testing.TB, texts ...string) x509.CertificateRequest {
	t.Helper()
	var out x509.CertificateRequest
	for _, s := range texts {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		out.URIs = append(out.URIs, u)
	}
	return out
}

func newAuthority(t testing.TB, o Options) *Authority {
	t.Helper()
	r, err := SelfSigned("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	return NewAuthority(r, o)
}

// leafOf reads an answer of Sign and verifies it as a peer would that has the
// last element for its roots.
func leafOf(t testing.TB, chain []string) *x509.Certificate {
	t.Helper()
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	if len(chain) < 2 || !roots.AppendCertsFromPEM([]byte(chain[len(chain)-1])) {
		t.Fatalf("the answer has no roots: %q", chain)
	}
	for _, c := range chain[1 : len(chain)-1] {
		between.AppendCertsFromPEM([]byte(c))
	}
	block, _ := pem.Decode([]byte(chain[0]))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
			t.Fatalf("a peer does not accept the certificate: %v", err)
		}
	}
	return leaf
}

func TestSign(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthority(t, Options{MaxLifetime: 48 * time.Hour})
	for name, c := range map[string]struct {
		key      crypto.Signer
		request  x509.CertificateRequest
		lifetime time.Duration
		want     time.Duration
	}{
		"no name asked for":        {key: newKey(t), want: 48 * time.Hour},
		"the proven identity":      {key: newKey(t), request: uris(t, "spiffe://cluster.local/ns/shop/sa/web"), lifetime: time.Minute, want: time.Minute},
		"under the domain's alias": {key: newKey(t), request: uris(t, "spiffe://old.example/ns/shop/sa/web"), want: 48 * time.Hour},
		"RSA":                      {key: rsaKey, lifetime: time.Hour, want: time.Hour},
		"longer than the cap":      {key: rsaKey, lifetime: 9999 * time.Hour, want: 48 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			chain, err := a.Sign(request(t, c.key, c.request), shop, c.lifetime, "cluster.local", "old.example")
			if err != nil {
				t.Fatal(err)
			}
			leaf := leafOf(t, chain)
			if len(leaf.URIs) != 1 || leaf.URIs[0].String() != "spiffe://cluster.local/ns/shop/sa/web" {
				t.Errorf("URIs %v", leaf.URIs)
			}
			if leaf.IsCA || len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses) > 0 {
				t.Errorf("is a CA (%t), or has names besides the identity", leaf.IsCA)
			}
			if pub := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !pub.Equal(c.key.Public()) {
				t.Error("is of another key")
			}
			if got := time.Until(leaf.NotAfter); got > c.want || got < c.want-time.Minute {
				t.Errorf("is valid for %v, want %v", got, c.want)
			}
			if leaf.NotBefore.After(time.Now().Add(-time.Minute)) {
				t.Errorf("begins at %v: a peer whose clock is a minute behind refuses it", leaf.NotBefore)
			}
		})
	}
}

// broken returns a request whose signature is of something else.
func broken(t *testing.T, template x509.CertificateRequest) []byte {
	block, _ := pem.Decode(request(t, newKey(t), template))
	block.Bytes[len(block.Bytes)-1] ^= 1
	return pem.EncodeToMemory(block)
}

// tokenOf is the one token that is good; it is of shop.
type tokenOf string

func (good tokenOf) Review(_ context.Context, token string) (Caller, error) {
	if token != string(good) {
		return Caller{}, refuse(Unauthenticated, "the token is unknown")
	}
	return Caller{Identity: shop}, nil
}

// Metrics say when the root and the chain of signers end, and how long that is.
func TestMetricsOfExpiry(t *testing.T) {
	now := time.Now()
	a := newAuthority(t, Options{Now: func() time.Time { return now }})
	registry := prometheus.NewRegistry()
	NewMetrics(a, registry)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
	}
	end := a.Root().roots[0].NotAfter
	at, in := float64(end.Unix()), end.Sub(now).Seconds()
	for name, want := range map[string]float64{ // one certificate is both
		"citadel_server_root_cert_expiry_timestamp": at, "citadel_server_root_cert_expiry_seconds": in,
		"citadel_server_cert_chain_expiry_timestamp": at, "citadel_server_cert_chain_expiry_seconds": in,
	} {
		if got[name] != want {
			t.Errorf("%s is %g, want %g", name, got[name], want)
		}
	}
}

// A request that is refused gets a clear error and is counted by its reason, and
// the next good one is signed.
func TestRefusedRequests(t *testing.T) {
	a := newAuthority(t, Options{})
	registry := prometheus.NewRegistry()
	service := &Service{
		Authority: a, Metrics: NewMetrics(a, registry),
		Callers: &Authenticator{Tokens: tokenOf("good"), Domains: func() []string { return []string{"cluster.local", "old.example"} }},
	}
	ask := func(token string, csr []byte) error {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer "+token))
		_, err := service.CreateCertificate(ctx, &security.IstioCertificateRequest{Csr: string(csr)})
		return err
	}
	counted := func(family, reason string) float64 {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == family && (reason == "" || m.GetLabel()[0].GetValue() == reason) {
					return m.GetCounter().GetValue()
				}
			}
		}
		return 0
	}
	key := newKey(t)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	t.Setenv("GODEBUG", "rsa1024min=0") // to make the key that is refused
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := request(t, key, x509.CertificateRequest{})
	block, _ := pem.Decode(good)
	inside := pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: append(slices.Clone(block.Bytes), 0)})
	otherName := x509.CertificateRequest{ExtraExtensions: nil}
	otherName.ExtraExtensions = append(otherName.ExtraExtensions, extension(subjectAltName, []byte{0x30, 0x05, 0xa8, 0x03, 0x06, 0x01, 0x2a}))
	dns := uris(t, shop.String())
	dns.DNSNames = []string{"web.shop.svc"}

	for name, c := range map[string]struct {
		request []byte
		reason  Reason
		says    string
	}{
		"nothing":                 {nil, BadRequest, "not PEM"},
		"not PEM":                 {[]byte("hello"), BadRequest, "not PEM"},
		"huge":                    {bytes.Repeat([]byte("x"), 1<<20), BadRequest, "1048576 bytes"},
		"a certificate":           {[]byte(strings.ReplaceAll(string(good), " REQUEST", "")), BadRequest, `"CERTIFICATE"`},
		"trailing bytes":          {append(slices.Clone(good), "more"...), BadRequest, "4 bytes follow"},
		"two requests":            {append(slices.Clone(good), good...), BadRequest, "bytes follow"},
		"leading text":            {append([]byte("x\n"), good...), BadRequest, "comes before"},
		"trailing bytes inside":   {inside, BadRequest, "trailing data"},
		"truncated":               {pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes[:40]}), BadRequest, "cannot be read"},
		"wrong signature":         {broken(t, uris(t, shop.String())), BadSignature, "signature is wrong"},
		"SHA-1":                   {request(t, key, x509.CertificateRequest{SignatureAlgorithm: x509.ECDSAWithSHA1}), BadSignature, "SHA1"},
		"P-224":                   {request(t, p224, x509.CertificateRequest{}), WeakKey, "P-224"},
		"RSA 1024":                {request(t, short, x509.CertificateRequest{}), WeakKey, "1024 bits"},
		"Ed25519":                 {request(t, ed, x509.CertificateRequest{}), WeakKey, "unusual kind"},
		"another account":         {request(t, key, uris(t, "spiffe://cluster.local/ns/shop/sa/admin")), OtherIdentity, "the caller is spiffe://cluster.local/ns/shop/sa/web"},
		"another namespace":       {request(t, key, uris(t, "spiffe://cluster.local/ns/bank/sa/web")), OtherIdentity, "spiffe://cluster.local/ns/bank/sa/web"},
		"another domain":          {request(t, key, uris(t, "spiffe://elsewhere/ns/shop/sa/web")), OtherIdentity, "spiffe://elsewhere"},
		"two identities":          {request(t, key, uris(t, shop.String(), "spiffe://cluster.local/ns/bank/sa/web")), OtherIdentity, "2 names"},
		"a DNS name too":          {request(t, key, dns), OtherIdentity, "web.shop.svc"},
		"a name of no known kind": {request(t, key, otherName), OtherIdentity, "1 names"},
		"an empty URI":            {request(t, key, uris(t, "spiffe://cluster.local/ns/shop/sa/")), OtherIdentity, "asks for"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.Sign(c.request, shop, 0, "cluster.local", "old.example")
			var r *Refusal
			if !errors.As(err, &r) || r.Reason != c.reason || !strings.Contains(r.Error(), c.says) {
				t.Errorf("%v, want %s and %q", err, c.reason, c.says)
			}
			before := counted("citadel_server_csr_sign_err_count", string(c.reason))
			want := codes.InvalidArgument
			if c.reason == OtherIdentity {
				want = codes.PermissionDenied
			}
			if err := ask("good", c.request); status.Code(err) != want || !strings.Contains(err.Error(), c.says) {
				t.Errorf("a caller is told %v, want %v and %q", err, want, c.says)
			}
			if n := counted("citadel_server_csr_sign_err_count", string(c.reason)); n != before+1 {
				t.Errorf("counted %g times as %s, was %g", n, c.reason, before)
			}
			if err := ask("good", good); err != nil {
				t.Errorf("a good request after it: %v", err)
			}
		})
	}
	if err := ask("bad", good); status.Code(err) != codes.Unauthenticated {
		t.Errorf("an unknown token: %v", err)
	}
	for family, want := range map[string]float64{
		"citadel_server_authentication_failure_count": 1, "citadel_server_id_extraction_err_count": 7, "citadel_server_csr_parsing_err_count": 14,
		"citadel_server_csr_count": 2*21 + 1, "citadel_server_success_cert_issuance_count": 21,
	} {
		if n := counted(family, ""); n != want {
			t.Errorf("%s is %g, want %g", family, n, want)
		}
	}
}

// A certificate never outlives what it is signed with, and an expired root
// signs nothing.
func TestExpiringRoot(t *testing.T) {
	now := time.Now()
	a := newAuthority(t, Options{Now: func() time.Time { return now }})
	csr := request(t, newKey(t), x509.CertificateRequest{})
	end := a.Root().expiry()
	now = end.Add(-time.Hour)
	chain, err := a.Sign(csr, shop, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(chain[0]))
	if leaf, err := x509.ParseCertificate(block.Bytes); err != nil || leaf.NotAfter.After(end) {
		t.Errorf("valid until %v, its root until %v (%v)", leaf.NotAfter, end, err)
	}
	now = end
	if _, err = a.Sign(csr, shop, 0); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired root: %v", err)
	}
}

// The control plane's own certificate is for its names, and is renewed in time
// and with the root.
func TestServing(t *testing.T) {
	now := time.Now()
	a := newAuthority(t, Options{Now: func() time.Time { return now }, Names: ServingNames("istio-system", "canary")})
	first, err := a.Serving()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"istiod.istio-system.svc", "istiod.istio-system.svc.cluster.local", "istiod-canary.istio-system.svc", "localhost"} {
		if err := first.Leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	now = now.Add(11 * time.Hour)
	if again, _ := a.Serving(); again != first {
		t.Error("made anew before half its life")
	}
	now = now.Add(2 * time.Hour)
	second, err := a.Serving()
	if err != nil || second == first {
		t.Fatalf("not renewed at half its life (%v)", err)
	}
	next, err := SelfSigned("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	_, changed := a.TrustBundle()
	a.Use(next)
	select {
	case <-changed:
	default:
		t.Error("nobody is told of a new root")
	}
	third, err := a.Serving()
	if err != nil {
		t.Fatal(err)
	}
	if err := third.Leaf.CheckSignatureFrom(next.roots[0]); err != nil {
		t.Errorf("not of the new root: %v", err)
	}
	if pool, _ := a.Clients(); !poolTrusts(pool, third) || poolTrusts(pool, second) {
		t.Error("the clients' roots are not those of the new root only")
	}
}

func poolTrusts(pool *x509.CertPool, c *tls.Certificate) bool {
	_, err := c.Leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: c.Leaf.NotBefore})
	return err == nil
}

func TestAuthorityWithoutRoot(t *testing.T) {
	a := NewAuthority(nil, Options{})
	if _, err := a.Serving(); err == nil {
		t.Error("shows a certificate")
	}
	if _, err := a.Clients(); err == nil {
		t.Error("trusts clients")
	}
	if _, err := a.Sign(request(t, newKey(t), x509.CertificateRequest{}), shop, 0); err == nil {
		t.Error("signs")
	}
}

// No verb of fmt shows a signing key.
func TestRootPrintsNoKey(t *testing.T) {
	a := newAuthority(t, Options{})
	d := a.Root().key.(*ecdsa.PrivateKey).D //nolint:staticcheck // what must not be shown
	for _, text := range []string{fmt.Sprint(a.Root()), fmt.Sprintf("%+v %#v %s", a.Root(), a.Root(), a.Root())} {
		if strings.Contains(text, d.String()) || strings.Contains(text, d.Text(16)) {
			t.Errorf("shows its key: %s", text)
		}
	}
}

func TestParseIdentity(t *testing.T) {
	for uri, ok := range map[string]bool{
		"spiffe://cluster.local/ns/shop/sa/default": true,
		"spiffe://cluster.local/ns//sa/default":     false,
		"spiffe:///ns/shop/sa/default":              false,
		"spiffe://cluster.local/ns/shop":            false,
		"spiffe://cluster.local/ns/shop/sa/a/b":     false,
		"spiffe://cluster.local/ns/shop/sa/a?x=1":   false,
		"spiffe://u@cluster.local/ns/shop/sa/a":     false,
		"https://cluster.local/ns/shop/sa/default":  false,
		"spiffe://cluster.local/sa/shop/ns/default": false,
	} {
		id, err := ParseIdentity(uri)
		if (err == nil) != ok || ok && id.String() != uri {
			t.Errorf("%s is %v, %v", uri, id, err)
		}
	}
}

func extension(id asn1.ObjectIdentifier, value []byte) pkix.Extension {
	return pkix.Extension{Id: id, Value: value}
}
