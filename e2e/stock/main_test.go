package stock

import (
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
)

// inside marks the process that runs in a network namespace of its own, in
// which an agent's fixed ports are free.
const inside = "PILOTFISH_TEST_STOCK"

// podIP is the address of the pod.
const podIP = "10.9.0.7"

func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" {
		os.Exit(envoytest.InNamespace(inside))
	}
	if err := setUpPod(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	kubetest.Main(m)
}

func setUpPod() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	return netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(podIP), Mask: net.CIDRMask(32, 32)}})
}
