package ca

import (
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The Secrets that hold a signing key, in the control plane's namespace, as
// Istio names them.
const (
	PlugInSecret     = "cacerts"
	SelfSignedSecret = "istio-ca-secret"
	selfSignedType   = "istio.io/ca-root"
)

// The keys of their data. The next and the previous root are pilotfish's own:
// they exist during a rotation only.
const (
	certKey      = "ca-cert.pem"
	keyKey       = "ca-key.pem"
	chainKey     = "cert-chain.pem"
	rootKey      = "root-cert.pem"
	crlKey       = "ca-crl.pem" // may be absent
	nextCertKey  = "next-ca-cert.pem"
	nextKeyKey   = "next-ca-key.pem"
	previousKey  = "previous-ca-cert.pem"
	tlsCertKey   = "tls.crt"
	tlsKeyKey    = "tls.key"
	tlsRootKey   = "ca.crt"
	sinceNote    = "pilotfish.io/ca-since"    // when the present phase began
	phaseNote    = "pilotfish.io/ca-phase"    // for people
	rotationNote = "pilotfish.io/ca-rotation" // what a person asks for: see Rotation
)

// PlugIn reads the data of Secret cacerts: the four files of Istio's plug-in
// authority, or the three of a kubernetes.io/tls Secret that cert-manager writes.
// Every one of them must be there and fit the others.
func PlugIn(data map[string][]byte, now time.Time) (*Root, error) {
	want := []string{certKey, keyKey, chainKey, rootKey}
	if _, ok := data[tlsCertKey]; ok && len(data[certKey]) == 0 {
		want = []string{tlsCertKey, tlsKeyKey, tlsRootKey}
	}
	var missing []string
	for _, key := range want {
		if len(data[key]) == 0 {
			missing = append(missing, key)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("lacks %s: want all of %s", strings.Join(missing, ", "), strings.Join(want, ", "))
	}
	var root *Root
	var err error
	if want[0] == tlsCertKey {
		root, err = ParseRoot(data[tlsCertKey], data[tlsKeyKey], nil, data[tlsRootKey], now)
	} else {
		root, err = ParseRoot(data[certKey], data[keyKey], data[chainKey], data[rootKey], now)
	}
	if err != nil {
		return nil, err
	}
	root.revoked, err = parseRevocations(data[crlKey], now, unique(root.chain, root.roots)...)
	return root, err
}

// readSelfSigned reads Secret istio-ca-secret.
func readSelfSigned(s *corev1.Secret, now time.Time) (*selfSigned, error) {
	read := func(cert, key string) (*Root, error) {
		if len(s.Data[cert]) == 0 || len(s.Data[key]) == 0 {
			return nil, fmt.Errorf("lacks %s or %s", cert, key)
		}
		return ParseRoot(s.Data[cert], s.Data[key], nil, s.Data[cert], now)
	}
	active, err := read(certKey, keyKey)
	if err != nil {
		return nil, err
	}
	out := &selfSigned{active: active, since: s.CreationTimestamp.Time}
	if len(s.Data[nextCertKey]) > 0 || len(s.Data[nextKeyKey]) > 0 {
		if out.next, err = read(nextCertKey, nextKeyKey); err != nil {
			return nil, fmt.Errorf("the next root: %w", err)
		}
	}
	if len(s.Data[previousKey]) > 0 {
		if out.previous, err = parseCertificates("the previous root", s.Data[previousKey]); err != nil {
			return nil, err
		}
	}
	if text, ok := s.Annotations[sinceNote]; ok {
		if out.since, err = time.Parse(time.RFC3339, text); err != nil {
			return nil, fmt.Errorf("annotation %s: %w", sinceNote, err)
		}
	}
	return out, nil
}

// write puts s into a Secret: all that it says, and nothing else of ours.
func (s *selfSigned) write(to *corev1.Secret) error {
	if to.Data == nil {
		to.Data = map[string][]byte{}
	}
	if to.Annotations == nil {
		to.Annotations = map[string]string{}
	}
	for _, key := range []string{nextCertKey, nextKeyKey, previousKey} {
		delete(to.Data, key)
	}
	put := func(r *Root, cert, key string) error {
		text, err := r.encodeKey()
		to.Data[cert], to.Data[key] = encodeCertificates(r.chain...), text
		return err
	}
	errs := []error{put(s.active, certKey, keyKey)}
	if s.next != nil {
		errs = append(errs, put(s.next, nextCertKey, nextKeyKey))
	}
	if len(s.previous) > 0 {
		to.Data[previousKey] = encodeCertificates(s.previous...)
	}
	to.Annotations[sinceNote] = s.since.UTC().Format(time.RFC3339)
	to.Annotations[phaseNote] = string(s.phase())
	delete(to.Annotations, rotationNote)
	return errors.Join(errs...)
}

// secret is the new Secret of s.
func (s *selfSigned) secret(namespace string) (*corev1.Secret, error) {
	out := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: SelfSignedSecret, Namespace: namespace}, Type: selfSignedType}
	return out, s.write(out)
}
