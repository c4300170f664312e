package echo

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// Identity is who a server says it is.
type Identity struct {
	Workload  string            `json:"workload"` // the controller's name, such as myapp-v1
	Pod       string            `json:"pod"`
	Namespace string            `json:"namespace"`
	Version   string            `json:"version,omitempty"` // label version
	Labels    map[string]string `json:"labels,omitempty"`
}

// sniffTimeout bounds how long a connection may stay silent before it counts
// as TCP: protocols where the server speaks first must not wait forever.
const sniffTimeout = 5 * time.Second

// Serve answers on the listeners until ctx ends, then closes them, gives
// requests in flight up to grace to finish, and returns nil. A listener that
// fails for another reason ends Serve with its error.
func Serve(ctx context.Context, id Identity, grace time.Duration, listeners ...net.Listener) error {
	certificates, err := newCertificates()
	if err != nil {
		return err
	}
	s := &server{handler: newHandler(id), id: id, tls: certificates.config(), open: map[net.Conn]bool{}}
	httpConns := newConnQueue()
	hs := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: time.Minute,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		Protocols: new(http.Protocols),
	}
	hs.Protocols.SetHTTP1(true)
	hs.Protocols.SetHTTP2(true)
	hs.Protocols.SetUnencryptedHTTP2(true)

	failed := make(chan error, len(listeners)+1)
	var accepting sync.WaitGroup
	for _, l := range listeners {
		accepting.Go(func() { failed <- s.accept(l, httpConns) })
	}
	go func() { _ = hs.Serve(httpConns) }()

	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	for _, l := range listeners {
		_ = l.Close()
	}
	accepting.Wait()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if hs.Shutdown(drain) != nil {
		_ = hs.Close()
	}
	_ = httpConns.Close()
	s.closeTCP()
	return err
}

type connKey struct{}

func portOf(c net.Conn) int {
	if c == nil {
		return 0
	}
	if a, ok := c.LocalAddr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}

type server struct {
	handler http.Handler
	id      Identity
	tls     *tls.Config

	mu     sync.Mutex // guards what follows
	open   map[net.Conn]bool
	closed bool
	conns  sync.WaitGroup
}

func (s *server) accept(l net.Listener, httpConns *connQueue) error {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			continue
		}
		if err != nil {
			return err
		}
		if !s.track(c) {
			_ = c.Close()
			continue
		}
		go func() {
			defer s.conns.Done()
			s.connection(c, httpConns)
			s.untrack(c)
		}()
	}
}

// connection hands c to the HTTP server, or serves it as TCP until its end.
func (s *server) connection(c net.Conn, httpConns *connQueue) {
	p := &peekedConn{Conn: c}
	_ = c.SetReadDeadline(time.Now().Add(sniffTimeout))
	what := p.sniff()
	if what == speaksTLS {
		secure := tls.Server(p, s.tls)
		if err := secure.Handshake(); err != nil {
			_ = c.Close()
			return
		}
		if secure.ConnectionState().NegotiatedProtocol != "" { // only HTTP is offered
			_ = c.SetReadDeadline(time.Time{})
			httpConns.put(secure)
			return
		}
		p = &peekedConn{Conn: secure}
		what = p.sniff()
	}
	_ = c.SetReadDeadline(time.Time{})
	if what == speaksHTTP {
		httpConns.put(p)
		return
	}
	defer func() { _ = p.Close() }()
	s.echoTCP(p)
}

func (s *server) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.open[c] = true
	s.conns.Add(1)
	return true
}

func (s *server) untrack(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

func (s *server) closeTCP() {
	s.mu.Lock()
	s.closed = true
	for c := range s.open {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.conns.Wait()
}
