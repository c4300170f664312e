package translate

import (
	"slices"
	"strings"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// lostDomain is one domain that a virtual host wants and another one has.
// Both are positions in the table.
type lostDomain struct {
	loser, winner int
	domain        string
}

// overlap is what settling the domains of a table came to: what was lost, and
// what is left to each virtual host that lost some.
type overlap struct {
	lost []lostDomain
	left map[int][]string
}

// settleDomains leaves each domain to one virtual host: Envoy refuses a table
// in which two have the same. Proper names go before short forms and
// addresses, virtual hosts with rules before those without, and then the
// earlier name before the later one. Who has what depends on the domains
// alone, so it is remembered across changes of the routes behind them.
func (b *build) settleDomains(parts []*vhostPart) []*vhostPart {
	h := config.NewHasher().Str("domains").Uint(uint64(len(parts)))
	for _, p := range parts {
		h.Hash(p.domainsHash).Bool(p.ruled)
	}
	o := remember(b.t, h.Sum(), func() *overlap { return findOverlap(parts) })
	if len(o.lost) == 0 {
		return parts
	}
	for _, l := range o.lost {
		b.reportLost(parts[l.loser], parts[l.winner], l.domain)
	}
	out := make([]*vhostPart, 0, len(parts))
	for i, p := range parts {
		if left, cut := o.left[i]; cut {
			p = b.cutVhost(p, left)
		}
		if p != nil {
			out = append(out, p)
		}
	}
	return out
}

func findOverlap(parts []*vhostPart) *overlap {
	owners := make(map[string]int, 5*len(parts))
	for _, short := range []bool{false, true} {
		for _, ruled := range []bool{true, false} {
			for i, p := range parts {
				if p.ruled != ruled {
					continue
				}
				if short {
					claim(owners, p.names[p.proper:], i)
				} else {
					claim(owners, p.names[:p.proper], i)
				}
			}
		}
	}
	out := &overlap{}
	for i, p := range parts {
		lost := len(out.lost)
		for _, d := range p.names {
			if owner := owners[strings.ToLower(d)]; owner != i {
				out.lost = append(out.lost, lostDomain{i, owner, d})
			}
		}
		if len(out.lost) > lost {
			if out.left == nil {
				out.left = map[int][]string{}
			}
			out.left[i] = slices.DeleteFunc(slices.Clone(p.names), func(d string) bool { return owners[strings.ToLower(d)] != i })
		}
	}
	return out
}

func claim(owners map[string]int, domains []string, i int) {
	for _, d := range domains {
		d = strings.ToLower(d)
		if _, taken := owners[d]; !taken {
			owners[d] = i
		}
	}
}

// reportLost says that a virtual host does not get one of its domains.
// Absolute forms go the way of the plain name and are not reported again.
func (b *build) reportLost(loser, winner *vhostPart, domain string) {
	if strings.HasSuffix(domain, ".") || len(loser.sources) == 0 {
		return
	}
	other := winner.name
	if len(winner.sources) > 0 {
		other += " of " + winner.sources[0].Key.String()
	}
	b.problems = append(b.problems, config.At(loser.sources[0], "", config.Warning, "DuplicateDomain",
		"requests for %q go to virtual host %s, not to %s: on one port a name leads to one of them; give them different names, addresses or ports",
		domain, other, loser.name))
}

// cutVhost is a virtual host with only some of its domains, or nil if none is
// left.
func (b *build) cutVhost(p *vhostPart, left []string) *vhostPart {
	if len(left) == 0 {
		return nil
	}
	key := config.NewHasher().Str("cut vhost").Hash(p.hash).Str(left...).Sum()
	made := remember(b.t, key, func() madeVhost {
		var vh route.VirtualHost
		_, _, n := protowire.ConsumeTag(p.bytes)
		body, _ := protowire.ConsumeBytes(p.bytes[n:])
		if err := proto.Unmarshal(body, &vh); err != nil {
			return madeVhost{problems: []config.Problem{unencodable("virtual host "+p.name, err, p.sources)}}
		}
		cut := b.encodeVhost(&vh, domains{names: left, proper: min(p.proper, len(left))}, p.clusters, p.sources...)
		if cut.part != nil {
			cut.part.longestBody, cut.part.ruled = p.longestBody, p.ruled
		}
		return cut
	})
	b.problems = append(b.problems, made.problems...)
	return made.part
}
