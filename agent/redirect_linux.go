package agent

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// ProxyUID is the user that Envoy runs as in a pod: its own connections are
// not redirected into itself.
const ProxyUID = 1337

// redirectTable names the table, of each address family, that holds the rules.
const redirectTable = "pilotfish"

// Redirect sends a pod's TCP connections through its sidecar (interception
// REDIRECT).
type Redirect struct {
	OutboundPort uint16 // 15001: gets what the application opens
	InboundPort  uint16 // 15006: gets what the application is sent
	// IncludeInbound are the only ports of which the sidecar gets inbound
	// connections; nil means all.
	IncludeInbound []uint16
	// ExcludeInbound are ports that are reached directly, besides those of
	// the sidecar itself.
	ExcludeInbound []uint16
	// ExcludeOutbound are destination ports that the application reaches
	// directly, ExcludeRanges destination addresses.
	ExcludeOutbound []uint16
	ExcludeRanges   []netip.Prefix
	// IPv6 covers the pod's IPv6 traffic too.
	IPv6 bool
}

// sidecarPorts are answered by the sidecar itself: metrics, health, statistics.
var sidecarPorts = []uint16{15020, HealthPort, StatsPort}

// Apply puts the rules into the network namespace that netns is a descriptor
// of, in one transaction: all or none. It requires CAP_NET_ADMIN there. Only
// tables of our own are touched, and an earlier set of rules is replaced.
func (r *Redirect) Apply(netns int) error {
	c, err := nftables.New(nftables.WithNetNSFd(netns))
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	r.rules(c, ipv4)
	if r.IPv6 {
		r.rules(c, ipv6)
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nftables: set up redirection: %w", err)
	}
	return nil
}

// RemoveRedirect takes away what Apply put into a network namespace.
func RemoveRedirect(netns int) error {
	c, err := nftables.New(nftables.WithNetNSFd(netns))
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	for _, f := range []family{ipv4, ipv6} {
		table := &nftables.Table{Name: redirectTable, Family: f.table}
		c.AddTable(table) // it exists now, so that removing it cannot fail
		c.DelTable(table)
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nftables: remove redirection: %w", err)
	}
	return nil
}

// family is what differs between IPv4 and IPv6 rules.
type family struct {
	table nftables.TableFamily
	// loopback is the address on which a pod's parts talk to each other,
	// inbound the one from which Envoy calls the application.
	loopback, inbound netip.Addr
	// Offsets of the addresses in the packet's header (RFC 791, RFC 8200).
	source, destination uint32
}

var (
	ipv4 = family{nftables.TableFamilyIPv4, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.6"), 12, 16}
	ipv6 = family{nftables.TableFamilyIPv6, netip.MustParseAddr("::1"), netip.MustParseAddr("::6"), 8, 24}
)

func (r *Redirect) rules(c *nftables.Conn, f family) {
	table := &nftables.Table{Name: redirectTable, Family: f.table}
	c.AddTable(table)
	c.DelTable(table) // it exists now, so that this cannot fail
	c.AddTable(table)
	r.inboundRules(chain{c, table, c.AddChain(&nftables.Chain{
		Name: "prerouting", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
	})})
	r.outboundRules(chain{c, table, c.AddChain(&nftables.Chain{
		Name: "output", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})}, f)
}

func (r *Redirect) inboundRules(in chain) {
	for _, p := range sidecarPorts {
		in.add(tcpTo(p), accept)
	}
	for _, p := range r.ExcludeInbound {
		in.add(tcpTo(p), accept)
	}
	if r.IncludeInbound == nil {
		in.add(tcp, redirect(r.InboundPort))
	}
	for _, p := range r.IncludeInbound {
		in.add(tcpTo(p), redirect(r.InboundPort))
	}
}

// outboundRules are tried in order; the first that matches decides.
func (r *Redirect) outboundRules(out chain, f family) {
	host := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
	// Envoy to its own application.
	out.add(f.from(f.inbound), toLoopbackDevice, accept)
	// Envoy to a service that the same pod serves: in by the front door.
	out.add(toLoopbackDevice, f.to(host(f.loopback), expr.CmpOpNeq), byUser(ProxyUID, expr.CmpOpEq), tcp, redirect(r.InboundPort))
	// The application to itself.
	out.add(toLoopbackDevice, byUser(ProxyUID, expr.CmpOpNeq), accept)
	// Envoy to the world.
	out.add(byUser(ProxyUID, expr.CmpOpEq), accept)
	out.add(f.to(host(f.loopback), expr.CmpOpEq), accept)
	for _, p := range r.ExcludeOutbound {
		out.add(tcpTo(p), accept)
	}
	for _, p := range r.ExcludeRanges {
		if p.Addr().BitLen() == f.loopback.BitLen() {
			out.add(f.to(p, expr.CmpOpEq), accept)
		}
	}
	out.add(tcp, redirect(r.OutboundPort))
}

// chain is where rules are added, first come first tried.
type chain struct {
	conn  *nftables.Conn
	table *nftables.Table
	chain *nftables.Chain
}

type part []expr.Any

func (c chain) add(parts ...part) {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	c.conn.AddRule(&nftables.Rule{Table: c.table, Chain: c.chain, Exprs: all})
}

var (
	accept = part{&expr.Verdict{Kind: expr.VerdictAccept}}
	tcp    = part{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
	}
	toLoopbackDevice = part{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append([]byte("lo"), make([]byte, unix.IFNAMSIZ-2)...)},
	}
)

func tcpTo(port uint16) part {
	return append(tcp[:len(tcp):len(tcp)],
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)})
}

func redirect(port uint16) part {
	return part{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Redir{RegisterProtoMin: 1},
	}
}

func byUser(uid uint32, op expr.CmpOp) part {
	return part{
		&expr.Meta{Key: expr.MetaKeySKUID, Register: 1},
		&expr.Cmp{Op: op, Register: 1, Data: binaryutil.NativeEndian.PutUint32(uid)},
	}
}

func (f family) from(a netip.Addr) part {
	return f.address(f.source, netip.PrefixFrom(a, a.BitLen()), expr.CmpOpEq)
}

func (f family) to(p netip.Prefix, op expr.CmpOp) part { return f.address(f.destination, p, op) }

func (f family) address(offset uint32, p netip.Prefix, op expr.CmpOp) part {
	p = p.Masked()
	size := uint32(f.loopback.BitLen() / 8) //nolint:gosec // 4 or 16
	mask := make([]byte, size)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return part{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: op, Register: 1, Data: p.Addr().AsSlice()},
	}
}
