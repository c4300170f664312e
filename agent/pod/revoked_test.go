package pod_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// Envoy takes the revocation lists that come to the pod: it keeps to whom it
// knows, and refuses a certificate that was revoked.
func TestRevokedCertificateIsRefused(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "corp"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	own := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	plugged, err := ca.ParseRoot(own, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil, own, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, ca.Options{})
	w.authority.Use(plugged)
	w.publishRoots()
	revoke := func(serials ...*big.Int) {
		t.Helper()
		list := &x509.RevocationList{Number: big.NewInt(int64(len(serials) + 1)), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
		for _, n := range serials {
			list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: time.Now()})
		}
		der, err := x509.CreateRevocationList(rand.Reader, list, root, key)
		if err != nil {
			t.Fatal(err)
		}
		w.file("/var/run/secrets/istio/crl/ca-crl.pem", string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})))
	}
	revoke()
	r := w.start(w.options(nil))
	w.awaitReady(r) // the control plane's certificate is on no list
	serving, err := w.authority.Serving()
	if err != nil {
		t.Fatal(err)
	}
	revoke(serving.Leaf.SerialNumber)
	envoytest.Eventually(t, 30*time.Second, func() string {
		if !strings.Contains(r.log.String(), "trusted roots read again") {
			return "the agent has not read the list"
		}
		return ""
	})
	killProcess(t, envoyPID(t)) // the next one connects anew
	failed := regexp.MustCompile(`cluster\.xds-grpc\.ssl\.fail_verify_error: [1-9]`)
	envoytest.Eventually(t, 30*time.Second, func() string {
		_, stats, err := get("http://127.0.0.1:15000/stats?filter=xds-grpc")
		if err != nil || !failed.MatchString(stats) {
			return fmt.Sprint("Envoy connects to the control plane whose certificate was revoked: ", stats, err)
		}
		return ""
	})
}
