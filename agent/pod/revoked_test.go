package pod_test

import (
	"fmt"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/pki"
)

// Envoy takes the revocation lists that come to the pod: it keeps to whom it
// knows, and refuses a certificate that was revoked.
func TestRevokedCertificateIsRefused(t *testing.T) {
	own, err := pki.Root("corp", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	plugged, err := ca.ParseRoot(own.Cert, own.KeyPEM, nil, own.Cert, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, ca.Options{})
	w.authority.Use(plugged)
	w.publishRoots()
	revoke := func(serials ...*big.Int) {
		t.Helper()
		list, err := own.Revoke(int64(len(serials)+1), serials...)
		if err != nil {
			t.Fatal(err)
		}
		w.file("/var/run/secrets/istio/crl/ca-crl.pem", string(list))
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
