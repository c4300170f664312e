package discovery

import (
	"net/netip"
	"strconv"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// autoAddresses allocates addresses for hosts of ServiceEntries that have
// none, from the ranges that Istio uses: 240.240.0.0/16, class E, and
// 2001:2::/48, benchmarking. Both families share the host's number.
type autoAddresses struct {
	pool *Pool[config.ServiceID]
}

// Of 240.240.0.0/16, the numbers whose last octet is 0 or 255 are left out.
const autoNumbers = 256 * 254

func newAutoAddresses() autoAddresses {
	return autoAddresses{NewPool(autoNumbers, func(id config.ServiceID) config.Hash {
		return config.NewHasher().Str(id.Namespace, id.Hostname).Sum()
	})}
}

// want says whether a host needs an address, and returns the hosts whose
// address changed by that.
func (a *autoAddresses) want(id config.ServiceID, wanted bool) []config.ServiceID {
	if wanted {
		return a.pool.Add(id)
	}
	return a.pool.Remove(id)
}

// of returns a host's addresses, nil if it has none.
func (a *autoAddresses) of(id config.ServiceID) []string {
	n, ok := a.pool.Number(id)
	if !ok {
		return nil
	}
	third, fourth := byte(n/254), byte(n%254+1)
	v4 := netip.AddrFrom4([4]byte{240, 240, third, fourth}).String()
	v6 := "2001:2::f0f0:" + strconv.FormatUint(uint64(third)<<8|uint64(fourth), 16)
	return []string{v4, v6}
}
