package names

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/dns/dnsmessage"
)

// Resolver are the pod's own DNS settings.
type Resolver struct {
	Servers []string // host:port, asked in order
	Search  []string // domains that are appended to names
}

// Server is a pod's DNS server.
type Server struct {
	resolver Resolver
	log      *zap.Logger
	table    atomic.Pointer[Table]

	mu      sync.Mutex // guards what follows
	sockets []io.Closer
	conns   map[net.Conn]bool
	closed  bool
	running sync.WaitGroup
	busy    chan struct{} // bounds the questions in hand

	// Counted for the agent's metrics.
	Local, Forwarded, Failed atomic.Uint64
}

// How long answers of the table may be kept. The table changes without notice
// to those who asked.
const answerTTL = 30 // seconds

const (
	// maxBusy is how many questions may be in hand; more are dropped, as a
	// server that is too slow would, so that memory stays bounded.
	maxBusy     = 256
	maxUDP      = 4096
	classicUDP  = 512 // what a client can take that says nothing else
	idleTimeout = 30 * time.Second
	// upstreamTimeout is for one server, of which there may be several.
	upstreamTimeout = 3 * time.Second
)

// NewServer makes a server that knows no names of its own yet.
func NewServer(r Resolver, log *zap.Logger) *Server {
	return &Server{resolver: r, log: log, conns: map[net.Conn]bool{}, busy: make(chan struct{}, maxBusy)}
}

// Use replaces the table.
func (s *Server) Use(t *Table) { s.table.Store(t) }

// Table is the present table, or nil.
func (s *Server) Table() *Table { return s.table.Load() }

// Listen serves UDP and TCP on an address until Close.
func (s *Server) Listen(at string) error {
	u, err := net.ListenPacket("udp", at)
	if err != nil {
		return err
	}
	t, err := net.Listen("tcp", u.LocalAddr().String())
	if err != nil {
		_ = u.Close()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets = append(s.sockets, u, t)
	s.running.Go(func() { s.serveUDP(u) })
	s.running.Go(func() { s.serveTCP(t) })
	return nil
}

// Close ends serving and waits for its end.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for _, c := range s.sockets {
		_ = c.Close()
	}
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

func (s *Server) serveUDP(l net.PacketConn) {
	buf := make([]byte, maxUDP)
	for {
		n, from, err := l.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		query := append([]byte(nil), buf[:n]...)
		select {
		case s.busy <- struct{}{}:
		default:
			s.Failed.Add(1)
			continue
		}
		s.running.Go(func() {
			defer func() { <-s.busy }()
			if out := s.answer(query, "udp"); out != nil {
				_, _ = l.WriteTo(out, from)
			}
		})
	}
}

func (s *Server) serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed || len(s.conns) >= maxBusy {
			s.mu.Unlock()
			_ = c.Close()
			continue
		}
		s.conns[c] = true
		s.mu.Unlock()
		s.running.Go(func() {
			s.stream(c)
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
			_ = c.Close()
		})
	}
}

// stream answers on a TCP connection (RFC 1035 section 4.2.2).
func (s *Server) stream(c net.Conn) {
	for {
		_ = c.SetDeadline(time.Now().Add(idleTimeout))
		query, err := readFrame(c)
		if err != nil {
			return
		}
		out := s.answer(query, "tcp")
		if out == nil || writeFrame(c, out) != nil {
			return
		}
	}
}

func readFrame(r io.Reader) ([]byte, error) {
	var size uint16
	if err := binary.Read(r, binary.BigEndian, &size); err != nil {
		return nil, err
	}
	b := make([]byte, size)
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeFrame(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)) //nolint:gosec // a message has at most 65535 bytes
	return err
}

// answer makes the response to a query; nil for what is none.
func (s *Server) answer(query []byte, network string) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	if q.Class == dnsmessage.ClassINET && (q.Type == dnsmessage.TypeA || q.Type == dnsmessage.TypeAAAA) {
		name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
		if addresses, alias, ok := s.find(name); ok {
			s.Local.Add(1)
			return local(h, q, addresses, alias, limit(&p, network))
		}
	}
	out, err := s.forward(query, h.ID, q, network)
	if err != nil {
		s.Failed.Add(1)
		s.log.Debug("no DNS server answers", zap.String("name", q.Name.String()), zap.Error(err))
		return failure(h, q)
	}
	s.Forwarded.Add(1)
	return out
}

// find looks a name up; alias is what it stands for if it is a known name with
// a search domain behind it.
func (s *Server) find(name string) (addresses []netip.Addr, alias string, ok bool) {
	t := s.table.Load()
	if addresses, ok = t.Find(name); ok {
		return addresses, "", true
	}
	for _, domain := range s.resolver.Search {
		rest, cut := strings.CutSuffix(name, "."+domain)
		if !cut {
			continue
		}
		if a, known := t.Find(rest); known {
			return a, rest, true
		}
	}
	return nil, "", false
}

// limit is how large a response may be.
func limit(p *dnsmessage.Parser, network string) int {
	if network == "tcp" {
		return 65535
	}
	if p.SkipAllQuestions() != nil || p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return classicUDP
	}
	for {
		h, err := p.AdditionalHeader()
		if err != nil {
			return classicUDP
		}
		if h.Type == dnsmessage.TypeOPT {
			return min(max(int(h.Class), classicUDP), maxUDP) // EDNS: the class is the size
		}
		if p.SkipAdditional() != nil {
			return classicUDP
		}
	}
}

// local answers from the table. What does not fit is left out and the response
// marked so that the client asks again over TCP.
func local(h dnsmessage.Header, q dnsmessage.Question, addresses []netip.Addr, alias string, size int) []byte {
	out, err := build(h, q, addresses, alias, false)
	if err == nil && len(out) > size {
		out, err = build(h, q, nil, "", true)
	}
	if err != nil {
		return failure(h, q)
	}
	return out
}

func build(h dnsmessage.Header, q dnsmessage.Question, addresses []netip.Addr, alias string, truncated bool) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{
		ID: h.ID, Response: true, Authoritative: true, RecursionDesired: h.RecursionDesired, RecursionAvailable: true, Truncated: truncated,
	})
	b.EnableCompression()
	if err := errors.Join(b.StartQuestions(), b.Question(q), b.StartAnswers()); err != nil {
		return nil, err
	}
	name := q.Name
	if alias != "" {
		to, err := dnsmessage.NewName(alias + ".")
		if err != nil {
			return nil, err
		}
		if err := b.CNAMEResource(header(name, q.Class), dnsmessage.CNAMEResource{CNAME: to}); err != nil {
			return nil, err
		}
		name = to
	}
	// A client takes the first one: spread them.
	for _, i := range rand.Perm(len(addresses)) {
		a := addresses[i]
		var err error
		switch {
		case q.Type == dnsmessage.TypeA && a.Is4():
			err = b.AResource(header(name, q.Class), dnsmessage.AResource{A: a.As4()})
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			err = b.AAAAResource(header(name, q.Class), dnsmessage.AAAAResource{AAAA: a.As16()})
		}
		if err != nil {
			return nil, err
		}
	}
	return b.Finish()
}

func header(name dnsmessage.Name, class dnsmessage.Class) dnsmessage.ResourceHeader {
	return dnsmessage.ResourceHeader{Name: name, Class: class, TTL: answerTTL}
}

func failure(h dnsmessage.Header, q dnsmessage.Question) []byte {
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: h.ID, Response: true, RecursionDesired: h.RecursionDesired, RecursionAvailable: true, RCode: dnsmessage.RCodeServerFailure},
		Questions: []dnsmessage.Question{q},
	}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

// forward asks the pod's servers, one after the other, each on a socket of its
// own, so that answers cannot be guessed or mixed up.
func (s *Server) forward(query []byte, id uint16, q dnsmessage.Question, network string) ([]byte, error) {
	err := errors.New("the pod's resolv.conf names no server")
	for _, server := range s.resolver.Servers {
		var out []byte
		if out, err = exchange(query, id, q, network, server); err == nil {
			return out, nil
		}
	}
	return nil, err
}

func exchange(query []byte, id uint16, q dnsmessage.Question, network, server string) ([]byte, error) {
	c, err := net.DialTimeout(network, server, upstreamTimeout)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(upstreamTimeout))
	if network == "tcp" {
		if err := writeFrame(c, query); err != nil {
			return nil, err
		}
		return readFrame(c)
	}
	if _, err := c.Write(query); err != nil {
		return nil, err
	}
	buf := make([]byte, 65535)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		if answers(buf[:n], id, q) {
			return append([]byte(nil), buf[:n]...), nil
		}
	}
}

// answers reports whether a message is the response to a question.
func answers(b []byte, id uint16, q dnsmessage.Question) bool {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || h.ID != id || !h.Response {
		return false
	}
	got, err := p.Question()
	return err != nil || got.Type == q.Type && strings.EqualFold(got.Name.String(), q.Name.String())
}
