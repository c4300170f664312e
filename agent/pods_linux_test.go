package agent_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The pod under test and one that it is joined to by a wire.
const (
	podV4, peerV4 = "10.9.0.1", "10.9.0.2"
	podV6, peerV6 = "fd09::1", "fd09::2"
)

// space is a network namespace.
type space struct {
	t  *testing.T
	ns netns.NsHandle
}

// newSpaces makes both, with routes to everywhere by each other.
func newSpaces(t *testing.T) (pod, peer *space) {
	t.Helper()
	pod, peer = newSpace(t), newSpace(t)
	h, err := netlink.NewHandleAt(pod.ns)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(peer.ns)}); err != nil {
		t.Fatal(err)
	}
	pod.address(podV4, podV6, peerV4, peerV6)
	peer.address(peerV4, peerV6, podV4, podV6)
	pod.awaitLink()
	return pod, peer
}

func newSpace(t *testing.T) *space {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	old, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Close() }()
	ns, err := netns.New()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("needs root: %v", err)
		}
		t.Skipf("needs root: %v", err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	if err := netns.Set(old); err != nil {
		t.Fatal(err)
	}
	return &space{t, ns}
}

func (s *space) address(v4, v6, via4, via6 string) {
	s.t.Helper()
	h, err := netlink.NewHandleAt(s.ns)
	if err != nil {
		s.t.Fatal(err)
	}
	defer h.Close()
	for _, name := range []string{"lo", "eth0"} {
		l, err := h.LinkByName(name)
		if err == nil {
			err = h.LinkSetUp(l)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	eth, err := h.LinkByName("eth0")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, a := range []struct {
		ip, via string
		bits    int
	}{{v4, via4, 24}, {v6, via6, 64}} {
		ip := net.ParseIP(a.ip)
		size := 128
		if ip.To4() != nil {
			size = 32
		}
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(a.bits, size)}, Flags: unix.IFA_F_NODAD}
		if err := h.AddrAdd(eth, addr); err != nil {
			s.t.Fatal(err)
		}
		if err := h.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: net.ParseIP(a.via)}); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *space) awaitLink() {
	s.t.Helper()
	h, err := netlink.NewHandleAt(s.ns)
	if err != nil {
		s.t.Fatal(err)
	}
	defer h.Close()
	deadline := time.After(5 * time.Second)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		if l, err := h.LinkByName("eth0"); err == nil && l.Attrs().OperState == netlink.OperUp {
			return
		}
		select {
		case <-look.C:
		case <-deadline:
			s.t.Fatal("the link does not come up")
		}
	}
}

// within runs f on a thread in the namespace.
func (s *space) within(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with f
		if err := netns.Set(s.ns); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// transparent sockets may have addresses that are not the pod's.
func transparent(mark int) func(string, string, syscall.RawConn) error {
	return func(network, _ string, c syscall.RawConn) error {
		level, option := unix.SOL_IP, unix.IP_TRANSPARENT
		if network == "tcp6" {
			level, option = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
		}
		var err error
		cerr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), level, option, 1)
			if mark != 0 {
				err = errors.Join(err, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark))
			}
		})
		return errors.Join(cerr, err)
	}
}

// say answers every connection to a port with a word; "$from" and "$to" in it
// are the connection's addresses.
func (s *space) say(at, word string) {
	s.t.Helper()
	network := "tcp4"
	if a := netip.MustParseAddrPort(at).Addr(); a.Is6() {
		network = "tcp6"
	}
	var l net.Listener
	err := s.within(func() (err error) {
		var c net.ListenConfig
		if strings.HasSuffix(at, ":15006") { // as Envoy's listener in TPROXY mode
			c.Control = transparent(0)
		}
		l, err = c.Listen(context.Background(), network, at)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			from, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			_, _ = io.WriteString(c, os.Expand(word, func(v string) string {
				if v == "from" {
					return from
				}
				return c.LocalAddr().String()
			}))
			_ = c.Close()
		}
	}()
}

// caller opens connections.
type caller struct {
	uid, gid int
	from     string // an address, with a port for UDP
	mark     int
}

func (w caller) as(f func() error) error {
	if w.gid != 0 {
		if _, err := unix.SetfsgidRetGid(w.gid); err != nil {
			return err
		}
	}
	if w.uid != 0 {
		if _, err := unix.SetfsuidRetUid(w.uid); err != nil {
			return err
		}
	}
	return f()
}

// hear connects and returns what is said.
func (s *space) hear(w caller, to string) string {
	s.t.Helper()
	var word string
	err := s.within(func() error {
		return w.as(func() error {
			d := net.Dialer{Timeout: time.Second}
			if w.from != "" {
				d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(w.from)}
			}
			if w.mark != 0 {
				d.Control = transparent(w.mark)
			}
			c, err := d.Dial("tcp", to)
			if err != nil {
				return err
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(2 * time.Second))
			b, err := io.ReadAll(c)
			word = string(b)
			return err
		})
	})
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "unreachable"
	case err != nil:
		return err.Error()
	}
	return word
}

// sayUDP answers every packet with a word, as somebody.
func (s *space) sayUDP(w caller, at, word string) {
	s.t.Helper()
	var l net.PacketConn
	err := s.within(func() error {
		return w.as(func() (err error) { l, err = net.ListenPacket("udp", at); return err })
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = l.Close() })
	go func() {
		b := make([]byte, 100)
		for {
			_, from, err := l.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = l.WriteTo([]byte(word), from)
		}
	}()
}

// ask sends a packet and returns the answer from where it was sent to.
func (s *space) ask(w caller, to string) string {
	s.t.Helper()
	var word string
	err := s.within(func() error {
		return w.as(func() error {
			d := net.Dialer{}
			if w.from != "" {
				d.LocalAddr = net.UDPAddrFromAddrPort(netip.MustParseAddrPort(w.from))
			}
			c, err := d.Dial("udp", to)
			if err != nil {
				return err
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Second))
			if _, err := c.Write([]byte("?")); err != nil {
				return err
			}
			b := make([]byte, 100)
			n, err := c.Read(b)
			word = string(b[:n])
			return err
		})
	})
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer"
	case err != nil:
		return err.Error()
	}
	return word
}
