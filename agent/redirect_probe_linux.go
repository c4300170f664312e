package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Verify compares the kernel's rules with those that Apply would set up.
func (r *Redirect) Verify(netns int) error {
	c, err := nftables.New(nftables.WithNetNSFd(netns))
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return verifyRules(c, r.ruleset())
}

// ErrNotProbed says that a probe could not be made, which proves nothing.
var ErrNotProbed = errors.New("redirection not probed")

// Probe opens a connection as an application would, in this process's own
// network namespace and before Envoy runs, and reports whether it arrives
// where Envoy will listen. Nothing is sent to anybody.
func (r *Redirect) Probe(ctx context.Context) error {
	to, ok := r.probeTarget()
	if !ok {
		return fmt.Errorf("%w: no address is redirected for sure", ErrNotProbed)
	}
	l, err := net.Listen("tcp4", net.JoinHostPort("0.0.0.0", strconv.Itoa(int(r.OutboundPort))))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotProbed, err)
	}
	defer func() { _ = l.Close() }()
	arrived := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = originalDestination(c.(*net.TCPConn), to)
			_ = c.Close()
		}
		arrived <- err
	}()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp4", to.String())
	if errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH) {
		return fmt.Errorf("%w: the pod has no route to anywhere: %w", ErrNotProbed, err)
	}
	if err != nil {
		return fmt.Errorf("a connection to %s is not redirected: %w", to, err)
	}
	defer func() { _ = c.Close() }()
	select {
	case err := <-arrived:
		return err
	case <-ctx.Done():
		return fmt.Errorf("a connection to %s is not redirected", to)
	}
}

// probeTarget is an address that the rules redirect; for all destinations it is
// one that is reserved for documentation (RFC 5737).
func (r *Redirect) probeTarget() (netip.AddrPort, bool) {
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid()) //nolint:gosec // ids
	users, groups := r.Users, r.Groups
	if slices.Contains(users, uid) || slices.Contains(groups, gid) || slices.Contains(r.ExceptGroups, gid) ||
		r.OnlyGroups != nil && !slices.Contains(r.OnlyGroups, gid) || len(r.ExcludeInterfaces) > 0 {
		return netip.AddrPort{}, false
	}
	candidates := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")}
	if r.IncludeRanges != nil {
		candidates = nil
		for _, p := range r.IncludeRanges {
			if p.Addr().Is4() && !p.Addr().IsLoopback() {
				candidates = append(candidates, p.Masked().Addr().Next())
			}
		}
	}
	const port = 9 // discard
	for _, a := range candidates {
		excluded := slices.ContainsFunc(r.ExcludeRanges, func(p netip.Prefix) bool { return p.Contains(a) })
		included := r.IncludeRanges == nil || slices.ContainsFunc(r.IncludeRanges, func(p netip.Prefix) bool { return p.Contains(a) })
		if !excluded && included && !slices.Contains(r.ExcludeOutbound, port) && !isLocal(a) {
			return netip.AddrPortFrom(a, port), true
		}
	}
	return netip.AddrPort{}, false
}

func isLocal(a netip.Addr) bool {
	own, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(own, func(o net.Addr) bool {
		p, err := netip.ParsePrefix(o.String())
		return err == nil && p.Addr() == a
	})
}

// originalDestination checks that a redirected connection kept where it was to
// go, which is what Envoy routes by.
func originalDestination(c *net.TCPConn, want netip.AddrPort) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var got netip.AddrPort
	var serr error
	err = raw.Control(func(fd uintptr) {
		// The option fills a sockaddr_in, which fits into this structure.
		var m *unix.IPv6Mreq
		if m, serr = unix.GetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IP, unix.SO_ORIGINAL_DST); serr == nil {
			a := m.Multiaddr
			got = netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[4:8])), uint16(a[2])<<8|uint16(a[3]))
		}
	})
	if err = errors.Join(err, serr); err != nil {
		return fmt.Errorf("original destination: %w", err)
	}
	if got != want {
		return fmt.Errorf("a connection to %s arrives as one to %s", want, got)
	}
	return nil
}
