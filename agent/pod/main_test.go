package pod_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/fulldisk"
)

// inside marks the process that runs in a network namespace of its own, in
// which a pod's fixed ports are free.
const inside = "PILOTFISH_TEST_POD"

// podIP is the address of that pod.
const podIP = "10.9.0.5"

func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		if os.Getenv(fulldisk.Marker) == "" { // else the pod is there
			if err := setUpPod(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
		code := m.Run()
		if dir := filepath.Dir(commandFile); dir != "." {
			_ = os.RemoveAll(dir)
		}
		os.Exit(code)
	}
	os.Exit(envoytest.InNamespace(inside))
}

func setUpPod() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	eth := &netlink.Veth{LinkAttrs: attrs, PeerName: "peer0"}
	if err := netlink.LinkAdd(eth); err != nil {
		return err
	}
	if err := netlink.AddrAdd(eth, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(podIP), Mask: net.CIDRMask(24, 32)}}); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(eth); err != nil {
		return err
	}
	// Virtual addresses need a route before redirection can catch them.
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}})
}
