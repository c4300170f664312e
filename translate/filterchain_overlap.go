package translate

import (
	"slices"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// chainClaims are the connections that a listener's chains match, one entry
// for each combination of what a match lists. Envoy takes no listener in
// which two chains have one in common.
//
// Most listeners have one chain, which is only spread out into its entries when
// a second one comes.
type chainClaims struct {
	some  bool
	first chainMatch // as long as taken is nil
	taken map[chainClaim]bool
}

type chainClaim struct {
	port                       uint32
	cidr, sni, transport, alpn string
}

// maxClaims bounds the combinations of one match: subnets times names. Beyond
// it the names and subnets are not split, only compared whole.
const maxClaims = 1 << 14

// add claims what c matches. Names or destinations that are claimed already
// are taken out of it and returned; kept is nil if nothing remains.
func (cc *chainClaims) add(c *chain) (kept *chain, lost []string) {
	if !cc.some {
		cc.some, cc.first = true, c.match
		return c, nil
	}
	if cc.taken == nil {
		cc.taken = map[chainClaim]bool{}
		cc.take(cc.first.claims())
	}
	if claims := c.match.claims(); cc.free(claims) {
		cc.take(claims)
		return c, nil
	}
	for _, part := range []func(*chainMatch) *[]string{
		func(m *chainMatch) *[]string { return &m.sni },
		func(m *chainMatch) *[]string { return &m.cidrs },
	} {
		list := *part(&c.match)
		if len(list) < 2 {
			continue
		}
		reduced := *c
		reduced.origin = 0
		lost = nil
		var left []string
		for _, one := range list {
			single := c.match
			*part(&single) = []string{one}
			if cc.free(single.claims()) {
				left = append(left, one)
			} else {
				lost = append(lost, one)
			}
		}
		if len(left) > 0 {
			*part(&reduced.match) = left
			cc.take(reduced.match.claims())
			return &reduced, lost
		}
	}
	return nil, c.match.describe()
}

// withoutOverlap leaves out, and reports, what an earlier one of some servers'
// or routes' chains matches already.
func (b *build) withoutOverlap(chains []*chain) []*chain {
	if len(chains) < 2 {
		return chains
	}
	claims := chainClaims{some: true, first: chains[0].match, taken: make(map[chainClaim]bool, len(chains))}
	claims.take(claims.first.claims())
	out := append(make([]*chain, 0, len(chains)), chains[0])
	for _, c := range chains[1:] {
		kept, lost := claims.add(c)
		if kept != nil {
			out = append(out, kept)
		}
		if len(lost) > 0 && c.source != nil {
			b.problems = append(b.problems, config.At(c.source, "spec", config.Warning, "FilterChainOverlap",
				"an earlier server or route of the same port takes %s already. Leave it out of one of them", listText(lost)))
		}
	}
	return out
}

func (cc *chainClaims) free(claims []chainClaim) bool {
	for _, k := range claims {
		if cc.taken[k] {
			return false
		}
	}
	return true
}

func (cc *chainClaims) take(claims []chainClaim) {
	for _, k := range claims {
		cc.taken[k] = true
	}
}

func (m *chainMatch) claims() []chainClaim {
	if len(m.sni) == 1 && len(m.cidrs) == 0 && len(m.alpn) == 0 { // most by far
		return []chainClaim{{m.port, "", m.sni[0], m.transport, ""}}
	}
	cidrs, sni, alpn := orAny(canonicalCIDRs(m.cidrs)), orAny(m.sni), orAny(m.alpn)
	if len(cidrs)*len(sni)*len(alpn) > maxClaims {
		cidrs, sni = []string{strings.Join(cidrs, ",")}, []string{strings.Join(sni, ",")}
	}
	out := make([]chainClaim, 0, len(cidrs)*len(sni)*len(alpn))
	for _, c := range cidrs {
		for _, s := range sni {
			for _, a := range alpn {
				out = append(out, chainClaim{m.port, c, s, m.transport, a})
			}
		}
	}
	return out
}

func orAny(list []string) []string {
	if len(list) == 0 {
		return []string{""}
	}
	return list
}

// describe names what a match looks at, for messages.
func (m *chainMatch) describe() []string {
	switch {
	case len(m.sni) > 0:
		return m.sni
	case len(m.cidrs) > 0:
		return m.cidrs
	}
	return []string{"every connection"}
}

// listText is the list for a message, shortened.
func listText(list []string) string {
	list = slices.Clone(list)
	if len(list) > 5 {
		list = append(list[:5], "…")
	}
	return strings.Join(list, ", ")
}
