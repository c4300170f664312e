package pod_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// certificate puts a certificate of the pod's own into one of its folders.
func (w *world) certificate(dir string) {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		w.t.Fatal(err)
	}
	chain, err := w.authority.Sign(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}),
		ca.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "app"}, time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		w.t.Fatal(err)
	}
	w.file(filepath.Join(dir, "cert-chain.pem"), strings.Join(chain[:len(chain)-1], ""))
	w.file(filepath.Join(dir, "root-cert.pem"), chain[len(chain)-1])
	w.file(filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

// serial is that of the certificate in a folder of the pod.
func (w *world) serial(dir string) string {
	p, err := tls.LoadX509KeyPair(filepath.Join(w.root, dir, "cert-chain.pem"), filepath.Join(w.root, dir, "key.pem"))
	if err != nil {
		return err.Error()
	}
	return p.Leaf.SerialNumber.Text(16)
}

// With FILE_MOUNTED_CERTS nobody is asked for certificates: Envoy has the
// mounted one.
func TestMountedCertificates(t *testing.T) {
	w := newWorld(t, ca.Options{})
	w.certificate("/etc/certs")
	_ = os.Remove(filepath.Join(w.root, "/var/run/secrets/tokens/istio-token"))
	_ = os.Remove(filepath.Join(w.root, "/var/run/secrets/istio/root-cert.pem"))
	w.awaitReady(w.start(w.options(nil, "FILE_MOUNTED_CERTS=true")))
	envoytest.Eventually(t, 20*time.Second, func() string {
		_, certs, err := get("http://127.0.0.1:15000/certs")
		if err != nil || !strings.Contains(certs, w.serial("/etc/certs")) {
			return certs
		}
		return ""
	})
}

// With PROV_CERT a certificate stands for the token of a machine that is no pod,
// and OUTPUT_CERTS leaves what comes of it in files.
func TestProvisionedAndWrittenCertificates(t *testing.T) {
	w := newWorld(t, ca.Options{})
	w.certificate("/etc/first")
	w.file("/etc/out/placeholder", "")
	_ = os.Remove(filepath.Join(w.root, "/var/run/secrets/tokens/istio-token"))
	w.awaitReady(w.start(w.options(nil, "PROV_CERT=/etc/first", "OUTPUT_CERTS=/etc/out")))
	envoytest.Eventually(t, 20*time.Second, func() string {
		_, certs, err := get("http://127.0.0.1:15000/certs")
		if err != nil || !strings.Contains(certs, w.serial("/etc/out")) {
			return certs
		}
		return ""
	})
	if w.serial("/etc/out") == w.serial("/etc/first") {
		t.Error("the provisioned certificate was not exchanged for one of the pod's own")
	}
}

func TestCertificateSettingsThatContradict(t *testing.T) {
	w := newWorld(t, ca.Options{})
	r := w.start(w.options(nil, "PROV_CERT=/etc/first", "FILE_MOUNTED_CERTS=true"))
	<-r.done
	if r.err == nil || !strings.Contains(r.err.Error(), "PROV_CERT exclude") {
		t.Errorf("ends with %v", r.err)
	}
}
