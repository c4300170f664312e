package simulate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
)

// criterion is one step of choosing a filter chain. rank says how closely a
// chain fits, and why it does not where ok is false.
type criterion struct {
	rank func(e *exchange, m *listener.FilterChainMatch) (n int, ok bool)
	why  func(e *exchange, m *listener.FilterChainMatch) string
}

// criteria are tried in this order (envoy config.listener.v3 FilterChainMatch):
// each keeps the chains that fit best and forgets the others, so a chain that
// fits better early on wins even if a later criterion then leaves none.
var criteria = []criterion{
	{rankPort, func(e *exchange, m *listener.FilterChainMatch) string {
		return fmt.Sprintf("it is for port %d, the connection goes to %d", m.GetDestinationPort().GetValue(), e.conn.Destination.Port())
	}},
	{rankDestination, func(e *exchange, m *listener.FilterChainMatch) string {
		return fmt.Sprintf("%s is not in %s", e.conn.Destination.Addr(), prefixText(m.GetPrefixRanges()))
	}},
	{rankServerName, func(e *exchange, m *listener.FilterChainMatch) string {
		return fmt.Sprintf("SNI %s is not %s", orNone(e.sni), strings.Join(m.GetServerNames(), " or "))
	}},
	{rankTransport, func(e *exchange, m *listener.FilterChainMatch) string {
		if m.GetTransportProtocol() == tlsBytes {
			return "it is for TLS, the connection is plaintext"
		}
		return "it is for plaintext, the connection is TLS"
	}},
	{rankALPN, func(e *exchange, m *listener.FilterChainMatch) string {
		return fmt.Sprintf("application protocol %s is not %s", orNone(strings.Join(e.alpn, ",")), strings.Join(m.GetApplicationProtocols(), " or "))
	}},
	{rankDirectSource, func(e *exchange, m *listener.FilterChainMatch) string {
		return fmt.Sprintf("%s is not in %s", e.conn.Source, prefixText(m.GetDirectSourcePrefixRanges()))
	}},
	{rankSource, func(e *exchange, m *listener.FilterChainMatch) string {
		return fmt.Sprintf("%s is not in %s", e.conn.Source, prefixText(m.GetSourcePrefixRanges()))
	}},
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

func rankPort(e *exchange, m *listener.FilterChainMatch) (int, bool) {
	if m.GetDestinationPort() == nil {
		return 0, true
	}
	return 1, m.GetDestinationPort().GetValue() == uint32(e.conn.Destination.Port())
}

func rankDestination(e *exchange, m *listener.FilterChainMatch) (int, bool) {
	return rankPrefixes(m.GetPrefixRanges(), e.conn.Destination.Addr())
}

func rankDirectSource(e *exchange, m *listener.FilterChainMatch) (int, bool) {
	return rankPrefixes(m.GetDirectSourcePrefixRanges(), e.conn.Source)
}

func rankSource(e *exchange, m *listener.FilterChainMatch) (int, bool) {
	return rankPrefixes(m.GetSourcePrefixRanges(), e.conn.Source)
}

func rankPrefixes(ranges []*core.CidrRange, ip netip.Addr) (int, bool) {
	if len(ranges) == 0 {
		return 0, true
	}
	longest, found := 0, false
	for _, r := range ranges {
		a, err := netip.ParseAddr(r.GetAddressPrefix())
		if err != nil {
			continue
		}
		p := netip.PrefixFrom(a, int(r.GetPrefixLen().GetValue()))
		if p.Contains(ip) {
			longest, found = max(longest, p.Bits()), true
		}
	}
	return longest, found
}

func prefixText(ranges []*core.CidrRange) string {
	var out []string
	for _, r := range ranges {
		out = append(out, fmt.Sprintf("%s/%d", r.GetAddressPrefix(), r.GetPrefixLen().GetValue()))
	}
	return strings.Join(out, ", ")
}

// rankServerName: the name itself before wildcards, a longer one before a
// shorter one, and any of them before no condition.
func rankServerName(e *exchange, m *listener.FilterChainMatch) (int, bool) {
	if len(m.GetServerNames()) == 0 {
		return 0, true
	}
	const exact = 1 << 16
	rank := -1
	sni := strings.ToLower(e.sni)
	for _, n := range m.GetServerNames() {
		n = strings.ToLower(n)
		switch suffix, wild := strings.CutPrefix(n, "*"); {
		case n == sni && sni != "":
			rank = exact
		case wild && len(sni) > len(suffix) && strings.HasSuffix(sni, suffix):
			rank = max(rank, len(suffix))
		}
	}
	return rank, rank >= 0
}

func rankTransport(e *exchange, m *listener.FilterChainMatch) (int, bool) {
	if m.GetTransportProtocol() == "" {
		return 0, true
	}
	return 1, m.GetTransportProtocol() == e.transport
}

// rankALPN: what the client names first goes first.
func rankALPN(e *exchange, m *listener.FilterChainMatch) (int, bool) {
	if len(m.GetApplicationProtocols()) == 0 {
		return 0, true
	}
	for i, p := range e.alpn {
		if slices.Contains(m.GetApplicationProtocols(), p) {
			return 1000 - i, true
		}
	}
	return 0, false
}

// chooseChain picks a listener's chain. Without one the connection is closed.
func (e *exchange) chooseChain(l *listener.Listener) *listener.FilterChain {
	if l.GetFilterChainMatcher() != nil {
		e.hop.unknown("the listener chooses chains by a matcher tree")
	}
	left := slices.Clone(l.GetFilterChains())
	out := map[*listener.FilterChain]string{}
	for _, c := range criteria {
		left = e.keepBest(left, c, out)
	}
	for _, fc := range left {
		m := fc.GetFilterChainMatch()
		if m.GetSourceType() != listener.FilterChainMatch_ANY || len(m.GetSourcePorts()) > 0 || m.GetAddressSuffix() != "" {
			e.hop.unknown("filter chain " + chainName(fc) + " matches the source's type or port")
		}
	}
	chosen := l.GetDefaultFilterChain()
	if len(left) > 0 {
		chosen = left[0]
	}
	d := &Decision{}
	for _, fc := range l.GetFilterChains() {
		if fc != chosen {
			d.Passed = append(d.Passed, Passed{Name: chainName(fc), Source: sourceOf(fc.GetMetadata()), Why: out[fc]})
		}
	}
	if chosen == nil {
		e.hop.Reply = &Reply{Reason: "no filter chain takes the connection: it is closed", Flag: "NR"}
		e.hop.Chain = d
		return nil
	}
	d.Name, d.Source, d.Why = chainName(chosen), sourceOf(chosen.GetMetadata()), describeMatch(chosen.GetFilterChainMatch())
	if d.Name == "("+d.Why+")" {
		d.Why = ""
	}
	if len(left) == 0 {
		d.Why = "no other chain takes the connection"
	}
	e.hop.Chain = d
	return chosen
}

func chainName(fc *listener.FilterChain) string {
	if fc.GetName() != "" {
		return fc.GetName()
	}
	if d := describeMatch(fc.GetFilterChainMatch()); d != "" {
		return "(" + d + ")"
	}
	return "(any)"
}

// keepBest keeps the chains that fit a criterion best, and notes why others go.
func (e *exchange) keepBest(left []*listener.FilterChain, c criterion, out map[*listener.FilterChain]string) []*listener.FilterChain {
	most, kept := -1, []*listener.FilterChain(nil)
	for _, fc := range left {
		rank, ok := c.rank(e, fc.GetFilterChainMatch())
		if !ok {
			out[fc] = c.why(e, fc.GetFilterChainMatch())
			continue
		}
		switch {
		case rank > most:
			for _, k := range kept {
				out[k] = "another chain fits more closely"
			}
			most, kept = rank, []*listener.FilterChain{fc}
		case rank == most:
			kept = append(kept, fc)
		default:
			out[fc] = "another chain fits more closely"
		}
	}
	return kept
}

func describeMatch(m *listener.FilterChainMatch) string {
	var parts []string
	if m.GetDestinationPort() != nil {
		parts = append(parts, fmt.Sprintf("port %d", m.GetDestinationPort().GetValue()))
	}
	if len(m.GetPrefixRanges()) > 0 {
		parts = append(parts, "to "+prefixText(m.GetPrefixRanges()))
	}
	if len(m.GetServerNames()) > 0 {
		parts = append(parts, "SNI "+strings.Join(m.GetServerNames(), ", "))
	}
	switch m.GetTransportProtocol() {
	case tlsBytes:
		parts = append(parts, "TLS")
	case rawBuffer:
		parts = append(parts, "plaintext")
	}
	if len(m.GetApplicationProtocols()) > 0 {
		parts = append(parts, "protocol "+strings.Join(m.GetApplicationProtocols(), ", "))
	}
	if len(m.GetSourcePrefixRanges()) > 0 {
		parts = append(parts, "from "+prefixText(m.GetSourcePrefixRanges()))
	}
	return strings.Join(parts, ", ")
}
