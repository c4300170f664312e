package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pilotfish-mesh/pilotfish/agent"
	"github.com/pilotfish-mesh/pilotfish/agent/retry"
)

// Signer has certificates signed.
type Signer interface {
	// Sign returns PEM certificates for a PEM certificate request: the leaf
	// first, the root last. It may block until ctx ends. Who the caller is, and
	// so which names the certificate carries, is the implementation's matter.
	Sign(ctx context.Context, request []byte) ([]string, error)
}

// Options say whose certificate is kept and how.
type Options struct {
	// Identity is asked for: spiffe://<trust domain>/ns/<ns>/sa/<account>.
	Identity string
	Signer   Signer
	// Files hold the certificate instead of having one signed; nil for none.
	Files *Files
	// Output is where certificate and roots are written, too.
	Output Output
	// RootsFile holds the authorities to trust, PEM. It is read again whenever
	// it changes. Empty, or as long as it does not exist, the root that came
	// with the certificate is trusted.
	RootsFile string
	// RevokedFile holds certificate revocation lists, PEM, one of every authority
	// that is trusted. It is read again with RootsFile. Empty, or as long as it
	// does not exist, none.
	RevokedFile string
	// Look is how often files and clock are looked at; 0 is every second.
	Look time.Duration
	// Now is the clock; nil for time.Now.
	Now func() time.Time
	// RSABits asks for an RSA key of that size instead of ECDSA P-256.
	RSABits int
	// Obtained is called with each new certificate; it must not block.
	Obtained func(*Certificate)
	Log      *zap.Logger
}

// Source keeps one workload's certificate and roots current. Its methods may
// be called from any goroutine.
type Source struct {
	options Options
	current atomic.Pointer[state]
	mu      sync.Mutex    // held to replace current
	renew   chan struct{} // capacity 1: renew before it is due
	ready   chan struct{} // closed when there is a certificate with roots
	once    sync.Once

	failures, renewals atomic.Uint64
	took               atomic.Int64 // of all attempts, nanoseconds
}

// New makes a Source, which has nothing before Run.
func New(o Options) *Source {
	if o.Look == 0 {
		o.Look = time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	s := &Source{options: o, renew: make(chan struct{}, 1), ready: make(chan struct{})}
	s.current.Store(&state{changed: make(chan struct{})})
	return s
}

// Ready is closed when the first certificate has arrived.
func (s *Source) Ready() <-chan struct{} { return s.ready }

// Certificate is the newest one, or nil.
func (s *Source) Certificate() *Certificate { return s.current.Load().cert }

// Attempts are the numbers of certificates obtained and of failures so far.
func (s *Source) Attempts() (obtained, failed uint64) { return s.renewals.Load(), s.failures.Load() }

// A failed attempt is repeated after a pause that doubles from firstPause to
// lastPause, each shortened by a random part so that a fleet spreads.
const (
	firstPause = 500 * time.Millisecond
	lastPause  = 30 * time.Second
)

// attempt is how long one signing may take.
const attempt = 20 * time.Second

// Run obtains the certificate and renews it at half of its life until ctx ends.
func (s *Source) Run(ctx context.Context) {
	var wait sync.WaitGroup
	wait.Go(func() { s.followRoots(ctx) })
	defer wait.Wait()
	if s.options.Files != nil {
		s.runFiles(ctx)
		return
	}
	pauses := retry.Pauses{First: firstPause, Last: lastPause}
	for ctx.Err() == nil {
		began := time.Now()
		c, err := s.obtain(ctx)
		s.took.Add(int64(time.Since(began)))
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.failures.Add(1)
			next := pauses.Next()
			s.options.Log.Warn("no new certificate", zap.Error(err), zap.Duration("next_attempt_in", next), zap.Stringer("present_one", s))
			pause(ctx, next)
			continue
		}
		pauses.Reset()
		s.renewals.Add(1)
		s.options.Log.Info("certificate obtained", zap.String("identity", s.options.Identity), zap.Time("until", c.NotAfter))
		s.untilDue(ctx, half(c.NotAfter.Sub(s.options.Now())))
	}
}

// String tells how long the present certificate lasts.
func (s *Source) String() string {
	if c := s.Certificate(); c != nil {
		return "valid until " + c.NotAfter.UTC().Format(time.RFC3339)
	}
	return "none"
}

// half is half of the life that is left, less a random tenth of it.
func half(left time.Duration) time.Duration {
	d := max(left/2, time.Second)
	return d - rand.N(d/10)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// untilDue waits as long, at the longest until somebody asks for renewal or the
// clock says that so much time has passed. Certificates are judged by the clock,
// and timers do not see that it is set, or goes on while the machine sleeps.
func (s *Source) untilDue(ctx context.Context, d time.Duration) {
	due := s.options.Now().Add(d).Round(0) // without the reading of the monotonic clock
	t := time.NewTimer(d)
	defer t.Stop()
	look := time.NewTicker(s.options.Look)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			if s.options.Now().Before(due) {
				continue
			}
		case <-t.C:
		case <-s.renew:
		case <-ctx.Done():
		}
		return
	}
}

func (s *Source) obtain(ctx context.Context) (*Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	k, err := newKey(s.options.RSABits)
	if err != nil {
		return nil, err
	}
	request, err := k.request(s.options.Identity)
	if err != nil {
		return nil, err
	}
	signed, err := s.options.Signer.Sign(ctx, request)
	if err != nil {
		return nil, err
	}
	c, err := assemble(k, signed)
	if err != nil {
		return nil, err
	}
	s.take(c)
	return c, nil
}

// take puts a new certificate into use.
func (s *Source) take(c *Certificate) {
	s.replace(func(n *state) { n.cert = c })
	if s.options.Obtained != nil {
		s.options.Obtained(c)
	}
}

// replace publishes a changed state.
func (s *Source) replace(change func(*state)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.current.Load()
	n := &state{cert: old.cert, revoked: s.readRevoked(old.revoked), changed: make(chan struct{})}
	s.readRoots(n, old)
	change(n)
	s.settleRoots(n)
	n.versions = map[string]string{}
	if n.cert != nil {
		n.versions[agent.CertificateSecret] = version(n.cert.ChainPEM)
	}
	if len(n.roots) > 0 {
		n.versions[agent.RootsSecret] = version(append(bytes.Clone(n.roots), n.revoked...))
	}
	s.current.Store(n)
	close(old.changed)
	if err := s.options.Output.write(n); err != nil {
		s.options.Log.Error("certificates cannot be written", zap.String("folder", s.options.Output.Dir), zap.Error(err))
	}
	if len(n.versions) == 2 {
		s.once.Do(func() { close(s.ready) })
	}
}

// readRoots takes the file's roots, or keeps the old ones if it is broken.
func (s *Source) readRoots(n, old *state) {
	n.roots, n.pool = old.roots, old.pool
	if s.options.RootsFile == "" {
		n.roots = nil
		return
	}
	b, err := os.ReadFile(s.options.RootsFile)
	if errors.Is(err, os.ErrNotExist) {
		if old.cert == nil {
			n.roots = nil
		}
		return
	}
	certs, perr := certificatesIn(b)
	if err = errors.Join(err, perr); err == nil && len(certs) == 0 {
		err = errors.New("no certificate in it")
	}
	if err != nil {
		s.options.Log.Error("the file of trusted roots is broken; the roots of before stay trusted",
			zap.String("file", s.options.RootsFile), zap.Error(err))
		return
	}
	n.roots = encodeCertificates(certs...)
}

// readRevoked reads the revocation lists. A broken file leaves those of before,
// and so does one that is gone: what was revoked stays revoked until the agent
// starts anew.
func (s *Source) readRevoked(before []byte) []byte {
	if s.options.RevokedFile == "" {
		return nil
	}
	b, err := os.ReadFile(s.options.RevokedFile)
	if errors.Is(err, os.ErrNotExist) {
		return before
	}
	var out []byte
	for rest := b; err == nil; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if _, err = x509.ParseRevocationList(block.Bytes); err == nil {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: block.Bytes})...)
		}
	}
	if err == nil && len(out) == 0 {
		err = errors.New("no revocation list in it")
	}
	if err != nil {
		s.options.Log.Error("the file of revocation lists is broken; those of before stay", zap.String("file", s.options.RevokedFile), zap.Error(err))
		return before
	}
	return out
}

// settleRoots adds the roots that came with the certificate: the file may be late.
// A peer that trusts by the same file refuses such a certificate, though, so a
// root that has gone from the file calls for a new certificate.
func (s *Source) settleRoots(n *state) {
	if n.cert != nil && n.cert.Root != nil {
		came, err := certificatesIn(n.cert.Trusted)
		if err != nil || len(came) == 0 {
			came = []*x509.Certificate{{Raw: n.cert.Root}}
		}
		for _, c := range came {
			if own := encodeCertificates(c); !bytes.Contains(n.roots, own) {
				n.roots = append(bytes.Clone(n.roots), own...)
			}
		}
	}
	n.pool = x509.NewCertPool()
	n.pool.AppendCertsFromPEM(n.roots)
}

// followRoots looks at the file until ctx ends.
func (s *Source) followRoots(ctx context.Context) {
	if s.options.RootsFile == "" {
		return
	}
	seen := [2]stamp{stat(s.options.RootsFile), stat(s.options.RevokedFile)}
	s.replace(func(*state) {})
	look := time.NewTicker(s.options.Look)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		now := [2]stamp{stat(s.options.RootsFile), stat(s.options.RevokedFile)}
		if now == seen {
			continue
		}
		seen = now
		s.replace(func(*state) {})
		s.options.Log.Info("trusted roots read again", zap.String("file", s.options.RootsFile))
		s.renewIfRetired()
	}
}

// renewIfRetired asks for a new certificate if the file no longer holds the
// root of the present one.
func (s *Source) renewIfRetired() {
	c := s.Certificate()
	b, err := os.ReadFile(s.options.RootsFile)
	if c == nil || c.Root == nil || err != nil {
		return
	}
	certs, err := certificatesIn(b)
	if err != nil || len(certs) == 0 {
		return
	}
	for _, r := range certs {
		if bytes.Equal(r.Raw, c.Root) {
			return
		}
	}
	select {
	case s.renew <- struct{}{}:
	default:
	}
}

// stamp tells whether a file has changed, through links too.
type stamp struct {
	size     int64
	modified time.Time
}

func stat(file string) stamp {
	i, err := os.Stat(file)
	if err != nil {
		return stamp{size: -1}
	}
	return stamp{i.Size(), i.ModTime()}
}

// ClientTLS is mutual TLS to a server whose certificate carries name, with the
// certificate and the roots of the time of each handshake.
func (s *Source) ClientTLS(name string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: name, NextProtos: []string{"h2"},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if c := s.Certificate(); c != nil {
				return c.TLS, nil
			}
			return nil, errors.New("the workload has no certificate yet")
		},
		InsecureSkipVerify: true, // VerifyConnection verifies, against the roots of now
		VerifyConnection: func(c tls.ConnectionState) error {
			return verifyServer(c, s.current.Load().pool, name)
		},
	}
}

func verifyServer(c tls.ConnectionState, roots *x509.CertPool, name string) error {
	if roots == nil {
		return errors.New("no trusted roots yet")
	}
	between := x509.NewCertPool()
	for _, cert := range c.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	if _, err := c.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: between}); err != nil {
		return fmt.Errorf("certificate of %s: %w", name, err)
	}
	return nil
}

// Present is the newest certificate if it is valid now, else nil.
func (s *Source) Present() *tls.Certificate {
	if c := s.Certificate(); c != nil && time.Now().Before(c.NotAfter) {
		return c.TLS
	}
	return nil
}
