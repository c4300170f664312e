package identity_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secret "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pilotfish-mesh/pilotfish/agent/identity"
	"github.com/pilotfish-mesh/pilotfish/ca"
)

var who = ca.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "app"}

// signer is a real authority in this process.
type signer struct {
	*ca.Authority
	lifetime time.Duration

	mu     sync.Mutex
	fail   error
	asked  int
	tamper func([]string) []string
}

func (s *signer) Sign(_ context.Context, request []byte) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.fail != nil {
		return nil, s.fail
	}
	chain, err := s.Authority.Sign(request, who, s.lifetime)
	if s.tamper != nil {
		chain = s.tamper(chain)
	}
	return chain, err
}

func (s *signer) set(fail error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

func newSigner(t *testing.T, lifetime time.Duration) *signer {
	t.Helper()
	return &signer{Authority: ca.NewAuthority(newRoot(t), ca.Options{}), lifetime: lifetime}
}

func newRoot(t *testing.T) *ca.Root {
	t.Helper()
	r, err := ca.SelfSigned("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// run keeps a source running on a socket, and connects to it as Envoy does.
func run(t *testing.T, o identity.Options) (*identity.Source, *stream) {
	t.Helper()
	o.Identity, o.Look = who.String(), 5*time.Millisecond
	s := identity.New(o)
	dir, err := os.MkdirTemp("", "s") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "sds")
	var l net.Listener
	for range 2 { // the second time over the socket of the first, which is left behind
		if l, err = identity.Listen(socket, 0); err != nil {
			t.Fatal(err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		if i, err := os.Stat(socket); err != nil || i.Mode().Perm() != 0o600 {
			t.Errorf("socket %v, %v: others can open it", i.Mode(), err)
		}
	}
	stop := s.Serve(l)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done; stop() })
	return s, subscribe(t, socket)
}

// stream is a subscription to both secrets.
type stream struct {
	t *testing.T
	secret.SecretDiscoveryService_StreamSecretsClient
	last *discovery.DiscoveryResponse
}

func subscribe(t *testing.T, socket string) *stream {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	s, err := secret.NewSecretDiscoveryServiceClient(conn).StreamSecrets(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = conn.Close() })
	out := &stream{t: t, SecretDiscoveryService_StreamSecretsClient: s}
	out.request()
	return out
}

func (s *stream) request() {
	s.t.Helper()
	r := &discovery.DiscoveryRequest{
		Node: &core.Node{Id: "n"}, TypeUrl: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
		ResourceNames: []string{"default", "ROOTCA"}, ResponseNonce: s.last.GetNonce(), VersionInfo: s.last.GetVersionInfo(),
	}
	if err := s.Send(r); err != nil {
		s.t.Fatal(err)
	}
}

// next returns the secrets of the next response, by name, and accepts it.
func (s *stream) next() map[string]*tlsv3.Secret {
	s.t.Helper()
	r, err := s.Recv()
	if err != nil {
		s.t.Fatal(err)
	}
	s.last = r
	out := map[string]*tlsv3.Secret{}
	for _, a := range r.GetResources() {
		m := &tlsv3.Secret{}
		if err := a.UnmarshalTo(m); err != nil {
			s.t.Fatal(err)
		}
		out[m.Name] = m
	}
	s.request()
	return out
}

// await reads responses until one holds a secret.
func (s *stream) await(name string) *tlsv3.Secret {
	s.t.Helper()
	for {
		if got := s.next()[name]; got != nil {
			return got
		}
	}
}

func roots(s *tlsv3.Secret) []byte { return s.GetValidationContext().GetTrustedCa().GetInlineBytes() }

func pair(t *testing.T, s *tlsv3.Secret) tls.Certificate {
	t.Helper()
	c := s.GetTlsCertificate()
	p, err := tls.X509KeyPair(c.GetCertificateChain().GetInlineBytes(), c.GetPrivateKey().GetInlineBytes())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCertificateIsObtainedAndRenewedAtHalfLife(t *testing.T) {
	s := newSigner(t, 6*time.Second)
	began := time.Now()
	_, sub := run(t, identity.Options{Signer: s})
	first := pair(t, sub.await("default"))
	if u := first.Leaf.URIs; len(u) != 1 || u[0].String() != who.String() {
		t.Errorf("URIs %v", u)
	}
	if k := first.Leaf.PublicKeyAlgorithm; k != x509.ECDSA {
		t.Errorf("key of type %v", k)
	}
	second := pair(t, sub.await("default"))
	took := time.Since(began)
	if first.Leaf.SerialNumber.Cmp(second.Leaf.SerialNumber) == 0 {
		t.Error("the certificate was not renewed")
	}
	left := time.Until(first.Leaf.NotAfter)
	if took < 2*time.Second || left < 2*time.Second {
		t.Errorf("renewed after %v with %v left of 6 s, want about half", took, left)
	}
}

// A clock that is set forward, or a machine that slept, leaves less of a
// certificate's life than timers know of.
func TestCertificateIsRenewedWhenTheClockJumps(t *testing.T) {
	var ahead atomic.Int64
	s := newSigner(t, 24*time.Hour)
	source, sub := run(t, identity.Options{Signer: s, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	sub.await("default")
	ahead.Store(int64(13 * time.Hour))
	sub.await("default")
	if obtained, failed := source.Attempts(); obtained != 2 || failed != 0 {
		t.Errorf("obtained %d certificates and failed %d times, want 2 and 0", obtained, failed)
	}
}

// An authority that is away, then refuses, then returns nonsense: the last
// certificate stays, and the next good one is taken.
func TestFailuresKeepTheLastCertificate(t *testing.T) {
	s := newSigner(t, 4*time.Second)
	source, sub := run(t, identity.Options{Signer: s})
	sub.await("default")
	s.set(errors.New("away"))
	await(t, func() bool { _, failed := source.Attempts(); return failed > 0 })
	if source.Certificate() == nil {
		t.Error("the certificate is gone")
	}
	s.mu.Lock()
	s.fail, s.tamper = nil, func(chain []string) []string { return []string{chain[len(chain)-1], chain[0]} }
	s.mu.Unlock()
	_, before := source.Attempts()
	await(t, func() bool { _, failed := source.Attempts(); return failed > before })
	s.mu.Lock()
	s.tamper = nil
	s.mu.Unlock()
	sub.await("default")
}

func await(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-again.C:
		case <-deadline:
			t.Fatal("it does not happen")
		}
	}
}

// What an authority returns is refused if peers would refuse it.
func TestBadAnswersAreRefused(t *testing.T) {
	other := newSigner(t, time.Hour)
	for name, tamper := range map[string]func([]string) []string{
		"nothing": func([]string) []string { return nil },
		"no root": func(c []string) []string { return c[:1] },
		"another's root": func(c []string) []string {
			return []string{c[0], string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootOf(t, other)}))}
		},
		"no certificates": func([]string) []string { return []string{"hello", "world"} },
		"another's key":   func(c []string) []string { return another(t, other) },
		"half a certificate": func(c []string) []string {
			return []string{strings.Replace(c[0], "A", "", 3), c[1]}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSigner(t, time.Hour)
			s.tamper = tamper
			source, _ := run(t, identity.Options{Signer: s})
			await(t, func() bool { _, failed := source.Attempts(); return failed > 0 })
			if source.Certificate() != nil {
				t.Error("it was taken")
			}
		})
	}
}

func rootOf(t *testing.T, s *signer) []byte {
	t.Helper()
	bundle, _ := s.TrustBundle()
	b, _ := pem.Decode(bundle)
	return b.Bytes
}

// another is a good chain for a key that nobody asked with.
func another(t *testing.T, s *signer) []string {
	t.Helper()
	source, _ := run(t, identity.Options{Signer: s})
	<-source.Ready()
	c := source.Certificate()
	return []string{string(c.ChainPEM), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Root}))}
}

// A rotation of roots: both are trusted while both are published, and a root
// that has gone makes for a new certificate.
func TestRootsAreFollowed(t *testing.T) {
	s := newSigner(t, time.Hour)
	file := filepath.Join(t.TempDir(), "root-cert.pem")
	publish := func(bundle []byte) {
		t.Helper()
		if err := errors.Join(os.WriteFile(file+".new", bundle, 0o600), os.Rename(file+".new", file)); err != nil {
			t.Fatal(err)
		}
	}
	old, _ := s.TrustBundle()
	publish(old)
	source, sub := run(t, identity.Options{Signer: s, RootsFile: file})
	got := sub.await("ROOTCA")
	<-source.Ready()
	if count(roots(got)) != 1 {
		t.Errorf("%d roots, want 1", count(roots(got)))
	}

	next := newRoot(t)
	both := append(slices.Clone(old), bundleOf(next)...)
	publish(both)
	if got = sub.await("ROOTCA"); count(roots(got)) != 2 {
		t.Errorf("%d roots while both are published, want 2", count(roots(got)))
	}
	serial := source.Certificate().TLS.Leaf.SerialNumber

	publish([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")) // broken: what was before stays
	s.Use(next)
	publish(bundleOf(next)) // the old one is retired
	await(t, func() bool { return source.Certificate().TLS.Leaf.SerialNumber.Cmp(serial) != 0 })
	await(t, func() bool { return count(roots(sub.await("ROOTCA"))) == 1 })
}

func bundleOf(r *ca.Root) []byte {
	b, _ := ca.NewAuthority(r, ca.Options{}).TrustBundle()
	return b
}

func count(bundle []byte) int { return strings.Count(string(bundle), "BEGIN CERTIFICATE") }

// While roots rotate, the authority's answer ends with all that it trusts; the
// one that vouches may be any of them, and all are trusted at once.
func TestAnswerWithSeveralRoots(t *testing.T) {
	s := newSigner(t, time.Hour)
	block, _ := pem.Decode(bundleOf(newRoot(t)))
	other, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	s.Trust([]*x509.Certificate{other})
	source, sub := run(t, identity.Options{Signer: s})
	<-source.Ready()
	if got := count(roots(sub.await("ROOTCA"))); got != 2 {
		t.Errorf("%d roots are trusted, want 2", got)
	}
}
