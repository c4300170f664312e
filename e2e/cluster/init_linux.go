package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// hostNetworkFD is a descriptor that the node's first process is given: the
// machine's network namespace.
const hostNetworkFD = 3

// Init is the node's first process (pid 1 of its namespaces), in the role of
// `ctl init DIR BIN LINK`. It starts the node's supervisor, reaps what others
// leave to it, and ends with the supervisor; the kernel then kills the rest.
func Init(self string, args []string) error {
	signal.Ignore(syscall.SIGHUP)
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM, syscall.SIGINT)
	pid, err := syscall.ForkExec(self, append([]string{self, "supervise"}, args...), &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2, hostNetworkFD},
	})
	if err != nil {
		return err
	}
	go func() {
		<-terminate
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}()
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if ended == pid {
			return fmt.Errorf("the supervisor ended: %d", status.ExitStatus())
		}
	}
}

// Supervise prepares the node's namespaces, runs its processes and answers at
// its control socket, until SIGTERM.
func Supervise(dir, bin, address string) error {
	n, err := New(dir, bin)
	if err != nil {
		return err
	}
	at, err := parseLink(address)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := n.mounts(); err != nil {
		return fmt.Errorf("mounts: %w", err)
	}
	if err := n.network(at); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	s := newSupervisor(n, at.node.Addr().String())
	l, err := net.Listen("unix", n.path("control.sock"))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: s.handler()}
	go func() { _ = server.Serve(l) }()
	for _, p := range processes {
		if err := s.start(ctx, p.name); err != nil {
			return err
		}
	}
	<-ctx.Done()
	s.stopAll()
	return server.Close()
}

// mounts gives the node /run, /var/lib and /var/log of its own, so that its
// processes may use the paths that they are built with, a /proc of its
// processes, and stand-ins for kernel settings that are the whole machine's.
func (n *Node) mounts() error {
	type mount struct {
		source, target, kind string
		flags                uintptr
	}
	list := []mount{
		// Changes of the machine's come in; none of ours go out. Shared again:
		// containerd and kubelet need propagation into containers.
		{"", "/", "", unix.MS_REC | unix.MS_SLAVE},
		{"", "/", "", unix.MS_REC | unix.MS_SHARED},
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV},
		{n.path("lib"), "/var/lib", "", unix.MS_BIND},
		{n.path("log"), "/var/log", "", unix.MS_BIND},
	}
	for _, m := range list {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("%s: %w", m.target, err)
		}
	}
	for name, value := range kernel {
		file := n.path("etc", "sys-"+filepath.Base(name))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o600); err != nil {
			return err
		}
		err := unix.Mount(file, "/proc/sys/"+name, "", unix.MS_BIND, "")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("/proc/sys/%s: %w", name, err)
		}
	}
	return nil
}

// network makes the pair of devices between the machine and the node.
func (n *Node) network(at link) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	host, err := netlink.NewHandleAt(netns.NsHandle(hostNetworkFD))
	if err != nil {
		return err
	}
	defer host.Close()
	ours, err := netns.Get()
	if err != nil {
		return err
	}
	defer func() { _ = ours.Close() }()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = n.device()
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: deviceInNode, PeerNamespace: netlink.NsFd(ours)}
	if err := host.LinkAdd(pair); err != nil {
		return fmt.Errorf("add %s: %w", n.device(), err)
	}
	inside, err := netlink.NewHandleAt(ours)
	if err != nil {
		return err
	}
	defer inside.Close()
	for _, end := range []struct {
		h      *netlink.Handle
		device string
		addr   netip.Prefix
	}{{host, n.device(), at.host}, {inside, deviceInNode, at.node}, {inside, "lo", netip.Prefix{}}} {
		l, err := end.h.LinkByName(end.device)
		if err != nil {
			return err
		}
		if end.addr.IsValid() {
			ip := &net.IPNet{IP: end.addr.Addr().AsSlice(), Mask: net.CIDRMask(end.addr.Bits(), 32)}
			if err := end.h.AddrAdd(l, &netlink.Addr{IPNet: ip}); err != nil {
				return fmt.Errorf("address of %s: %w", end.device, err)
			}
		}
		if err := end.h.LinkSetUp(l); err != nil {
			return err
		}
	}
	l, err := inside.LinkByName(deviceInNode)
	if err != nil {
		return err
	}
	err = inside.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: at.host.Addr().AsSlice()})
	if err != nil {
		return fmt.Errorf("default route: %w", err)
	}
	// kube-proxy's rules see pods' packets only where packets are forwarded.
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
}

func parseLink(s string) (link, error) {
	node, err := netip.ParsePrefix(s)
	if err != nil {
		return link{}, err
	}
	return link{host: netip.PrefixFrom(node.Masked().Addr().Next(), node.Bits()), node: node}, nil
}

// run runs a command inside of the node and returns its output.
func run(ctx context.Context, argv []string) ([]byte, error) {
	return exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
}
