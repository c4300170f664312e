package agent_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/pilotfish-mesh/pilotfish/agent"
)

var (
	app   = caller{uid: 1000, gid: 1000}
	proxy = caller{uid: agent.ProxyUID, gid: agent.ProxyUID}
)

// attempt is one connection and where it must arrive.
type attempt struct {
	outside bool // from the other pod
	by      caller
	to      string
	want    string
}

func basic() agent.Redirect {
	return agent.Redirect{OutboundPort: 15001, InboundPort: 15006, TunnelPort: 15008, IPv6: true}
}

func prefixes(list ...string) []netip.Prefix {
	out := []netip.Prefix{}
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// Each flag of the init step, seen by real connections.
func TestRedirectFlags(t *testing.T) {
	for _, c := range []struct {
		name     string
		change   func(*agent.Redirect)
		attempts []attempt
	}{
		{"everything", func(*agent.Redirect) {}, []attempt{
			{by: app, to: "192.0.2.1:80", want: "outbound"},
			{by: app, to: "[2001:db8::1]:80", want: "outbound"},
			{by: app, to: peerV4 + ":8080", want: "outbound"},
			{by: app, to: "[" + peerV6 + "]:8080", want: "outbound"},
			{by: app, to: podV4 + ":8080", want: "app"},
			{by: app, to: "127.0.0.1:8080", want: "app"},
			{by: app, to: "[::1]:8080", want: "app"},
			{by: proxy, to: peerV4 + ":8080", want: "peer"},
			{by: proxy, to: "[" + peerV6 + "]:8080", want: "peer"},
			{by: proxy, to: "127.0.0.1:8080", want: "app"},
			{by: proxy, to: podV4 + ":8080", want: "inbound"},
			{by: proxy, to: "[" + podV6 + "]:8080", want: "inbound"},
			{by: proxy, to: podV4 + ":15008", want: "tunnel"},
			{by: caller{uid: agent.ProxyUID, gid: agent.ProxyUID, from: "127.0.0.6"}, to: podV4 + ":8080", want: "app"},
			{by: caller{uid: agent.ProxyUID, gid: agent.ProxyUID, from: "::6"}, to: "[" + podV6 + "]:8080", want: "app"},
			{by: caller{gid: agent.ProxyUID}, to: peerV4 + ":8080", want: "peer"},
			{outside: true, to: podV4 + ":8080", want: "inbound"},
			{outside: true, to: "[" + podV6 + "]:8080", want: "inbound"},
			{outside: true, to: podV4 + ":9999", want: "inbound"},
			{outside: true, to: podV4 + ":15021", want: "health"},
			{outside: true, to: podV4 + ":15008", want: "tunnel"},
		}},
		{"excluded inbound ports", func(r *agent.Redirect) { r.ExcludeInbound = []uint16{8080} }, []attempt{
			{outside: true, to: podV4 + ":8080", want: "app"},
			{outside: true, to: "[" + podV6 + "]:8080", want: "app"},
			{outside: true, to: podV4 + ":8081", want: "inbound"},
		}},
		{"included inbound ports", func(r *agent.Redirect) { r.IncludeInbound = []uint16{8081} }, []attempt{
			{outside: true, to: podV4 + ":8080", want: "app"},
			{outside: true, to: podV4 + ":8081", want: "inbound"},
		}},
		{"no inbound ports", func(r *agent.Redirect) { r.IncludeInbound = []uint16{} }, []attempt{
			{outside: true, to: podV4 + ":8080", want: "app"},
			{by: app, to: peerV4 + ":8080", want: "outbound"},
		}},
		{"included ranges", func(r *agent.Redirect) {
			r.IncludeRanges = prefixes("192.0.2.0/25", "2001:db8::/64")
			r.ExcludeRanges = prefixes("192.0.2.16/28")
		}, []attempt{
			{by: app, to: "192.0.2.1:80", want: "outbound"},
			{by: app, to: "192.0.2.17:80", want: "unreachable"},
			{by: app, to: "192.0.2.129:80", want: "unreachable"},
			{by: app, to: "[2001:db8::1]:80", want: "outbound"},
			{by: app, to: peerV4 + ":8080", want: "peer"},
		}},
		{"no ranges, a port in any case", func(r *agent.Redirect) {
			r.IncludeRanges, r.IncludeOutbound = prefixes(), []uint16{8081}
		}, []attempt{
			{by: app, to: peerV4 + ":8080", want: "peer"},
			{by: app, to: peerV4 + ":8081", want: "outbound"},
			{by: app, to: "[" + peerV6 + "]:8081", want: "outbound"},
		}},
		{"excluded outbound ports", func(r *agent.Redirect) { r.ExcludeOutbound = []uint16{8080} }, []attempt{
			{by: app, to: peerV4 + ":8080", want: "peer"},
			{by: app, to: peerV4 + ":8081", want: "outbound"},
		}},
		{"other users and groups", func(r *agent.Redirect) { r.Users, r.Groups = []uint32{2000}, []uint32{2001} }, []attempt{
			{by: caller{uid: 2000}, to: peerV4 + ":8080", want: "peer"},
			{by: caller{gid: 2001}, to: peerV4 + ":8080", want: "peer"},
			{by: proxy, to: peerV4 + ":8080", want: "outbound"},
		}},
		{"only some groups", func(r *agent.Redirect) { r.OnlyGroups = []uint32{1000} }, []attempt{
			{by: app, to: peerV4 + ":8080", want: "outbound"},
			{by: caller{uid: 1000, gid: 1001}, to: peerV4 + ":8080", want: "peer"},
		}},
		{"all but some groups", func(r *agent.Redirect) { r.ExceptGroups = []uint32{1001} }, []attempt{
			{by: app, to: peerV4 + ":8080", want: "outbound"},
			{by: caller{uid: 1000, gid: 1001}, to: peerV4 + ":8080", want: "peer"},
		}},
		{"an excluded device", func(r *agent.Redirect) { r.ExcludeInterfaces = []string{"eth0"} }, []attempt{
			{by: app, to: peerV4 + ":8080", want: "peer"},
			{outside: true, to: podV4 + ":8080", want: "app"},
		}},
		{"a device of virtual machines", func(r *agent.Redirect) { r.VirtualInterfaces = []string{"eth0"} }, []attempt{
			{outside: true, to: podV4 + ":8080", want: "outbound"},
		}},
		{"invalid packets dropped", func(r *agent.Redirect) { r.DropInvalid = true }, []attempt{
			{by: app, to: peerV4 + ":8080", want: "outbound"},
			{outside: true, to: podV4 + ":8080", want: "inbound"},
		}},
		{"questions taken", func(r *agent.Redirect) { r.DNS = true }, []attempt{
			{by: app, to: peerV4 + ":53", want: "agent"},
			{by: proxy, to: peerV4 + ":53", want: "server"},
			{by: app, to: peerV4 + ":8080", want: "outbound"},
			{by: proxy, to: podV4 + ":8080", want: "inbound"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			pod, peer := newSpaces(t)
			for _, any := range []string{"0.0.0.0", "[::]"} {
				pod.say(any+":15001", "outbound")
				pod.say(any+":15006", "inbound")
				pod.say(any+":15008", "tunnel")
				pod.say(any+":15021", "health")
				pod.say(any+":15053", "agent")
				pod.say(any+":8080", "app")
				peer.say(any+":8080", "peer")
				peer.say(any+":53", "server")
			}
			r := basic()
			c.change(&r)
			for range 2 { // the second time must change nothing
				if err := r.Apply(int(pod.ns)); err != nil {
					t.Fatal(err)
				}
			}
			for _, a := range c.attempts {
				from := pod
				if a.outside {
					from = peer
				}
				if got := from.hear(a.by, a.to); got != a.want {
					t.Errorf("%+v to %s (from outside: %v) reached %q, want %q", a.by, a.to, a.outside, got, a.want)
				}
			}
		})
	}
}

// In TPROXY mode Envoy sees both addresses of a connection and the application
// sees the client's.
func TestTProxyKeepsAddresses(t *testing.T) {
	pod, peer := newSpaces(t)
	for _, any := range []string{"0.0.0.0", "[::]"} {
		pod.say(any+":15001", "outbound")
		pod.say(any+":15006", "inbound $from $to")
		pod.say(any+":15021", "health")
		pod.say(any+":8080", "app $from")
		peer.say(any+":8080", "peer")
	}
	r := basic()
	r.TProxy = &agent.TProxy{Mark: 1337, Table: 133}
	for range 2 {
		if err := r.Apply(int(pod.ns)); err != nil {
			t.Fatal(err)
		}
	}
	// Envoy runs as root of the proxy's group, as its sockets ask for.
	envoy := caller{gid: agent.ProxyUID}
	for _, a := range []attempt{
		{outside: true, to: podV4 + ":8080", want: "inbound " + peerV4 + " " + podV4 + ":8080"},
		{outside: true, to: "[" + podV6 + "]:8080", want: "inbound " + peerV6 + " [" + podV6 + "]:8080"},
		{outside: true, to: podV4 + ":9999", want: "inbound " + peerV4 + " " + podV4 + ":9999"},
		{outside: true, to: podV4 + ":15021", want: "health"},
		// Envoy to the application, from the client's address.
		{by: caller{gid: agent.ProxyUID, from: peerV4, mark: 1337}, to: podV4 + ":8080", want: "app " + peerV4},
		{by: caller{gid: agent.ProxyUID, from: peerV6, mark: 1337}, to: "[" + podV6 + "]:8080", want: "app " + peerV6},
		// The agent's probes.
		{by: caller{gid: agent.ProxyUID, from: "127.0.0.6"}, to: podV4 + ":8080", want: "app 127.0.0.6"},
		// A call to the pod itself, by way of Envoy and not.
		{by: envoy, to: podV4 + ":8080", want: "inbound " + podV4 + " " + podV4 + ":8080"},
		{by: app, to: podV4 + ":8080", want: "app " + podV4},
		{by: app, to: "127.0.0.1:8080", want: "app 127.0.0.1"},
		{by: app, to: peerV4 + ":8080", want: "outbound"},
		{by: envoy, to: peerV4 + ":8080", want: "peer"},
	} {
		from := pod
		if a.outside {
			from = peer
		}
		if got := from.hear(a.by, a.to); got != a.want {
			t.Errorf("%+v to %s (from outside: %v) reached %q, want %q", a.by, a.to, a.outside, got, a.want)
		}
	}
}

// Questions to the named servers go to the agent, the agent's own to the
// servers, also if both come from one and the same port.
func TestQuestionsGoToTheAgent(t *testing.T) {
	for _, all := range []bool{true, false} {
		pod, peer := newSpaces(t)
		pod.sayUDP(proxy, "127.0.0.1:15053", "agent")
		pod.sayUDP(proxy, "[::1]:15053", "agent")
		peer.sayUDP(caller{}, peerV4+":53", "server")
		peer.sayUDP(caller{}, "["+peerV6+"]:53", "server")
		r := basic()
		r.DNS = true
		other := "agent"
		if !all {
			r.DNSServers = []netip.Addr{netip.MustParseAddr(peerV4)}
			other = "server"
		}
		if err := r.Apply(int(pod.ns)); err != nil {
			t.Fatal(err)
		}
		for _, a := range []attempt{
			{by: app, to: peerV4 + ":53", want: "agent"},
			{by: proxy, to: peerV4 + ":53", want: "server"},
			{by: app, to: "[" + peerV6 + "]:53", want: other},
			{by: caller{uid: 1000, from: podV4 + ":4001"}, to: peerV4 + ":53", want: "agent"},
			{by: caller{uid: agent.ProxyUID, from: podV4 + ":4001"}, to: peerV4 + ":53", want: "server"},
			{by: caller{uid: 1000, from: podV4 + ":4001"}, to: peerV4 + ":53", want: "agent"},
		} {
			if got := pod.ask(a.by, a.to); got != a.want {
				t.Errorf("all %v: %+v to %s got %q, want %q", all, a.by, a.to, got, a.want)
			}
		}
	}
}

// What was set up can be found missing, and be removed without a trace.
func TestRedirectIsVerifiedProbedAndRemoved(t *testing.T) {
	pod, _ := newSpaces(t)
	r := basic()
	r.TProxy = &agent.TProxy{Mark: 1337, Table: 133}
	if err := r.Verify(int(pod.ns)); err == nil {
		t.Error("rules that are not there are found")
	}
	probe := func() error {
		return pod.within(func() error { return probeHere(&r) })
	}
	if err := probe(); err == nil || errors.Is(err, agent.ErrNotProbed) {
		t.Errorf("a connection that nothing redirects: %v", err)
	}
	if err := r.Apply(int(pod.ns)); err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(int(pod.ns)); err != nil {
		t.Error(err)
	}
	if err := probe(); err != nil {
		t.Errorf("a connection that is redirected: %v", err)
	}
	other := basic()
	other.ExcludeInbound = []uint16{1}
	if err := other.Verify(int(pod.ns)); err == nil {
		t.Error("other rules are taken for those")
	}
	if err := agent.RemoveRedirect(int(pod.ns)); err != nil {
		t.Fatal(err)
	}
	c, err := nftables.New(nftables.WithNetNSFd(int(pod.ns)))
	if err != nil {
		t.Fatal(err)
	}
	tables, err := c.ListTables()
	if err != nil || len(tables) > 0 {
		t.Errorf("%d tables are left, %v", len(tables), err)
	}
	h, err := netlink.NewHandleAt(pod.ns)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	rules, err := h.RuleList(netlink.FAMILY_ALL)
	if err != nil || slices.ContainsFunc(rules, func(r netlink.Rule) bool { return r.Mark == 1337 }) {
		t.Errorf("rules %v, %v", rules, err)
	}
}

// probeHere probes from this thread's namespace: what it opens and listens on
// must be opened on this thread.
func probeHere(r *agent.Redirect) error { return r.Probe(context.Background()) }
