package meshtest

import (
	"slices"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// classes arranges the sidecars that either state has by what makes them
// different clients: what they are sent for their own requests, where they are,
// and by which identities policies know them. It tells of each the first one
// of its class.
func (c *comparison) classes() map[string]string {
	patterns := append(identityPatterns(c.before.Mesh), identityPatterns(c.after.Mesh)...)
	slices.Sort(patterns)
	patterns = slices.Compact(patterns)
	was, now := podsByName(c.before), podsByName(c.after)
	first := map[client]string{}
	out := map[string]string{}
	for _, name := range sortedKeys(now) {
		b := now[name]
		if b.Role != config.SidecarPod {
			continue
		}
		key := client{namespace: b.Namespace, locality: b.Locality, after: sentTo(c.after, b)}
		if a := was[name]; a != nil {
			key.before = sentTo(c.before, a)
		}
		identity := strings.TrimPrefix(c.after.Identity(b), "spiffe://")
		for _, pattern := range patterns {
			if isLike(pattern, identity) {
				key.identity += "\n" + pattern
			}
		}
		if first[key] == "" {
			first[key] = name
		}
		out[name] = first[key]
		c.alike[out[name]] = append(c.alike[out[name]], name)
	}
	return out
}

// client is what tells clients apart.
type client struct {
	namespace     string
	locality      config.Locality
	before, after config.Hash // what it is sent for its own requests
	identity      string      // the patterns that it is like
}

func sentTo(w *simulate.World, p *simulate.Pod) config.Hash {
	r := outbound(w, p).Resources()
	return config.NewHasher().Hash(r.Clusters.Hash(), r.Listeners.Hash(), r.Routes.Hash()).Sum()
}

// outbound is what decides about a sidecar's own requests.
func outbound(w *simulate.World, p *simulate.Pod) *simulate.Part {
	return w.Config(p).Parts()[0]
}

// isOtherClient reports whether anything differs about a sidecar's own
// requests.
func (c *comparison) isOtherClient(a, b *simulate.Pod) bool {
	return len(c.parts[[2]*simulate.Part{outbound(c.before, a), outbound(c.after, b)}]) > 0
}

// clientsToAsk are those that are sent something else; where only servers
// are, one client of each namespace.
func (c *comparison) clientsToAsk() []string {
	out := slices.Clone(c.clients)
	seen := map[string]bool{}
	for _, name := range out {
		ns, _, _ := strings.Cut(name, "/")
		seen[ns] = true
	}
	for _, name := range c.after.Clients("", "") {
		ns, _, _ := strings.Cut(name, "/")
		if !seen[ns] {
			seen[ns] = true
			out = append(out, name)
		}
	}
	return out
}

// strangersOf are the clients that servers tell apart although they are sent
// the same: one of each class, and for each namespace one without a proxy.
func (c *comparison) strangersOf() []string {
	out := sortedKeys(c.alike)
	seen := map[string]bool{}
	for _, p := range c.after.Pods() {
		if plain := "plain/" + p.Namespace; p.Role != config.GatewayPod && !seen[plain] {
			seen[plain] = true
			out = append(out, plain)
		}
	}
	return out
}

// identityPatterns are the texts by which AuthorizationPolicies tell the
// identities of a namespace apart, as patterns of principals.
func identityPatterns(m *config.Mesh) []string {
	var out []string
	for p := range m.AuthorizationPolicies.All() {
		for _, r := range p.Spec.GetRules() {
			for _, f := range r.GetFrom() {
				s := f.GetSource()
				out = append(append(out, s.GetPrincipals()...), s.GetNotPrincipals()...)
				for _, a := range append(slices.Clone(s.GetServiceAccounts()), s.GetNotServiceAccounts()...) {
					out = append(out, "*/sa/"+a[strings.LastIndexByte(a, '/')+1:])
				}
			}
			for _, w := range r.GetWhen() {
				if w.GetKey() == "source.principal" {
					out = append(append(out, w.GetValues()...), w.GetNotValues()...)
				}
			}
		}
	}
	return out
}

// isLike reports whether a text is what a policy's pattern stands for.
func isLike(pattern, text string) bool {
	if suffix, ok := strings.CutPrefix(pattern, "*"); ok {
		return strings.HasSuffix(text, suffix)
	}
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(text, prefix)
	}
	return pattern == text
}

// requests compares the answers to requests that either configuration tells
// apart, from the clients and to the hosts that something differs for.
func (c *comparison) requests() {
	clients := c.clientsToAsk()
	var strangers []string
	if len(c.served) > 0 {
		strangers = c.strangersOf()
	}
	for _, to := range c.targets() {
		from := clients
		if c.served[to.Service.Hostname] {
			from = slices.Clone(clients)
			for _, s := range strangers {
				if !slices.Contains(from, s) {
					from = append(from, s)
				}
			}
		}
		for _, f := range from {
			for _, q := range c.explored(f, to) {
				c.compare(q)
			}
		}
	}
	for _, g := range c.gateways {
		for _, q := range slices.Concat(c.before.ExploreGateway(g), c.after.ExploreGateway(g)) {
			c.compare(q)
		}
	}
}

// changesOf names the changes that by themselves make the difference that a
// request shows, where the decision itself is none of them.
func (c *comparison) changesOf(g *RequestChange, q *simulate.Query) string {
	n := len(c.out.Objects)
	if n == 0 || n > maxOrdered || slices.ContainsFunc(c.out.Objects, func(o ObjectChange) bool { return strings.Contains(g.Cause, o.Object.String()) }) {
		return ""
	}
	if n == 1 {
		return c.out.Objects[0].Object.String()
	}
	after := strings.Join(summary(c.after.Ask(q)), "\n")
	var out []string
	for i := range c.out.Objects {
		if strings.Join(summary(c.alone(i).Ask(q)), "\n") == after {
			out = append(out, c.out.Objects[i].Object.String())
		}
	}
	return strings.Join(out, " or ")
}

// alone is the state before with one change.
func (c *comparison) alone(i int) *simulate.World {
	if c.alones[i] == nil {
		b := config.NewBuilder(c.before.Mesh)
		c.out.Objects[i].apply(b)
		c.alones[i] = c.before.With(b.Mesh())
	}
	return c.alones[i]
}
