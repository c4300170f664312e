package echo

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"sync"
)

// peekedConn is a connection whose first bytes were read to tell its protocol
// and are read again by its user.
type peekedConn struct {
	net.Conn
	head []byte
}

func (p *peekedConn) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// httpStarts are what an HTTP/1 request or an HTTP/2 connection begins with
// (RFC 9110 section 9.3, RFC 9113 section 3.4).
var httpStarts = [][]byte{
	[]byte("GET "), []byte("HEAD "), []byte("POST "), []byte("PUT "), []byte("DELETE "),
	[]byte("OPTIONS "), []byte("TRACE "), []byte("PATCH "), []byte("CONNECT "), []byte("PRI * HTTP/2.0\r\n"),
}

// speech is what a peer speaks.
type speech int

const (
	speaksTCP speech = iota
	speaksHTTP
	speaksTLS
)

// tlsHandshake is the first byte of a TLS connection (RFC 8446 section 5.1).
const tlsHandshake = 22

// sniff reads until it is certain what the peer speaks. Silence, an end or an
// error means TCP.
func (p *peekedConn) sniff() speech {
	var buf [64]byte
	head := buf[:0]
	for len(head) < len(buf) {
		n, err := p.Conn.Read(buf[len(head):])
		head = buf[:len(head)+n]
		if len(head) > 0 && head[0] == tlsHandshake {
			p.head = bytes.Clone(head)
			return speaksTLS
		}
		undecided := false
		for _, s := range httpStarts {
			if bytes.HasPrefix(head, s) {
				p.head = bytes.Clone(head)
				return speaksHTTP
			}
			undecided = undecided || bytes.HasPrefix(s, head)
		}
		if err != nil || !undecided {
			break
		}
	}
	p.head = bytes.Clone(head)
	return speaksTCP
}

// echoTCP answers the first bytes with one line of JSON that says who it is,
// then returns every byte that it is sent.
func (s *server) echoTCP(p *peekedConn) {
	if len(p.head) == 0 {
		return
	}
	line, err := json.Marshal(Answer{Identity: s.id, Protocol: "TCP", Port: portOf(p.Conn), TLS: tlsOf(p)})
	if err != nil {
		return
	}
	if _, err := p.Write(append(line, '\n')); err != nil {
		return
	}
	_, _ = io.Copy(p.Conn, p)
}

// connQueue is the net.Listener of the HTTP server: connections arrive after
// their first bytes were seen.
type connQueue struct {
	conns chan net.Conn
	done  chan struct{}
	close sync.Once
}

func newConnQueue() *connQueue {
	return &connQueue{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (q *connQueue) put(c net.Conn) {
	select {
	case q.conns <- c:
	case <-q.done:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (q *connQueue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *connQueue) Close() error {
	q.close.Do(func() { close(q.done) })
	return nil
}

// Addr implements net.Listener.
func (q *connQueue) Addr() net.Addr { return &net.TCPAddr{} }
