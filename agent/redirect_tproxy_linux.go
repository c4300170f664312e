package agent

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// mangleRules drop invalid packets, and in TPROXY mode hand inbound
// connections to Envoy with both of their addresses as they are.
//
// Envoy opens its connection to the application from the client's address, on
// a socket with the mark. The mark is kept with the connection, so that what
// the application answers, to an address that is not the pod's, is routed back
// to Envoy by the table that takes everything marked for local.
func (r *Redirect) mangleRules(t *ruleTable) {
	in := t.chain("capture", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityMangle)
	for _, name := range r.ExcludeInterfaces {
		in.add(fromDevice(name), accept)
	}
	if r.DropInvalid {
		in.add(invalid, drop)
	}
	if r.TProxy == nil {
		return
	}
	mark, f := r.TProxy.Mark, t.family
	in.add(tcp, marked(mark, expr.CmpOpEq), keepMark, accept)
	in.add(tcp, f.from(f.inbound), fromDevice("lo"), accept)
	in.add(tcp, fromDevice("lo"), marked(selfMark, expr.CmpOpNeq), accept)
	in.add(tcp, transparentSocket, setMark(mark), accept)
	in.add(tcp, f.to(host(f.loopback), expr.CmpOpEq), accept)
	r.sortInbound(in, tproxy(f, r.InboundPort, mark))

	out := t.chain("mark", nftables.ChainTypeRoute, nftables.ChainHookOutput, nftables.ChainPriorityMangle)
	for _, name := range r.ExcludeInterfaces {
		out.add(toDevice(name), accept)
	}
	out.add(tcp, toLoopbackDevice, marked(mark, expr.CmpOpEq), accept)
	for _, proxy := range r.proxies() {
		out.add(tcp, toLoopbackDevice, f.from(f.inbound), accept)
		out.add(tcp, toLoopbackDevice, f.to(host(f.loopback), expr.CmpOpNeq), proxy, setMark(selfMark))
	}
	out.add(tcp, connectionMarked(mark), setMark(mark))
}

// routes makes what the rules need of addresses and routes: the IPv6 address
// from which Envoy calls the application, and in TPROXY mode the table by
// which marked packets are local.
func (r *Redirect) routes(ns int) error {
	h, done, err := handle(ns)
	if err != nil {
		return err
	}
	defer done()
	if r.IPv6 {
		if err := addInboundAddress(h); err != nil {
			return err
		}
	}
	if r.TProxy == nil {
		return nil
	}
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	for _, n := range r.networks() {
		route := &netlink.Route{
			LinkIndex: lo.Attrs().Index, Table: r.TProxy.Table, Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST, Dst: n.all,
		}
		if err := h.RouteReplace(route); err != nil {
			return fmt.Errorf("table %d: %w", r.TProxy.Table, err)
		}
		rule := netlink.NewRule()
		rule.Mark, rule.Table, rule.Family = r.TProxy.Mark, r.TProxy.Table, n.family
		if err := h.RuleAdd(rule); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("rule for mark %d: %w", r.TProxy.Mark, err)
		}
	}
	return nil
}

type network struct {
	family int
	all    *net.IPNet
}

func (r *Redirect) networks() []network {
	out := []network{{netlink.FAMILY_V4, &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}}}
	if r.IPv6 {
		out = append(out, network{netlink.FAMILY_V6, &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}})
	}
	return out
}

func handle(ns int) (*netlink.Handle, func(), error) {
	if ns == 0 {
		h, err := netlink.NewHandle()
		return h, func() { h.Close() }, err
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(ns))
	return h, func() { h.Close() }, err
}

// addInboundAddress gives the loopback device ::6. A pod whose kernel has no
// IPv6 has nothing to redirect there.
func addInboundAddress(h *netlink.Handle) error {
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	a := &netlink.Addr{IPNet: &net.IPNet{IP: ipv6.inbound.AsSlice(), Mask: net.CIDRMask(128, 128)}, Flags: unix.IFA_F_NODAD}
	err = h.AddrReplace(lo, a)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) {
		if _, serr := os.Stat("/proc/sys/net/ipv6"); serr != nil {
			return nil
		}
		b, _ := os.ReadFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6")
		if len(b) > 0 && b[0] == '1' {
			return nil
		}
	}
	return err
}

// removeRoutes removes the rules of TPROXY; their table does no harm without.
func removeRoutes(ns int) error {
	h, done, err := handle(ns)
	if err != nil {
		return err
	}
	defer done()
	for _, fam := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := h.RuleList(fam)
		if err != nil {
			continue // a family that the kernel does not have
		}
		for i := range rules {
			if rules[i].Mark == ProxyUID {
				if err := h.RuleDel(&rules[i]); err != nil && !errors.Is(err, os.ErrNotExist) {
					return err
				}
			}
		}
	}
	return nil
}
