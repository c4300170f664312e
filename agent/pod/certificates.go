package pod

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"

	"github.com/pilotfish-mesh/pilotfish/agent/identity"
)

// Names of a certificate's files in a folder, as Istio has them.
const (
	chainFile = "cert-chain.pem"
	keyFile   = "key.pem"
	rootFile  = "root-cert.pem"
)

// readCertificates finds out where the workload's certificate comes from if
// not from the authority alone, and where it is to be written.
func (s *settings) readCertificates() error {
	if dir := s.get("OUTPUT_CERTS", ""); dir != "" {
		s.output = identity.Output{Dir: s.file(dir), Mode: 0o600}
		if s.env["KUBERNETES_SERVICE_HOST"] != "" {
			s.output.Mode = 0o644 // other containers of the pod, of other users, are to read them
		}
	}
	if dir := s.get("PROV_CERT", ""); dir != "" {
		s.provisioned = s.file(dir)
		if roots := filepath.Join(s.provisioned, rootFile); exists(roots) {
			s.caRoots, s.roots = roots, roots
		}
	}
	var roots string
	switch {
	case s.truth("FILE_MOUNTED_CERTS") && s.provisioned != "":
		return errors.New("environment FILE_MOUNTED_CERTS and PROV_CERT exclude each other: the one says that nobody is asked for certificates, the other how")
	case s.truth("FILE_MOUNTED_CERTS"):
		roots = s.get("ISTIO_META_TLS_CLIENT_ROOT_CERT", filepath.Join(mountedDir, rootFile))
		s.mounted = &identity.Files{
			Chain: s.file(s.get("ISTIO_META_TLS_CLIENT_CERT_CHAIN", filepath.Join(mountedDir, chainFile))),
			Key:   s.file(s.get("ISTIO_META_TLS_CLIENT_KEY", filepath.Join(mountedDir, keyFile))),
		}
	case exists(s.file(filepath.Join(credentialDir, chainFile))) && exists(s.file(filepath.Join(credentialDir, keyFile))):
		roots = filepath.Join(credentialDir, rootFile)
		s.mounted = &identity.Files{Chain: s.file(filepath.Join(credentialDir, chainFile)), Key: s.file(filepath.Join(credentialDir, keyFile))}
	default:
		return nil
	}
	s.roots = s.file(roots)
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// present is the certificate to ask the authority for the next one with: the
// newest, or before the first one that of PROV_CERT.
func (s *settings) present(source *identity.Source) *tls.Certificate {
	if c := source.Present(); c != nil || s.provisioned == "" {
		return c
	}
	c, err := tls.LoadX509KeyPair(filepath.Join(s.provisioned, chainFile), filepath.Join(s.provisioned, keyFile))
	if err != nil {
		return nil // the authority will say that there is no credential
	}
	return &c
}
