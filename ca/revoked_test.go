package ca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// revoking is the PEM of a root's list of revoked serial numbers.
func revoking(t *testing.T, r *Root, until time.Time, serials ...*big.Int) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(7), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: until}
	for _, n := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, r.chain[0], r.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// The revocation lists of a plugged-in authority reach every namespace and the
// control plane's own door; lists that would shut all proxies out are refused.
func TestRevocationLists(t *testing.T) {
	client := testNamespace(t, "revoked")
	secrets, maps := client.CoreV1().Secrets("revoked"), client.CoreV1().ConfigMaps("revoked")
	k := keep(t, client, "revoked", 0)
	self := k.root("is there", any1) // stays trusted beside what is plugged in
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- (&Distributor{Client: client, Authority: k.authority, Log: zap.NewNop()}).Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	distributed := func(want string) {
		t.Helper()
		envoytest.Eventually(t, 30*time.Second, func() string {
			c, err := maps.Get(t.Context(), "istio-ca-crl", metav1.GetOptions{})
			if err != nil {
				return err.Error()
			}
			if got := c.Data["ca-crl.pem"]; !strings.HasPrefix(got, want) || (got == "") != (want == "") {
				return "another content: " + got
			}
			return ""
		})
	}
	s, corp := plugged(t, "revoked")
	if _, err := secrets.Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	signer := k.root("signs for corp", func(r *Root) bool { return r.roots[0].Equal(corp.roots[0]) })
	if _, err := maps.Get(t.Context(), "istio-ca-crl", metav1.GetOptions{}); err == nil {
		t.Error("a ConfigMap without a list")
	}
	chainOf := func() []*x509.Certificate {
		t.Helper()
		answer, err := k.authority.Sign(request(t, newKey(t), uris(t)), shop, 0)
		if err != nil {
			t.Fatal(err)
		}
		leaf := leafOf(t, answer)
		return []*x509.Certificate{leaf, signer.chain[0], corp.chain[0]}
	}
	bad, good := chainOf(), chainOf()
	later := time.Now().Add(time.Hour)
	lists := append(revoking(t, signer, later, bad[0].SerialNumber), revoking(t, corp, later)...)
	update := func(crl []byte) {
		t.Helper()
		next := s.DeepCopy()
		if next.Data["ca-crl.pem"] = crl; crl == nil {
			delete(next.Data, "ca-crl.pem")
		}
		if _, err := secrets.Update(t.Context(), next, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	update(lists)
	distributed(string(lists))
	if err := k.authority.Revoked(bad); err == nil || !strings.Contains(err.Error(), "was revoked at") {
		t.Errorf("a revoked certificate: %v", err)
	}
	if err := k.authority.Revoked(good); err != nil {
		t.Error(err)
	}
	if k.authority.Root().revoked.of(self.chain[0]) == nil {
		t.Error("the self-signed root, which is trusted too, has no list: Envoy refuses every certificate of it")
	}
	for says, crl := range map[string][]byte{
		"has no list that CN=Root CA":                revoking(t, signer, later),
		"has no list that  has signed":               revoking(t, corp, later),
		"was to be replaced by":                      append(revoking(t, signer, time.Now().Add(-time.Minute)), revoking(t, corp, later)...),
		"bytes are no PEM":                           []byte("x"),
		`holds a PEM block "CERTIFICATE", want X509`: s.Data["ca-cert.pem"],
	} {
		update(crl)
		k.problem(says)
		if err := k.authority.Revoked(bad); err == nil {
			t.Errorf("%s: the last good lists are no longer in use", says)
		}
	}
	update(nil)
	k.problem("")
	distributed("")
}
