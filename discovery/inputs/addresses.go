package inputs

import (
	"net/netip"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// addresses gives each pod an address, as a cluster's network would: by its
// name, so that a pod has the same one in two states of a configuration.
type addresses struct {
	given map[config.Key]string
	taken map[uint32]bool
}

func newAddresses() *addresses {
	return &addresses{given: map[config.Key]string{}, taken: map[uint32]bool{}}
}

// podBits of an address tell pods apart: 10.128.0.0/9.
const podBits = 23

func (a *addresses) of(pod config.Key, _ map[string]string) []string {
	if ip, ok := a.given[pod]; ok {
		return []string{ip}
	}
	n := uint32(config.NewHasher().Str(pod.Namespace, pod.Name).Sum()) & (1<<podBits - 1)
	for a.taken[n] || n == 0 {
		n = (n + 1) & (1<<podBits - 1)
	}
	a.taken[n] = true
	ip := netip.AddrFrom4([4]byte{10, 128 | byte(n>>16), byte(n >> 8), byte(n)}).String()
	a.given[pod] = ip
	return []string{ip}
}
