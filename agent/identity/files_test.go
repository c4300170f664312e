package identity_test

import (
	"bytes"
	"context"
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

	"github.com/pilotfish-mesh/pilotfish/agent/identity"
)

// mount writes a new certificate of the authority into a folder, as whoever
// mounts it does.
func mount(t *testing.T, s *signer, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := s.Sign(context.Background(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"cert-chain.pem": strings.Join(chain[:len(chain)-1], ""), "root-cert.pem": chain[len(chain)-1],
		"key.pem": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	} {
		put(t, filepath.Join(dir, name), text)
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".x", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".x", path); err != nil {
		t.Fatal(err)
	}
}

// A certificate that somebody else keeps is served, and its successor; what is
// half written is not.
func TestCertificateOfFiles(t *testing.T) {
	s := newSigner(t, time.Hour)
	dir := t.TempDir()
	source, sub := run(t, identity.Options{
		Files:     &identity.Files{Chain: filepath.Join(dir, "cert-chain.pem"), Key: filepath.Join(dir, "key.pem")},
		RootsFile: filepath.Join(dir, "root-cert.pem"),
	})
	await(t, func() bool { _, failed := source.Attempts(); return failed > 0 }) // nothing is there yet
	mount(t, s, dir)
	first := pair(t, sub.await("default"))
	_, failed := source.Attempts()
	key, err := os.ReadFile(filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "key.pem"), "no key")
	await(t, func() bool { _, now := source.Attempts(); return now > failed })
	if c := source.Certificate(); c == nil || !bytes.Equal(c.TLS.Certificate[0], first.Certificate[0]) {
		t.Error("a broken key costs the certificate")
	}
	put(t, filepath.Join(dir, "key.pem"), string(key))
	mount(t, s, dir)
	for {
		if next := pair(t, sub.await("default")); !bytes.Equal(next.Certificate[0], first.Certificate[0]) {
			break
		}
	}
}

// Programs that read certificates from files get what Envoy gets.
func TestCertificatesAreWritten(t *testing.T) {
	dir := t.TempDir()
	_, sub := run(t, identity.Options{Signer: newSigner(t, 4*time.Second), Output: identity.Output{Dir: dir, Mode: 0o640}})
	for range 2 {
		served := pair(t, sub.await("default"))
		await(t, func() bool {
			p, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert-chain.pem"), filepath.Join(dir, "key.pem"))
			return err == nil && bytes.Equal(p.Certificate[0], served.Certificate[0])
		})
	}
	i, err := os.Stat(filepath.Join(dir, "key.pem"))
	if err != nil || i.Mode().Perm() != 0o640 {
		t.Errorf("the key's file is %v, %v", i.Mode(), err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "root-cert.pem"))
	if err != nil || !strings.Contains(string(b), "BEGIN CERTIFICATE") {
		t.Errorf("roots: %v %q", err, b)
	}
}
