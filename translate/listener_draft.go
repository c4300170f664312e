package translate

import (
	"strconv"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// draft is one listener as plain data: what the services, servers and routes
// that share it agreed on, before anything is encoded. Its key identifies the
// listener, so that scopes that agree share one encoding.
type draft struct {
	socket    socket
	direction core.TrafficDirection
	// chains in the order of their precedence among equals; Envoy's matching
	// itself prefers the more specific one.
	chains []*chain
	// fallback takes what no chain matches; nil closes the connection.
	fallback *chain
	// original says that Envoy is to find the address a connection was
	// redirected from: by handing it to the listener of that address, or by a
	// listener filter.
	original originalDst
	// uninspected are ports whose connections the HTTP inspector leaves alone,
	// though no chain of this listener names them.
	uninspected []uint32
	// source is the object that made the whole listener, if it was one.
	source *config.Meta
}

type originalDst int

const (
	notRedirected originalDst = iota
	handOff                   // use_original_dst: virtualOutbound
	recovered                 // listener filter: virtualInbound
)

// socket is where a listener binds.
type socket struct {
	// name is the listener's name; empty means address_port.
	name string
	// addresses are IPs, or one unix:///path or unix://@abstract; the first
	// one is the primary.
	addresses []string
	// port is what configuration calls it, and bound what is really bound:
	// different only where a mesh on one machine moves low ports.
	port, bound uint32
	// real sockets are bound; others only receive connections that
	// virtualOutbound hands over.
	real bool
	quic bool
}

func (s *socket) listenerName() string {
	if s.name != "" {
		return s.name
	}
	n := s.addresses[0] + "_" + strconv.FormatUint(uint64(s.port), 10)
	if s.quic {
		return "udp_" + n
	}
	return n
}

// unixPath returns the path of a Unix domain socket address, with "@" for the
// abstract namespace, or ok false for an IP.
func unixPath(address string) (path string, ok bool) {
	return strings.CutPrefix(address, "unix://")
}

func (s *socket) addTo(h config.Hasher) {
	h.Str(s.name).Uint(uint64(len(s.addresses))).Str(s.addresses...)
	h.Uint(uint64(s.port)).Uint(uint64(s.bound)).Bool(s.real).Bool(s.quic)
}

// chain is one filter chain: what it matches, whether it terminates TLS, and
// what it does with the bytes: exactly one of http and tcp is set.
type chain struct {
	name  string
	match chainMatch
	tls   *tlsTermination
	http  *httpChain
	tcp   *tcpChain
	// origin, if not zero, identifies match, tls and source: gateways have
	// thousands of chains, which need not be looked through to tell whether they
	// changed.
	origin config.Hash
	// source is the object to name as its origin, or nil.
	source *config.Meta
}

// chainMatch is what a connection must be like. Empty parts match anything.
type chainMatch struct {
	sni       []string // without "*", which matches anything
	cidrs     []string // destination addresses or prefixes
	alpn      []string
	transport string // "tls", "raw_buffer" or ""
	port      uint32
}

const (
	rawBuffer = "raw_buffer"
	tlsBytes  = "tls"
)

// plaintextHTTP are the application protocols that the HTTP inspector reports.
// HTTP/1.0 is not among them: Envoy's codec would refuse it, while it passes
// as plain TCP.
var plaintextHTTP = []string{"http/1.1", "h2c"}

func (m *chainMatch) anything() bool {
	return len(m.sni) == 0 && len(canonicalCIDRs(m.cidrs)) == 0 && len(m.alpn) == 0 && m.transport == "" && m.port == 0
}

func (m *chainMatch) addTo(h config.Hasher) {
	for _, l := range [][]string{m.sni, m.cidrs, m.alpn} {
		h.Uint(uint64(len(l))).Str(l...)
	}
	h.Str(m.transport).Uint(uint64(m.port))
}

// same reports whether two matches take the same destinations.
func (m *chainMatch) same(o *chainMatch) bool {
	return sameStrings(canonicalCIDRs(m.cidrs), canonicalCIDRs(o.cidrs))
}

func (c *chain) addTo(h config.Hasher) {
	h.Str(c.name).Hash(c.origin).Bool(c.http != nil).Bool(c.tcp != nil)
	if c.origin == 0 {
		c.match.addTo(h)
		h.Bool(c.tls != nil).Bool(c.source != nil)
		if c.tls != nil {
			c.tls.addTo(h)
		}
		if c.source != nil {
			addSource(h, c.source)
		}
	}
	if c.http != nil {
		c.http.addTo(h)
	}
	if c.tcp != nil {
		c.tcp.addTo(h)
	}
}

// addSource adds what provenance shows of an object. Its content is not part
// of it: whatever of that matters stands in the draft itself.
func addSource(h config.Hasher, m *config.Meta) {
	h.Str(m.Group, m.Version, m.Kind, m.Namespace, m.Name, m.File).Uint(uint64(m.Line))
}

func (d *draft) key(env config.Hash) config.Hash {
	h := config.NewHasher().Str("listener").Hash(d.headKey(env)).Uint(uint64(len(d.chains)))
	for _, c := range d.chains {
		c.addTo(h)
	}
	return h.Sum()
}

// headKey identifies all of the listener but its chains.
func (d *draft) headKey(env config.Hash) config.Hash {
	h := config.NewHasher().Str("listener head").Hash(env)
	d.socket.addTo(h)
	h.Uint(uint64(d.direction)).Uint(uint64(d.original))
	for _, p := range d.uninspected {
		h.Uint(uint64(p))
	}
	h.Bool(d.fallback != nil).Bool(d.source != nil)
	if d.fallback != nil {
		d.fallback.addTo(h)
	}
	if d.source != nil {
		addSource(h, d.source)
	}
	return h.Sum()
}

// sources are the objects that made any part of the listener.
func (d *draft) sources() []*config.Meta {
	out := make([]*config.Meta, 0, len(d.chains)+1)
	seen := make(map[*config.Meta]bool, len(d.chains)+2)
	seen[nil] = true
	add := func(m *config.Meta) {
		if !seen[m] {
			seen[m] = true
			out = append(out, m)
		}
	}
	add(d.source)
	for _, c := range d.chains {
		add(c.source)
	}
	return out
}
