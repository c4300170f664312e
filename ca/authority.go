package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"
)

// Options are an Authority's settings. The zero value of each means its default.
type Options struct {
	// Names are the DNS names of the control plane's own certificate. Default
	// ServingNames("istio-system").
	Names []string
	// Lifetime is that of certificates whose request names none. Default
	// MaxLifetime.
	Lifetime time.Duration
	// MaxLifetime caps what requests ask for, and with it how long a rotation of
	// the root takes. Default 24 h.
	MaxLifetime time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	if len(o.Names) == 0 {
		o.Names = ServingNames("istio-system")
	}
	if o.MaxLifetime == 0 {
		o.MaxLifetime = 24 * time.Hour
	}
	if o.Lifetime == 0 {
		o.Lifetime = o.MaxLifetime
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// MaxLifetime is the longest that a certificate lives.
func (a *Authority) MaxLifetime() time.Duration { return a.options.MaxLifetime }

// ServingNames are the names under which proxies and the API server look for
// the control plane: those of its Service, of the Services of its revisions,
// and this machine.
func ServingNames(namespace string, revisions ...string) []string {
	var out []string
	for _, service := range append([]string{""}, revisions...) {
		name := "istiod"
		if service != "" {
			name += "-" + service
		}
		out = append(out, name+"."+namespace+".svc", name+"."+namespace+".svc.cluster.local", name+"."+namespace)
	}
	return append(out, "localhost")
}

// errNoRoot: the key has not been read yet.
var errNoRoot = errors.New("the certificate authority has no root yet")

// Authority signs certificates with the present Root. It may be used
// concurrently.
type Authority struct {
	options Options

	mu      sync.Mutex
	root    *Root
	extra   []*x509.Certificate // trusted besides the root's own
	bundle  []byte
	pool    *x509.CertPool
	serving *tls.Certificate
	changed chan struct{} // closed when the trust bundle or the root changes
}

// NewAuthority returns an Authority that signs with a Root; nil for one that
// cannot sign until Use is called.
func NewAuthority(r *Root, o Options) *Authority {
	a := &Authority{options: o.withDefaults(), changed: make(chan struct{})}
	if r != nil {
		a.Use(r)
	}
	return a
}

// Use makes r the Root that certificates are signed with and trusted by, at
// once and for all.
func (a *Authority) Use(r *Root) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.root = r
	a.settle()
}

// Trust adds roots that are trusted besides the Root's own; it replaces those
// of the last call.
func (a *Authority) Trust(extra []*x509.Certificate) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.extra = extra
	if a.root != nil {
		a.settle()
	}
}

// settle derives all that follows from root and extra. a.mu is held.
func (a *Authority) settle() {
	roots := unique(a.root.roots, a.extra)
	a.bundle, a.pool, a.serving = encodeCertificates(roots...), x509.NewCertPool(), nil
	for _, c := range roots {
		a.pool.AddCert(c)
	}
	close(a.changed)
	a.changed = make(chan struct{})
}

// Root is the present Root; nil before the first.
func (a *Authority) Root() *Root {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.root
}

// TrustBundle is the PEM of every trusted root, and a channel that is closed
// when it, or the Root, is no longer the present one. The bundle is empty
// before the first Root.
func (a *Authority) TrustBundle() (bundle []byte, changed <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bundle, a.changed
}

// Sign issues a certificate for a proven identity to whoever holds the key of a
// PEM certificate request. The lifetime is capped, 0 means the default. The
// result is PEM, leaf first, then the certificates between, all trusted roots
// in the last element. The error is a Refusal unless it is ours.
func (a *Authority) Sign(request []byte, id Identity, lifetime time.Duration, domains ...string) (chain []string, err error) {
	r, err := parseRequest(request)
	if err != nil {
		return nil, err
	}
	if err := checkNames(r, id, domains); err != nil {
		return nil, err
	}
	a.mu.Lock()
	root, bundle := a.root, a.bundle
	a.mu.Unlock()
	if root == nil {
		return nil, errNoRoot
	}
	if lifetime <= 0 {
		lifetime = a.options.Lifetime
	}
	leaf, err := root.issue(&x509.Certificate{URIs: []*url.URL{id.URI()}}, r.PublicKey, min(lifetime, a.options.MaxLifetime), a.options.Now())
	if err != nil {
		return nil, err
	}
	chain = []string{string(encodeCertificates(leaf))}
	for _, c := range root.between() {
		chain = append(chain, string(encodeCertificates(c)))
	}
	return append(chain, string(bundle)), nil
}

// between are the certificates that a peer needs besides the leaf and the root.
func (r *Root) between() []*x509.Certificate {
	if r.chain[0].Equal(r.roots[0]) {
		return nil
	}
	return r.chain
}

// issue signs a certificate that holds the names of template.
func (r *Root) issue(template *x509.Certificate, key any, lifetime time.Duration, now time.Time) (*x509.Certificate, error) {
	end := r.expiry()
	if !now.Before(end) {
		return nil, fmt.Errorf("the signing certificate (%s) has expired at %s", r.chain[0].Subject, end.UTC().Format(time.RFC3339))
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template.SerialNumber, template.BasicConstraintsValid = serial, true
	template.NotBefore, template.NotAfter = now.Add(-clockSkew), now.Add(lifetime)
	if template.NotAfter.After(end) {
		template.NotAfter = end // a chain is worth nothing after its first end
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	if _, ok := key.(*rsa.PublicKey); ok {
		template.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, r.chain[0], key, r.key)
	if err != nil {
		return nil, fmt.Errorf("signing failed: %w", err)
	}
	return x509.ParseCertificate(der)
}

// servingLifetime is short: a new one costs nothing.
const servingLifetime = 24 * time.Hour

// Serving is the certificate that the control plane shows. It is asked at each
// handshake; a new one is made after half the life of the last.
func (a *Authority) Serving() (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.root == nil {
		return nil, errNoRoot
	}
	now := a.options.Now()
	if c := a.serving; c != nil && now.Before(c.Leaf.NotBefore.Add(c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)/2)) {
		return c, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf, err := a.root.issue(&x509.Certificate{DNSNames: a.options.Names}, key.Public(), servingLifetime, now)
	if err != nil {
		return nil, err
	}
	c := &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	for _, between := range a.root.between() {
		c.Certificate = append(c.Certificate, between.Raw)
	}
	a.serving = c
	return c, nil
}

// Clients are the roots whose certificates clients may show.
func (a *Authority) Clients() (*x509.CertPool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.root == nil {
		return nil, errNoRoot
	}
	return a.pool, nil
}
