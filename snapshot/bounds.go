package snapshot

import (
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// census counts the streams of each proxy that was let in.
type census struct {
	mu      sync.Mutex
	streams map[string]int // by proxy id
}

// enter counts one more stream of a proxy, unless it has as many as it may.
func (c *census) enter(proxy string, most int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams == nil {
		c.streams = map[string]int{}
	}
	if c.streams[proxy] >= most {
		return status.Errorf(codes.ResourceExhausted, "proxy %s has %d streams open, the most that one may have", proxy, most)
	}
	c.streams[proxy]++
	return nil
}

func (c *census) leave(proxy string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[proxy]--; c.streams[proxy] <= 0 {
		delete(c.streams, proxy)
	}
}

// Limit bounds the connections that l accepts to Options.Connections: those
// beyond it, over all listeners of s, are closed at once and counted. A
// connection that is refused before its handshake costs next to nothing.
func (s *Server) Limit(l net.Listener) net.Listener { return &limited{l, s} }

type limited struct {
	net.Listener
	server *Server
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if n := l.server.connections.Add(1); n <= int64(l.server.options.Connections) {
			return &counted{Conn: c, open: &l.server.connections}, nil
		}
		l.server.connections.Add(-1)
		l.server.metrics.shed("connections")
		_ = c.Close()
	}
}

// counted is a connection that counts until it is closed.
type counted struct {
	net.Conn
	open *atomic.Int64
	once sync.Once
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}
