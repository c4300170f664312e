package agent

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// ProxyUID is the user that Envoy runs as in a pod, and its group: its own
// connections are not redirected into itself.
const ProxyUID = 1337

// redirectTable names the table, of each address family, that holds the rules.
const redirectTable = "pilotfish"

// Redirect sends a pod's connections through its sidecar.
type Redirect struct {
	OutboundPort uint16 // 15001: gets what the application opens
	InboundPort  uint16 // 15006: gets what the application is sent
	// TunnelPort (15008) takes connections that Envoy itself ends; 0 is none.
	TunnelPort uint16
	// TProxy lets the sidecar see and keep the client's address of inbound
	// connections (interception TPROXY).
	TProxy *TProxy

	// IncludeInbound are the only ports of which the sidecar gets inbound
	// connections; nil means all.
	IncludeInbound []uint16
	// ExcludeInbound are ports that are reached directly, besides those of
	// the sidecar itself.
	ExcludeInbound []uint16
	// IncludeRanges are the only destinations of which the sidecar gets
	// outbound connections; nil means all. IncludeOutbound are destination
	// ports of which it gets them wherever they lead.
	IncludeRanges   []netip.Prefix
	IncludeOutbound []uint16
	// ExcludeOutbound are destination ports that the application reaches
	// directly, ExcludeRanges destination addresses.
	ExcludeOutbound []uint16
	ExcludeRanges   []netip.Prefix
	// Users and Groups are those of the proxy and its agent; with neither they
	// are both ProxyUID.
	Users, Groups []uint32
	// OnlyGroups are the groups whose connections are redirected, nil all;
	// ExceptGroups those whose are not.
	OnlyGroups, ExceptGroups []uint32
	// ExcludeInterfaces are devices whose traffic is left alone.
	// VirtualInterfaces are those by which virtual machines in the pod send
	// what they open.
	ExcludeInterfaces, VirtualInterfaces []string
	// DNS sends questions to the agent, all or those to DNSServers if not nil.
	DNS        bool
	DNSServers []netip.Addr
	// DropInvalid drops packets that belong to no connection.
	DropInvalid bool
	// IPv6 covers the pod's IPv6 traffic too.
	IPv6 bool
}

// TProxy are the mark and the routing table by which TPROXY works.
type TProxy struct {
	Mark  uint32 // 1337: also what Envoy's sockets to the application carry
	Table int    // 133
}

// selfMark is the mark of connections that Envoy opens to its own pod: they
// come in by the front door, unlike what the application says to itself.
const selfMark = 1338

// sidecarPorts are answered by the sidecar itself: metrics, health, statistics.
var sidecarPorts = []uint16{StatusPort, HealthPort, StatsPort}

// Apply puts the rules into the network namespace that netns is a descriptor
// of (0: this thread's own), in one transaction: all or none. It requires
// CAP_NET_ADMIN there. Only tables of our own are touched, an earlier set of
// rules is replaced, and what the kernel then has is compared with what it was
// given.
func (r *Redirect) Apply(netns int) error {
	if err := r.routes(netns); err != nil {
		return fmt.Errorf("routes of the redirection: %w", err)
	}
	c, err := nftables.New(nftables.WithNetNSFd(netns))
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	want := r.ruleset()
	for _, t := range want {
		t.add(c)
	}
	if !r.IPv6 {
		removeTable(c, ipv6)
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nftables: set up redirection: %w", err)
	}
	return verifyRules(c, want)
}

// RemoveRedirect takes away what Apply put into a network namespace.
func RemoveRedirect(netns int) error {
	c, err := nftables.New(nftables.WithNetNSFd(netns))
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	removeTable(c, ipv4)
	removeTable(c, ipv6)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nftables: remove redirection: %w", err)
	}
	return removeRoutes(netns)
}

func removeTable(c *nftables.Conn, f family) {
	table := &nftables.Table{Name: redirectTable, Family: f.table}
	c.AddTable(table) // it exists now, so that removing it cannot fail
	c.DelTable(table)
}

// family is what differs between IPv4 and IPv6 rules.
type family struct {
	table nftables.TableFamily
	// loopback is the address on which a pod's parts talk to each other,
	// inbound the one from which Envoy calls the application.
	loopback, inbound netip.Addr
	// Offsets of the addresses in the packet's header (RFC 791, RFC 8200).
	source, destination uint32
	protocol            byte // NFPROTO
}

var (
	ipv4 = family{nftables.TableFamilyIPv4, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.6"), 12, 16, unix.NFPROTO_IPV4}
	ipv6 = family{nftables.TableFamilyIPv6, netip.MustParseAddr("::1"), netip.MustParseAddr("::6"), 8, 24, unix.NFPROTO_IPV6}
)

func (f family) has(a netip.Addr) bool { return a.BitLen() == f.loopback.BitLen() }

// ruleset is everything that Apply sets up.
func (r *Redirect) ruleset() []*ruleTable {
	out := []*ruleTable{r.tableOf(ipv4)}
	if r.IPv6 {
		out = append(out, r.tableOf(ipv6))
	}
	return out
}

func (r *Redirect) tableOf(f family) *ruleTable {
	t := &ruleTable{family: f}
	if r.DNS {
		r.zoneRules(t)
	}
	if r.TProxy != nil || r.DropInvalid {
		r.mangleRules(t)
	}
	r.inboundRules(t.chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest))
	r.outboundRules(t.chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest))
	return t
}

func (r *Redirect) inboundRules(in *ruleChain) {
	for _, name := range r.ExcludeInterfaces {
		in.add(fromDevice(name), accept)
	}
	for _, name := range r.VirtualInterfaces {
		for _, to := range r.included(in.family) {
			in.add(fromDevice(name), to, tcp, redirect(r.OutboundPort))
		}
		in.add(fromDevice(name), accept)
	}
	if r.TProxy != nil {
		return
	}
	r.sortInbound(in, redirect(r.InboundPort))
}

// sortInbound leaves alone what goes to excluded ports and captures the rest.
func (r *Redirect) sortInbound(in *ruleChain, capture part) {
	exclude := slices.Concat(sidecarPorts, r.ExcludeInbound)
	if r.TunnelPort != 0 {
		exclude = append(exclude, r.TunnelPort)
	}
	slices.Sort(exclude)
	for _, p := range slices.Compact(exclude) {
		in.add(tcpTo(p), accept)
	}
	if r.IncludeInbound == nil {
		in.add(tcp, capture)
	}
	for _, p := range r.IncludeInbound {
		in.add(tcpTo(p), capture)
	}
}

// proxies match packets of the proxy's users and groups.
func (r *Redirect) proxies() []part {
	users, groups := r.Users, r.Groups
	if len(users)+len(groups) == 0 {
		users, groups = []uint32{ProxyUID}, []uint32{ProxyUID}
	}
	var out []part
	for _, u := range users {
		out = append(out, byUser(u))
	}
	for _, g := range groups {
		out = append(out, byGroup(g, expr.CmpOpEq))
	}
	return out
}

// outboundRules are tried in order; the first that matches decides.
func (r *Redirect) outboundRules(out *ruleChain) {
	f := out.family
	for _, name := range r.ExcludeInterfaces {
		out.add(toDevice(name), accept)
	}
	for _, p := range r.ExcludeOutbound {
		out.add(tcpTo(p), accept)
		out.add(udpTo(p), accept)
	}
	if r.TProxy != nil {
		out.add(marked(r.TProxy.Mark, expr.CmpOpEq), accept)
	}
	// Envoy to its own application.
	out.add(f.from(f.inbound), toLoopbackDevice, accept)
	for _, proxy := range r.proxies() {
		if r.TProxy == nil {
			// Envoy to a service that the same pod serves: in by the front door.
			// Not the agent to a DNS server in the same pod.
			parts := []part{toLoopbackDevice, f.to(host(f.loopback), expr.CmpOpNeq), proxy, tcp}
			if r.TunnelPort != 0 {
				parts = append(parts, toPort(r.TunnelPort, expr.CmpOpNeq))
			}
			if r.DNS {
				parts = append(parts, toPort(53, expr.CmpOpNeq))
			}
			out.add(append(parts, redirect(r.InboundPort))...)
		}
		// Envoy to the world.
		out.add(proxy, accept)
	}
	if r.OnlyGroups != nil {
		out.add(append(notIn(r.OnlyGroups), accept)...)
	}
	for _, g := range r.ExceptGroups {
		out.add(byGroup(g, expr.CmpOpEq), accept)
	}
	r.dnsRules(out)
	if !slices.ContainsFunc(r.IncludeRanges, func(p netip.Prefix) bool { return p.Addr().IsLoopback() }) {
		// The application to itself.
		out.add(toLoopbackDevice, accept)
	}
	out.add(f.to(host(f.loopback), expr.CmpOpEq), accept)
	for _, p := range r.ExcludeRanges {
		if f.has(p.Addr()) {
			out.add(f.to(p, expr.CmpOpEq), accept)
		}
	}
	for _, p := range r.IncludeOutbound {
		out.add(tcpTo(p), redirect(r.OutboundPort))
	}
	for _, to := range r.included(f) {
		out.add(to, tcp, redirect(r.OutboundPort))
	}
}

// included match the destinations of which the sidecar gets connections.
func (r *Redirect) included(f family) []part {
	if r.IncludeRanges == nil {
		return []part{{}}
	}
	var out []part
	for _, p := range r.IncludeRanges {
		if f.has(p.Addr()) {
			out = append(out, f.to(p, expr.CmpOpEq))
		}
	}
	return out
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// notIn matches packets of none of the groups.
func notIn(groups []uint32) []part {
	var out []part
	for _, g := range groups {
		out = append(out, byGroup(g, expr.CmpOpNeq))
	}
	return out
}
