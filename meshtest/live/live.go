// Package live is the engine of package meshtest that sends real requests: it
// runs the mesh on this machine, with a real Envoy for each proxy, by package
// up.
//
// It consumes configuration as texts and produces simulate.Answers of what was
// seen from outside. Only commands and tests may import it.
package live

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/meshtest"
	"github.com/pilotfish-mesh/pilotfish/simulate"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// Engine is a running mesh. It implements meshtest.Engine.
type Engine struct {
	mesh   *up.Mesh
	world  *simulate.World
	issuer *Issuer
	dir    string // of the texts; empty if they are somebody else's
}

var _ meshtest.Engine = (*Engine)(nil)

// Start runs the mesh of the texts, with RequestAuthentications that take the
// tokens of an Issuer of this run. World is the same configuration's.
func Start(ctx context.Context, texts []file.Text, w *simulate.World, envoy string, note func(string)) (*Engine, error) {
	dir, err := os.MkdirTemp("", "pilotfish-test-")
	if err != nil {
		return nil, err
	}
	e := &Engine{world: w, dir: dir}
	if e.issuer, err = NewIssuer(); err == nil {
		err = writeTexts(dir, texts, e.issuer)
	}
	if err == nil {
		e.mesh, err = up.Start(ctx, up.Options{Paths: []string{dir}, Envoy: envoy, Note: note})
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	return e, nil
}

// Over is the engine of a mesh that runs already, and that somebody else ends.
// Its RequestAuthentications take the issuer's tokens.
func Over(m *up.Mesh, w *simulate.World, i *Issuer) *Engine {
	return &Engine{mesh: m, world: w, issuer: i}
}

// Close ends the mesh that Start began.
func (e *Engine) Close() {
	e.mesh.Close()
	_ = os.RemoveAll(e.dir)
}

// Name implements meshtest.Engine.
func (*Engine) Name() string { return "envoy" }

const (
	fewest  = 30  // requests of one query
	most    = 300 // where they end differently
	timeout = 20 * time.Second
)

// Ask implements meshtest.Engine: it sends the request many times, and more
// often where the answers differ or the simulator says that they do.
func (e *Engine) Ask(q *simulate.Query) (*simulate.Answer, error) {
	n := fewest
	if said, err := e.world.Ask(q); err == nil && len(said.Results) > 1 {
		n = most
	}
	return e.Observe(q, n)
}

// Observe sends the request n times, and more often where the answers differ.
func (e *Engine) Observe(q *simulate.Query, n int) (*simulate.Answer, error) {
	c, err := e.caller(q)
	if err != nil {
		return nil, err
	}
	said, err := e.world.Ask(q)
	forwarded := err == nil && said.Hop.Sent == nil && said.Hop.Reply == nil // as a connection: nobody adds headers
	seen := &observation{}
	for i := 0; i < n || n > 1 && i < most && len(seen.kinds) > 1; i++ {
		k, err := c.send()
		if err != nil {
			return nil, err
		}
		if forwarded {
			k.result.Security = ""
		}
		seen.add(k)
	}
	return seen.answer(q), nil
}

// caller is who sends a query, and how.
type caller struct {
	query  *simulate.Query
	text   string // the URL
	url    *url.URL
	token  string
	shows  *tls.Certificate // nil: none
	placed bool             // the query says where the token is
	dial   up.DialFunc
	// address is dialled; from outside of the mesh, that of the gateway.
	address string
}

var ports = map[string]string{"http": "80", "https": "443", "tls": "443"}

func (e *Engine) caller(q *simulate.Query) (*caller, error) {
	text := q.URL
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	c := &caller{query: q, text: text, url: u}
	port := u.Port()
	if port == "" {
		port = ports[u.Scheme]
	}
	if q.Claims != nil {
		if c.token, err = e.issuer.Token(q.Claims); err != nil {
			return nil, err
		}
	}
	if q.Certificate != nil {
		if c.shows, err = e.issuer.certificate(q.Certificate); err != nil {
			return nil, err
		}
	}
	if strings.HasPrefix(q.From, "plain/") {
		return nil, fmt.Errorf("%w: no pod is named that sends the requests", meshtest.ErrNotHere)
	}
	gateway, outside := strings.CutPrefix(q.From, "gateway/")
	if !outside {
		p, err := e.world.Find(q.From)
		if err != nil {
			return nil, err
		}
		gateway, outside = p.Name(), p.Role == config.GatewayPod
	}
	if !outside {
		c.address = net.JoinHostPort(u.Hostname(), port)
		c.dial, err = e.mesh.Dialer(gateway)
		return c, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("URL %q: port %q: %w", q.URL, port, err)
	}
	if _, err := e.gatewayName(gateway, 0); err != nil {
		return nil, err
	}
	c.address = net.JoinHostPort(u.Hostname(), port)
	c.dial = func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }
	if _, err := e.gatewayName(gateway, uint32(n)); err == nil { // somebody listens
		c.dial, err = e.outside(gateway, uint32(n), q.Source)
		return c, err
	}
	return c, nil
}

// Source implements meshtest.Sourced.
func (e *Engine) Source() netip.Addr {
	if e.mesh.ClientsHaveAddresses() {
		return simulate.OutsideClient
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// outside dials a gateway as a client of that address, or of that of all
// clients outside.
func (e *Engine) outside(gateway string, port uint32, source netip.Addr) (up.DialFunc, error) {
	if !source.IsValid() {
		source = e.Source()
	}
	if source != e.Source() && !e.mesh.ClientsHaveAddresses() {
		return nil, fmt.Errorf("%w: %w", meshtest.ErrNotHere, up.ErrNoSuchClient)
	}
	name, err := e.gatewayName(gateway, port)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return e.mesh.DialGateway(ctx, name, port, source)
	}, nil
}

// gatewayName is the name by which the mesh knows a gateway that is named as a
// Gateway or its workload, and that serves a port.
func (e *Engine) gatewayName(name string, port uint32) (string, error) {
	_, err := e.mesh.Gateway(name, port)
	if err == nil {
		return name, nil
	}
	for _, w := range e.mesh.Workloads() {
		if name != w.Namespace+"/"+w.Name && name != w.Name || !w.Pods[0].Gateway {
			continue
		}
		known := w.Namespace + "/" + w.Pods[0].Name
		if _, err := e.mesh.Gateway(known, port); err == nil {
			return known, nil
		}
	}
	return "", err
}

// tls is the client's side of TLS. It takes any certificate: what is tested is
// where requests go.
func (c *caller) tls(protocols ...string) *tls.Config {
	sni := c.query.SNI
	if sni == "" {
		sni = c.url.Hostname()
	}
	out := &tls.Config{ServerName: sni, NextProtos: protocols, InsecureSkipVerify: true} //nolint:gosec // a test of routing on this machine
	if c.shows != nil {                                                                  // whether the server names its authority or not
		out.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.shows, nil }
	}
	return out
}
