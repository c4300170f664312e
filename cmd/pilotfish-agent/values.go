package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// list splits a comma-separated value.
func list(s string) []string {
	var out []string
	for _, v := range strings.Split(s, ",") {
		if v = strings.TrimSpace(v); v != "" {
			out = append(out, v)
		}
	}
	return out
}

// ports is never nil: no port is not all ports.
func ports(flag, s string) ([]uint16, error) {
	out := []uint16{}
	for _, v := range list(s) {
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("%s %q: %q is not a port", flag, s, v)
		}
		out = append(out, uint16(n))
	}
	return out, nil
}

// ranges is never nil: no range is not all ranges.
func ranges(flag, s string) ([]netip.Prefix, error) {
	out := []netip.Prefix{}
	for _, v := range list(s) {
		p, err := netip.ParsePrefix(v)
		if err != nil {
			a, aerr := netip.ParseAddr(v)
			if aerr != nil {
				return nil, fmt.Errorf("%s %q: %q is not a range such as 10.0.0.0/8", flag, s, v)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, p)
	}
	return out, nil
}

func ids(flag, s string) ([]uint32, error) {
	out := []uint32{}
	for _, v := range list(s) {
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%s %q: %q is not an id", flag, s, v)
		}
		out = append(out, uint32(n))
	}
	return out, nil
}

// groupIDs takes names, too.
func groupIDs(flag, s string) ([]uint32, error) {
	out := []uint32{}
	for _, v := range list(s) {
		if g, err := user.LookupGroup(v); err == nil {
			v = g.Gid
		}
		n, err := ids(flag, v)
		if err != nil {
			return nil, fmt.Errorf("%s %q: %q is neither a group nor an id", flag, s, v)
		}
		out = append(out, n...)
	}
	return out, nil
}

// nameServers are those of a resolv.conf. It is never nil.
func nameServers(file string) ([]netip.Addr, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("DNS servers: %w", err)
	}
	out := []netip.Addr{}
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			out = append(out, a.WithZone("").Unmap())
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("DNS servers: %s names none; --capture-all-dns needs none", file)
	}
	return out, nil
}

// hasIPv6 reports whether the kernel speaks IPv6 at all.
func hasIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return !errors.Is(err, os.ErrNotExist)
}
