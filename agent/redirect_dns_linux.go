package agent

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// dnsServers match, by an address of the packet, the DNS servers whose
// questions are taken.
func (r *Redirect) dnsServers(f family, address func(netip.Addr) part) []part {
	if r.DNSServers == nil {
		return []part{{}}
	}
	var out []part
	for _, a := range r.DNSServers {
		if f.has(a) {
			out = append(out, address(a))
		}
	}
	return out
}

func (f family) toHost(a netip.Addr) part { return f.to(host(a), expr.CmpOpEq) }

// dnsRules send questions to the agent.
func (r *Redirect) dnsRules(out *ruleChain) {
	if !r.DNS {
		return
	}
	for _, server := range r.dnsServers(out.family, out.family.toHost) {
		out.add(server, tcpTo(53), redirect(DNSPort))
		out.add(server, udpTo(53), redirect(DNSPort))
	}
}

// Conntrack's zones of DNS. What the application asks the agent and what the
// agent asks a server may have one and the same addresses and ports within
// seconds; in one zone the second would be taken for part of the first, and
// come back to the agent.
const (
	upstreamZone = 1 // the agent and the servers
	clientZone   = 2 // the application and the agent
)

func (r *Redirect) zoneRules(t *ruleTable) {
	out := t.chain("dns-output", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityRaw)
	for _, proxy := range r.proxies() {
		out.add(udpTo(53), proxy, zone(upstreamZone), accept)
		out.add(udpFrom(DNSPort), proxy, zone(clientZone), accept)
	}
	for _, server := range r.dnsServers(t.family, t.family.toHost) {
		out.add(server, udpTo(53), zone(clientZone))
	}
	in := t.chain("dns-prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	for _, server := range r.dnsServers(t.family, t.family.from) {
		in.add(server, udpFrom(53), zone(upstreamZone))
	}
}
