package up

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/pilotfish-mesh/pilotfish/agent"
	"github.com/pilotfish-mesh/pilotfish/config"
)

// place is where one pod's processes run and its addresses are.
type place struct {
	addr netip.Addr // the pod's address in the mesh
	// local says which loopback addresses stand for the pod's own; nil where
	// the pod has a network namespace.
	local *config.LocalAddresses
	ns    *namespace // nil where the pod shares the machine's network
	// users are whom the application and the proxy run as.
	app, proxy user
}

// ground is where places are made: network namespaces or the loopback range.
type ground interface {
	// address reserves an address for a pod. It stays reserved for good.
	address() (netip.Addr, error)
	// outside is the address of the world outside of the mesh.
	outside() (netip.Addr, error)
	// more gives a place further addresses, if it can.
	more(p *place, addrs []netip.Addr) error
	// resolver listens for the proxies' DNS queries, and is where they go.
	resolver() (udp net.PacketConn, tcp net.Listener, at agent.Address, err error)
	// place makes the place of a reserved address; intercept says whether a
	// sidecar is to get the pod's traffic.
	place(addr netip.Addr, intercept bool) (*place, error)
	interception() config.Interception
	// dialFrom connects from outside of the mesh, as a client of that address.
	dialFrom(ctx context.Context, source netip.Addr, to netip.AddrPort) (net.Conn, error)
	close()
}

// ErrNoSuchClient says that clients outside cannot have an address of their own:
// the pods share the machine's.
var ErrNoSuchClient = errors.New("clients outside have an address of their own in network namespaces only (Linux, as root)")

// The users of pods in network namespaces.
const appUID = 1338

// namespaces is the ground of pods with a network namespace each.
type namespaces struct {
	network *network
	last    netip.Addr
}

func newNamespaces() (*namespaces, error) {
	n, err := newNetwork()
	if err != nil {
		return nil, err
	}
	g := &namespaces{network: n, last: hubAddr}
	// A kernel without nftables would fail at the first pod only.
	if err := (&agent.Redirect{OutboundPort: 15001, InboundPort: 15006}).Apply(int(n.hub)); err != nil {
		g.close()
		return nil, err
	}
	if err := agent.RemoveRedirect(int(n.hub)); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

func (g *namespaces) address() (netip.Addr, error) {
	next := g.last.Next()
	if !podRange.Contains(next.Next()) {
		return netip.Addr{}, fmt.Errorf("more pods than %s has addresses", podRange)
	}
	g.last = next
	return next, nil
}

func (g *namespaces) place(addr netip.Addr, intercept bool) (*place, error) {
	var redirect *agent.Redirect
	if intercept {
		redirect = &agent.Redirect{OutboundPort: 15001, InboundPort: 15006}
	}
	ns, err := g.network.addPod(addr, redirect)
	if err != nil {
		return nil, err
	}
	return &place{addr: addr, ns: &namespace{handle: ns}, app: user{appUID}, proxy: user{agent.ProxyUID}}, nil
}

func (g *namespaces) outside() (netip.Addr, error) { return outsideAddress, nil }

func (g *namespaces) more(p *place, addrs []netip.Addr) error {
	h, err := p.ns.hold()
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }()
	return g.network.addAddresses(h, addrs)
}

func (g *namespaces) resolver() (udp net.PacketConn, tcp net.Listener, at agent.Address, err error) {
	const port = 53
	err = within(g.network.hub, func() error {
		udp, tcp, err = listenBoth(netip.AddrPortFrom(hubAddr, port))
		return err
	})
	return udp, tcp, agent.Address{Host: hubAddr.String(), Port: port}, err
}

// listenBoth listens for datagrams and connections.
func listenBoth(at netip.AddrPort) (udp net.PacketConn, tcp net.Listener, err error) {
	if udp, err = net.ListenPacket("udp4", at.String()); err != nil {
		return nil, nil, err
	}
	if tcp, err = net.Listen("tcp4", at.String()); err != nil {
		_ = udp.Close()
		return nil, nil, err
	}
	return udp, tcp, nil
}

func (g *namespaces) dialFrom(ctx context.Context, source netip.Addr, to netip.AddrPort) (c net.Conn, err error) {
	if err := g.network.addClient(source); err != nil {
		return nil, err
	}
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))}
	err = within(g.network.hub, func() error {
		c, err = d.DialContext(ctx, "tcp", to.String())
		return err
	})
	return c, err
}

func (g *namespaces) interception() config.Interception { return config.Redirect }
func (g *namespaces) close()                            { g.network.close() }

// loopback is the ground of pods that share the machine's loopback range.
// Each mesh claims 127.n.0.0/16 for itself.
type loopback struct {
	claim    net.Listener
	last     netip.Addr
	portBase uint32
}

// claimPort is bound on the last address of a range that a mesh has claimed.
const claimPort = 15999

func newLoopback() (*loopback, error) {
	var err error
	for n := byte(64); n < 250; n++ {
		last := netip.AddrFrom4([4]byte{127, n, 255, 254})
		var claim net.Listener
		claim, err = net.Listen("tcp4", netip.AddrPortFrom(last, claimPort).String())
		if err != nil {
			continue
		}
		g := &loopback{claim: claim, last: netip.AddrFrom4([4]byte{127, n, 0, 0})}
		if !canBindLow(last) {
			g.portBase = 10000
		}
		return g, nil
	}
	return nil, fmt.Errorf("no free range of loopback addresses: %w", err)
}

// canBindLow reports whether this process may bind ports below 1024.
func canBindLow(on netip.Addr) bool {
	l, err := net.Listen("tcp4", netip.AddrPortFrom(on, 1023).String())
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}

// address reserves three consecutive addresses: the pod's, where its outbound
// listeners bind, and where the application listens.
func (g *loopback) address() (netip.Addr, error) {
	pod := g.last.Next()
	g.last = pod.Next().Next()
	if b := g.last.As4(); b[2] == 255 {
		return netip.Addr{}, fmt.Errorf("more pods than 127.%d.0.0/16 has addresses", b[1])
	}
	return pod, nil
}

func (g *loopback) place(addr netip.Addr, intercept bool) (*place, error) {
	p := &place{addr: addr}
	outbound := addr.Next()
	p.local = &config.LocalAddresses{Outbound: outbound.String(), App: outbound.Next().String(), PortBase: g.portBase}
	if !intercept {
		p.local.App = addr.String()
	}
	return p, nil
}

func (g *loopback) outside() (netip.Addr, error)    { return g.address() }
func (g *loopback) more(*place, []netip.Addr) error { return nil }

func (g *loopback) resolver() (udp net.PacketConn, tcp net.Listener, at agent.Address, err error) {
	const port = 15053
	host, _, err := net.SplitHostPort(g.claim.Addr().String())
	if err != nil {
		return nil, nil, at, err
	}
	udp, tcp, err = listenBoth(netip.AddrPortFrom(netip.MustParseAddr(host), port))
	return udp, tcp, agent.Address{Host: host, Port: port}, err
}

func (g *loopback) dialFrom(ctx context.Context, source netip.Addr, to netip.AddrPort) (net.Conn, error) {
	if source != localhost {
		return nil, ErrNoSuchClient
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", to.String())
}

// localhost is where connections on loopback come from.
var localhost = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func (g *loopback) interception() config.Interception { return config.NoneMode }
func (g *loopback) close()                            { _ = g.claim.Close() }

// listen opens a port of the pod's application.
func (p *place) listen(port uint32) (*os.File, error) {
	host := ""
	if p.local != nil {
		host = p.local.App
	}
	var l net.Listener
	err := p.within(func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10)))
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = l.Close() }()
	return l.(*net.TCPListener).File()
}

// dial connects to an IP address and port from inside the pod.
func (p *place) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	var c net.Conn
	err := p.within(func() (err error) {
		c, err = (&net.Dialer{}).DialContext(ctx, "tcp", to.String())
		return err
	})
	return c, err
}

func (p *place) within(f func() error) error {
	if p.ns == nil {
		return f()
	}
	h, err := p.ns.hold()
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }()
	return within(h, f)
}

// enter moves the thread, to which the caller is locked, into the place.
func (p *place) enter() error {
	if p.ns == nil {
		return nil
	}
	h, err := p.ns.hold()
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }()
	return netns.Set(h)
}

func (p *place) close() {
	if p.ns != nil {
		p.ns.close()
	}
}

// namespace is a network namespace that may be closed while others use it.
type namespace struct {
	mu     sync.Mutex
	handle netns.NsHandle
}

// hold returns a descriptor of the caller's own. After close it fails.
func (n *namespace) hold() (netns.NsHandle, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.handle.IsOpen() {
		return netns.None(), fmt.Errorf("the pod has ended: %w", net.ErrClosed)
	}
	fd, err := unix.FcntlInt(uintptr(n.handle), unix.F_DUPFD_CLOEXEC, 0)
	return netns.NsHandle(fd), err
}

func (n *namespace) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.handle.IsOpen() {
		_ = n.handle.Close()
	}
}
