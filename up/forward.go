package up

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// forwarder makes one port of a pod reachable from this machine, on loopback.
type forwarder struct {
	listener net.Listener

	mu     sync.Mutex // guards what follows
	open   map[net.Conn]bool
	closed bool
	place  *place
	to     netip.AddrPort
	wait   sync.WaitGroup
}

const forwardDialTimeout = 5 * time.Second

// forward listens on address, with port 0 on any free one.
func forward(address string, p *place, to netip.AddrPort) (*forwarder, error) {
	l, err := net.Listen("tcp4", address)
	if err != nil {
		return nil, err
	}
	f := &forwarder{listener: l, open: map[net.Conn]bool{}, place: p, to: to}
	f.wait.Go(f.accept)
	return f, nil
}

func (f *forwarder) address() string { return f.listener.Addr().String() }

// aim sends new connections elsewhere.
func (f *forwarder) aim(p *place, to netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.place, f.to = p, to
}

func (f *forwarder) target() netip.AddrPort {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.to
}

func (f *forwarder) accept() {
	for {
		c, err := f.listener.Accept()
		if err != nil {
			return
		}
		if !f.track(c) {
			_ = c.Close()
			return
		}
		f.wait.Go(func() {
			defer f.untrack(c)
			f.relay(c)
		})
	}
}

func (f *forwarder) relay(from net.Conn) {
	f.mu.Lock()
	p, addr := f.place, f.to
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), forwardDialTimeout)
	defer cancel()
	to, err := p.dial(ctx, addr)
	if err != nil {
		return
	}
	if !f.track(to) {
		_ = to.Close()
		return
	}
	defer f.untrack(to)
	var both sync.WaitGroup
	both.Go(func() { pump(from, to) })
	both.Go(func() { pump(to, from) })
	both.Wait()
}

// pump copies one direction and passes on its end.
func pump(dst, src net.Conn) {
	_, err := io.Copy(dst, src)
	if t, ok := dst.(*net.TCPConn); ok && err == nil {
		_ = t.CloseWrite()
		return
	}
	_, _ = dst.Close(), src.Close()
}

func (f *forwarder) track(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.open[c] = true
	return true
}

func (f *forwarder) untrack(c net.Conn) {
	_ = c.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, c)
}

// close ends the forwarder and the connections through it.
func (f *forwarder) close() {
	_ = f.listener.Close()
	f.mu.Lock()
	f.closed = true
	for c := range f.open {
		_ = c.Close()
	}
	f.mu.Unlock()
	f.wait.Wait()
}
