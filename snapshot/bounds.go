package snapshot

import (
	"container/list"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
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

// strangers are the streams whose proxy was not let in yet, in the order of
// their beginning. They count apart, so that those who say nothing, or cannot
// prove what they say, take no place of those who can.
type strangers struct {
	order list.List // of *stream
	at    map[*stream]*list.Element
}

// enter adds a stream. If there are too many, the one that has been silent for
// longest has to go; not ok if there is none.
func (l *strangers) enter(st *stream, most int) (evicted *stream, ok bool) {
	if l.order.Len() >= most {
		for e := l.order.Front(); e != nil && evicted == nil; e = e.Next() {
			if silent := e.Value.(*stream); !silent.spoke.Load() {
				evicted = silent
			}
		}
		if evicted == nil {
			return nil, false
		}
		l.leave(evicted)
	}
	if l.at == nil {
		l.at = map[*stream]*list.Element{}
	}
	l.at[st] = l.order.PushBack(st)
	return evicted, true
}

// leave takes a stream away, if it is there.
func (l *strangers) leave(st *stream) {
	if e := l.at[st]; e != nil {
		l.order.Remove(e)
		delete(l.at, st)
	}
}

// connections are those that Server.Limit let in and that are open.
type connections struct {
	mu        sync.Mutex
	n         int
	strangers list.List           // of *counted, those that carried no proxy's stream yet, the oldest first
	at        map[string]*counted // by the client's address
}

// enter counts a connection. If there are too many, the oldest stranger is
// closed in its place; not ok if there is none.
func (l *connections) enter(c *counted, most int) (evicted *counted, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n >= most {
		e := l.strangers.Front()
		if e == nil {
			return nil, false
		}
		evicted = e.Value.(*counted)
		l.drop(evicted)
	}
	l.n++
	if c.address != "" {
		if l.at == nil {
			l.at = map[string]*counted{}
		}
		l.at[c.address], c.stranger = c, l.strangers.PushBack(c)
	}
	return evicted, true
}

// drop stops counting a connection. l.mu is held.
func (l *connections) drop(c *counted) {
	if c.gone {
		return
	}
	c.gone = true
	l.n--
	l.know(c)
	if l.at[c.address] == c {
		delete(l.at, c.address)
	}
}

// know takes a connection out of the strangers. l.mu is held.
func (l *connections) know(c *counted) {
	if c.stranger != nil {
		l.strangers.Remove(c.stranger)
		c.stranger = nil
	}
}

// of is the connection that a call with ctx came by; nil if it is not counted by
// its address. l.mu is held.
func (l *connections) of(ctx context.Context) *counted {
	from, ok := peer.FromContext(ctx)
	if !ok || from.Addr == nil {
		return nil
	}
	return l.at[from.Addr.String()]
}

// trust notes that a proxy was let in over the connection that ctx is of.
func (l *connections) trust(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.of(ctx); c != nil {
		l.know(c)
	}
}

// hangUpAfter is how long a connection lasts after the first bytes that are
// written to it once it is to end: a new one's settings may come before the
// status of the call.
const hangUpAfter = 200 * time.Millisecond

// HangUp ends the connection that a call with ctx came by, if Limit let it in,
// a moment after the call's status is written to it. It is for connections on
// which every further call would be refused, whatever the peer has become since:
// it connects anew.
func (s *Server) HangUp(ctx context.Context) {
	s.connections.mu.Lock()
	defer s.connections.mu.Unlock()
	if c := s.connections.of(ctx); c != nil {
		c.ends.Store(true)
	}
}

// Limit bounds the connections that l accepts to Options.Connections over all
// listeners of s: one beyond it takes the place of the oldest that no proxy was
// let in over, or is closed at once if there is none. Both are counted. A
// connection that is refused before its handshake costs next to nothing.
func (s *Server) Limit(l net.Listener) net.Listener { return &limited{l, s} }

type limited struct {
	net.Listener
	server *Server
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		all := &l.server.connections
		c := &counted{Conn: conn, all: all}
		if conn.RemoteAddr().Network() != "unix" { // whom this machine lets open the socket is no stranger
			c.address = conn.RemoteAddr().String()
		}
		evicted, ok := all.enter(c, l.server.options.Connections)
		if evicted != nil || !ok {
			l.server.metrics.shed("connections")
		}
		if evicted != nil {
			_ = evicted.Conn.Close()
		}
		if ok {
			return c, nil
		}
		_ = conn.Close()
	}
}

// counted is a connection that counts until it is closed.
type counted struct {
	net.Conn
	all      *connections
	address  string        // of the client; empty if it says nothing
	gone     bool          // it does not count any more; guarded by all.mu
	stranger *list.Element // among all.strangers, nil if it is not; guarded by all.mu
	ends     atomic.Bool   // it ends hangUpAfter the next bytes that are written
}

// Write implements net.Conn.
func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if c.ends.Load() && c.ends.Swap(false) {
		time.AfterFunc(hangUpAfter, func() { _ = c.Close() })
	}
	return n, err
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.all.mu.Lock()
	c.all.drop(c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}
