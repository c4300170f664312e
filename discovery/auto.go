package discovery

import (
	"net/netip"
	"slices"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// autoAddresses allocates addresses for hosts of ServiceEntries that have
// none, from the ranges that Istio uses: 240.240.0.0/16, class E, and
// 2001:2::/48, benchmarking. Both families share the host's number.
type autoAddresses struct {
	pool *Pool[config.ServiceID]
	// said are the numbers of addresses in the ranges that services bring
	// along; nobody else gets these.
	said map[config.ServiceID][]uint32
}

// autoBase6 holds our IPv6 addresses: the last two bytes are those of the IPv4
// address.
var autoBase6 = netip.MustParsePrefix("2001:2::f0f0:0/112")

// Of 240.240.0.0/16, the numbers whose last octet is 0 or 255 are left out.
const autoNumbers = 256 * 254

func newAutoAddresses() autoAddresses {
	hash := func(id config.ServiceID) config.Hash { return config.NewHasher().Str(id.Namespace, id.Hostname).Sum() }
	return autoAddresses{NewPool(autoNumbers, hash), map[config.ServiceID][]uint32{}}
}

// want says whether a host needs an address, and returns the hosts whose
// address changed by that.
func (a *autoAddresses) want(id config.ServiceID, wanted bool) []config.ServiceID {
	if wanted {
		return a.pool.Add(id)
	}
	return a.pool.Remove(id)
}

// reserve says which addresses a service brings along, and returns the hosts
// whose address changed by that.
func (a *autoAddresses) reserve(id config.ServiceID, addresses []string) []config.ServiceID {
	var now []uint32
	for _, text := range addresses {
		if n, ok := autoNumber(text); ok && !slices.Contains(now, n) {
			now = append(now, n)
		}
	}
	before := a.said[id]
	if slices.Equal(before, now) {
		return nil
	}
	var moved []config.ServiceID
	for _, n := range now {
		moved = append(moved, a.pool.Reserve(n)...)
	}
	for _, n := range before {
		moved = append(moved, a.pool.Release(n)...)
	}
	if len(now) == 0 {
		delete(a.said, id)
	} else {
		a.said[id] = now
	}
	return moved
}

// autoNumber is the number of an address in one of the ranges.
func autoNumber(text string) (uint32, bool) {
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return 0, false
	}
	var third, fourth byte
	switch b := ip.As16(); {
	case ip.Is4() && b[12] == 240 && b[13] == 240:
		third, fourth = b[14], b[15]
	case !ip.Is4() && autoBase6.Contains(ip):
		third, fourth = b[14], b[15]
	default:
		return 0, false
	}
	if fourth == 0 || fourth == 255 {
		return 0, false
	}
	return uint32(third)*254 + uint32(fourth) - 1, true
}

// of returns a host's addresses, nil if it has none.
func (a *autoAddresses) of(id config.ServiceID) []string {
	n, ok := a.pool.Number(id)
	if !ok {
		return nil
	}
	third, fourth := byte(n/254), byte(n%254+1)
	v4 := netip.AddrFrom4([4]byte{240, 240, third, fourth}).String()
	b := autoBase6.Addr().As16()
	b[14], b[15] = third, fourth
	return []string{v4, netip.AddrFrom16(b).String()}
}
