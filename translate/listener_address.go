package translate

import (
	"net/netip"
	"slices"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// envoyAddress is an IP with port, or a Unix domain socket.
func envoyAddress(address string, port uint32, protocol core.SocketAddress_Protocol) *core.Address {
	if path, ok := unixPath(address); ok {
		return &core.Address{Address: &core.Address_Pipe{Pipe: &core.Pipe{Path: path}}}
	}
	return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address: address, Protocol: protocol,
		PortSpecifier: &core.SocketAddress_PortValue{PortValue: port},
	}}}
}

// parsePrefix reads an address or a CIDR; host bits are cleared.
func parsePrefix(s string) (netip.Prefix, bool) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		return p.Masked(), err == nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}

// cidrRange is Envoy's form of an address or a CIDR, or nil if it is neither.
func cidrRange(s string) *core.CidrRange {
	p, ok := parsePrefix(s)
	if !ok {
		return nil
	}
	return &core.CidrRange{AddressPrefix: p.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(p.Bits()))}
}

// canonicalCIDRs are the masked forms, sorted, without duplicates and without
// what is no address. All addresses are no condition: Envoy keeps the chains
// without one under the same range, and looks at one of the two kinds only.
func canonicalCIDRs(in []string) []string {
	var out []string
	for _, s := range in {
		if p, ok := parsePrefix(s); ok {
			if p.Bits() == 0 {
				return nil
			}
			out = append(out, p.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// singleAddress returns the address that s means: s itself, or that of a
// prefix of full length. A wider prefix has none.
func singleAddress(s string) (string, bool) {
	p, ok := parsePrefix(s)
	if !ok || p.Bits() != p.Addr().BitLen() {
		return "", false
	}
	return p.Addr().String(), true
}

func isIPv6(address string) bool {
	p, ok := parsePrefix(address)
	return ok && p.Addr().Is6() && !p.Addr().Is4In6()
}

// sameStrings reports whether two lists hold the same set.
func sameStrings(a, b []string) bool {
	if slices.Equal(a, b) {
		return true
	}
	x, y := slices.Clone(a), slices.Clone(b)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(slices.Compact(x), slices.Compact(y))
}

func bothFamilies(ips []string) bool {
	var v4, v6 bool
	for _, ip := range ips {
		if isIPv6(ip) {
			v6 = true
		} else {
			v4 = true
		}
	}
	return v4 && v6
}
