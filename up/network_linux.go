package up

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/pilotfish-mesh/pilotfish/agent"
)

// network joins network namespaces, one a pod, by a bridge in a namespace of
// its own. Nothing of it touches the machine's own interfaces, routes or
// rules, and no namespace has a name: each ends with the last descriptor and
// the last process that hold it.
type network struct {
	hub    netns.NsHandle
	bridge int // the bridge's index in hub

	mu   sync.Mutex // guards what follows
	next int        // numbers the devices
}

// The pods' addresses. They exist in the mesh's own namespaces only, so they
// cannot clash with the machine's.
var (
	podRange = netip.MustParsePrefix("10.244.0.0/16")
	hubAddr  = netip.MustParseAddr("10.244.0.1")
)

const mtu = 1500

// newNetwork requires CAP_SYS_ADMIN and CAP_NET_ADMIN.
func newNetwork() (*network, error) {
	hub, err := newNamespace()
	if err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	n := &network{hub: hub}
	if err := n.makeBridge(); err != nil {
		n.close()
		return nil, fmt.Errorf("set up the mesh's network: %w", err)
	}
	return n, nil
}

func (n *network) makeBridge() error {
	h, err := netlink.NewHandleAt(n.hub)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := setUp(h, "lo"); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "mesh", mtu
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := h.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add a bridge: %w", err)
	}
	if err := h.AddrAdd(bridge, ipNet(netip.PrefixFrom(hubAddr, podRange.Bits()))); err != nil {
		return fmt.Errorf("address of the bridge: %w", err)
	}
	if err := setUp(h, "mesh"); err != nil {
		return err
	}
	// Pods whose addresses lie outside of the range are reached through here.
	// Where the setting cannot be changed, only they cannot be reached.
	_ = within(n.hub, func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
	})
	l, err := h.LinkByName("mesh")
	if err != nil {
		return err
	}
	n.bridge = l.Attrs().Index
	return nil
}

// addPod makes a namespace with one address, whose traffic to everywhere
// leaves by one device, and with a pod's redirection unless it is nil.
func (n *network) addPod(addr netip.Addr, redirect *agent.Redirect) (netns.NsHandle, error) {
	pod, err := newNamespace()
	if err != nil {
		return netns.None(), fmt.Errorf("make a network namespace: %w", err)
	}
	if err := n.connect(pod, addr); err != nil {
		_ = pod.Close()
		return netns.None(), fmt.Errorf("set up the network of %s: %w", addr, err)
	}
	if redirect != nil {
		if err := redirect.Apply(int(pod)); err != nil {
			_ = pod.Close()
			return netns.None(), err
		}
	}
	return pod, nil
}

func (n *network) connect(pod netns.NsHandle, addr netip.Addr) error {
	n.mu.Lock()
	n.next++
	name := "pod" + strconv.Itoa(n.next)
	n.mu.Unlock()

	hub, err := netlink.NewHandleAt(n.hub)
	if err != nil {
		return err
	}
	defer hub.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = name, mtu, n.bridge
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(pod)}
	if err := hub.LinkAdd(veth); err != nil {
		return fmt.Errorf("add a device: %w", err)
	}
	h, err := netlink.NewHandleAt(pod)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := setUp(h, "lo"); err != nil {
		return err
	}
	eth, err := h.LinkByName("eth0")
	if err != nil {
		return err
	}
	bits := podRange.Bits()
	if !podRange.Contains(addr) {
		bits = addr.BitLen()
	}
	if err := h.AddrAdd(eth, ipNet(netip.PrefixFrom(addr, bits))); err != nil {
		return fmt.Errorf("add an address: %w", err)
	}
	if err := setUp(h, "eth0"); err != nil {
		return err
	}
	if err := setUp(hub, name); err != nil {
		return err
	}
	if err := errors.Join(waitUp(h, "eth0"), waitUp(hub, name)); err != nil {
		return err
	}
	// Virtual addresses need a route before redirection can catch them.
	route := &netlink.Route{LinkIndex: eth.Attrs().Index, Gw: hubAddr.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
	if err := h.RouteAdd(route); err != nil {
		return fmt.Errorf("add the default route: %w", err)
	}
	if !podRange.Contains(addr) {
		dst := ipNet(netip.PrefixFrom(addr, bits)).IPNet
		if err := hub.RouteReplace(&netlink.Route{LinkIndex: n.bridge, Dst: dst}); err != nil {
			return fmt.Errorf("add a route: %w", err)
		}
	}
	return nil
}

// addClient gives the world outside of the mesh an address. One that it has
// already is no error.
func (n *network) addClient(a netip.Addr) error {
	hub, err := netlink.NewHandleAt(n.hub)
	if err != nil {
		return err
	}
	defer hub.Close()
	lo, err := hub.LinkByName("lo")
	if err != nil {
		return err
	}
	return hub.AddrReplace(lo, ipNet(netip.PrefixFrom(a, a.BitLen())))
}

// addAddresses gives a pod further addresses that everything in the mesh
// reaches. Those that it has already are no error.
func (n *network) addAddresses(pod netns.NsHandle, addrs []netip.Addr) error {
	if len(addrs) == 0 {
		return nil
	}
	hub, err := netlink.NewHandleAt(n.hub)
	if err != nil {
		return err
	}
	defer hub.Close()
	h, err := netlink.NewHandleAt(pod)
	if err != nil {
		return err
	}
	defer h.Close()
	eth, err := h.LinkByName("eth0")
	if err != nil {
		return err
	}
	for _, a := range addrs {
		one := ipNet(netip.PrefixFrom(a, a.BitLen()))
		if err := h.AddrReplace(eth, one); err != nil {
			return fmt.Errorf("add address %s: %w", a, err)
		}
		if err := hub.RouteReplace(&netlink.Route{LinkIndex: n.bridge, Dst: one.IPNet}); err != nil {
			return fmt.Errorf("add a route to %s: %w", a, err)
		}
	}
	return nil
}

func (n *network) close() { _ = n.hub.Close() }

func setUp(h *netlink.Handle, name string) error {
	l, err := h.LinkByName(name)
	if err == nil {
		err = h.LinkSetUp(l)
	}
	if err != nil {
		return fmt.Errorf("device %s: %w", name, err)
	}
	return nil
}

// waitUp returns when a device can carry packets. The kernel decides that
// some time after both of its ends are up, and until then the bridge drops
// what comes by it.
func waitUp(h *netlink.Handle, name string) error {
	deadline := time.NewTimer(5 * time.Second)
	defer deadline.Stop()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		l, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		if l.Attrs().OperState == netlink.OperUp {
			return nil
		}
		select {
		case <-look.C:
		case <-deadline.C:
			return fmt.Errorf("device %s does not come up", name)
		}
	}
}

func ipNet(p netip.Prefix) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{
		IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
	}}
}

// newNamespace makes a network namespace that nothing is in.
func newNamespace() (netns.NsHandle, error) {
	ns := netns.None()
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		var err error
		ns, err = netns.Get()
		return err
	})
	return ns, err
}

// within runs f on a thread in a network namespace. Sockets that f opens
// belong there for good; f must not hand work to other goroutines that is
// meant to happen there.
func within(ns netns.NsHandle, f func() error) error {
	return onOwnThread(func() error {
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return f()
	})
}

// onOwnThread runs f on a thread that may change its network namespace, and
// that goes back to the one before or ends.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			done <- err
			return // ends the thread: it is still locked
		}
		defer func() { _ = home.Close() }()
		err = f()
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}
