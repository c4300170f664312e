package agent

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// ruleTable is one family's table as it is to be.
type ruleTable struct {
	family family
	chains []*ruleChain
}

// ruleChain holds rules, first come first tried.
type ruleChain struct {
	family   family
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority *nftables.ChainPriority
	rules    [][]expr.Any
}

func (t *ruleTable) chain(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) *ruleChain {
	c := &ruleChain{family: t.family, name: name, kind: kind, hook: hook, priority: priority}
	t.chains = append(t.chains, c)
	return c
}

func (c *ruleChain) add(parts ...part) {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	c.rules = append(c.rules, all)
}

// add puts the table into a transaction, in place of an earlier one.
func (t *ruleTable) add(c *nftables.Conn) {
	removeTable(c, t.family)
	table := &nftables.Table{Name: redirectTable, Family: t.family.table}
	c.AddTable(table)
	for _, ch := range t.chains {
		chain := c.AddChain(&nftables.Chain{Name: ch.name, Table: table, Type: ch.kind, Hooknum: ch.hook, Priority: ch.priority})
		for _, r := range ch.rules {
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: r})
		}
	}
}

// verifyRules compares what the kernel has with what it was given.
func verifyRules(c *nftables.Conn, want []*ruleTable) error {
	for _, t := range want {
		table := &nftables.Table{Name: redirectTable, Family: t.family.table}
		for _, ch := range t.chains {
			got, err := c.GetRules(table, &nftables.Chain{Name: ch.name, Table: table})
			if err != nil {
				return fmt.Errorf("nftables: read back chain %s: %w", ch.name, err)
			}
			if len(got) != len(ch.rules) {
				return fmt.Errorf("nftables: chain %s has %d rules after %d were set", ch.name, len(got), len(ch.rules))
			}
			for i, r := range got {
				if !sameRule(r.Exprs, ch.rules[i]) {
					return fmt.Errorf("nftables: chain %s: rule %d is not as it was set", ch.name, i)
				}
			}
		}
	}
	return nil
}

// sameRule compares what matters; the kernel fills in defaults elsewhere, and
// the library does not read back two kinds of expressions.
func sameRule(got, want []expr.Any) bool {
	want = slices.DeleteFunc(slices.Clone(want), func(e expr.Any) bool {
		switch e.(type) {
		case *expr.Socket, *expr.TProxy:
			return true
		}
		return false
	})
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		if reflect.TypeOf(got[i]) != reflect.TypeOf(want[i]) {
			return false
		}
		switch w := want[i].(type) {
		case *expr.Cmp:
			g := got[i].(*expr.Cmp)
			if g.Op != w.Op || string(g.Data) != string(w.Data) {
				return false
			}
		case *expr.Immediate:
			if string(got[i].(*expr.Immediate).Data) != string(w.Data) {
				return false
			}
		case *expr.Verdict:
			if got[i].(*expr.Verdict).Kind != w.Kind {
				return false
			}
		case *expr.Meta:
			if got[i].(*expr.Meta).Key != w.Key {
				return false
			}
		case *expr.Payload:
			g := got[i].(*expr.Payload)
			if g.Base != w.Base || g.Offset != w.Offset || g.Len != w.Len {
				return false
			}
		}
	}
	return true
}

type part []expr.Any

var (
	accept = part{&expr.Verdict{Kind: expr.VerdictAccept}}
	drop   = part{&expr.Verdict{Kind: expr.VerdictDrop}}
	tcp    = protocol(unix.IPPROTO_TCP)
	udp    = protocol(unix.IPPROTO_UDP)

	toLoopbackDevice = toDevice("lo")
	// keepMark keeps a packet's mark with its connection.
	keepMark = part{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Ct{Key: expr.CtKeyMARK, Register: 1, SourceRegister: true},
	}
	// transparentSocket matches packets of connections that Envoy has taken.
	transparentSocket = part{
		&expr.Socket{Key: expr.SocketKeyTransparent, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1}},
	}
	invalid = part{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitINVALID), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
)

func protocol(number byte) part {
	return part{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{number}},
	}
}

func device(key expr.MetaKey, name string) part {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	return part{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data}}
}

func toDevice(name string) part   { return device(expr.MetaKeyOIFNAME, name) }
func fromDevice(name string) part { return device(expr.MetaKeyIIFNAME, name) }

func join(a, b part) part { return append(a[:len(a):len(a)], b...) }

// port compares a port in the transport header, at its offset there.
func port(offset uint32, number uint16, op expr.CmpOp) part {
	return part{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
		&expr.Cmp{Op: op, Register: 1, Data: binaryutil.BigEndian.PutUint16(number)},
	}
}

func toPort(number uint16, op expr.CmpOp) part { return port(2, number, op) }

func tcpTo(number uint16) part   { return join(tcp, toPort(number, expr.CmpOpEq)) }
func udpTo(number uint16) part   { return join(udp, toPort(number, expr.CmpOpEq)) }
func udpFrom(number uint16) part { return join(udp, port(0, number, expr.CmpOpEq)) }

func redirect(to uint16) part {
	return part{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(to)},
		&expr.Redir{RegisterProtoMin: 1},
	}
}

// tproxy hands a packet to a listener as it is, marked.
func tproxy(f family, to uint16, mark uint32) part {
	return join(join(part{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(to)},
		&expr.TProxy{Family: f.protocol, TableFamily: f.protocol, RegPort: 1},
	}, setMark(mark)), accept)
}

func byUser(uid uint32) part { return owner(expr.MetaKeySKUID, uid, expr.CmpOpEq) }

func byGroup(gid uint32, op expr.CmpOp) part { return owner(expr.MetaKeySKGID, gid, op) }

func owner(key expr.MetaKey, id uint32, op expr.CmpOp) part {
	return part{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: op, Register: 1, Data: binaryutil.NativeEndian.PutUint32(id)},
	}
}

func marked(mark uint32, op expr.CmpOp) part {
	return part{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Cmp{Op: op, Register: 1, Data: binaryutil.NativeEndian.PutUint32(mark)},
	}
}

func connectionMarked(mark uint32) part {
	return part{
		&expr.Ct{Key: expr.CtKeyMARK, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(mark)},
	}
}

func setMark(mark uint32) part {
	return part{
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(mark)},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true},
	}
}

// zone tracks a packet's connection apart from those of other zones.
func zone(number uint16) part {
	return part{
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint16(number)},
		&expr.Ct{Key: expr.CtKeyZONE, Register: 1, SourceRegister: true},
	}
}

func (f family) from(a netip.Addr) part { return f.address(f.source, host(a), expr.CmpOpEq) }

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
