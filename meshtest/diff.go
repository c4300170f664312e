package meshtest

import (
	"fmt"
	"regexp"
	"slices"
	"sort"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/simulate"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// Difference is what two configurations do differently.
type Difference struct {
	// Objects that were added, removed or changed.
	Objects []ObjectChange `json:"objects"`
	// Proxies that are sent other resources, by workload.
	Proxies []ProxyChange `json:"proxies"`
	// Same is the number of workloads whose proxies are sent the very same.
	Same int `json:"sameProxies"`
	// Requests that are answered differently, grouped by cause.
	Requests []RequestChange `json:"requests"`
	// Tried is the number of requests that were compared.
	Tried int `json:"tried"`
	// Others is the number of hosts of services for which no resource differs,
	// anywhere: requests to them are answered the same.
	Others int `json:"unchangedHosts"`
	// Unknown are constructs that may answer differently unseen.
	Unknown []string `json:"unknown,omitempty"`

	queries []*simulate.Query // that were compared
}

// ObjectChange is one object that differs.
type ObjectChange struct {
	Object config.Key `json:"object"`
	Change string     `json:"change"` // added, removed or changed
	File   string     `json:"file,omitempty"`
	Line   int        `json:"line,omitempty"`

	apply func(*config.Builder)
}

// ProxyChange is what a workload's proxies are sent differently.
type ProxyChange struct {
	Workload  string   `json:"workload"`
	Change    string   `json:"change"` // added, removed or changed
	Resources []string `json:"resources,omitempty"`
}

// RequestChange is a group of requests that change for one cause.
type RequestChange struct {
	Before string `json:"before"`
	After  string `json:"after"`
	// Cause is what decides; Change the object whose change made it decide
	// otherwise, if it is another one.
	Cause   string `json:"cause"`
	Change  string `json:"change,omitempty"`
	Witness string `json:"witness"`
	Count   int    `json:"count"` // of the tried ones
	// Clients are the workloads that see it.
	Clients []string `json:"clients"`
}

// Empty reports that nothing differs.
func (d *Difference) Empty() bool {
	return len(d.Objects)+len(d.Proxies)+len(d.Requests) == 0
}

// Diff compares two configurations: what proxies are sent, and what happens
// to the requests that either of them tells apart.
func Diff(before, after *simulate.World) *Difference {
	d := &Difference{Objects: changedObjects(before.Mesh, after.Mesh), Proxies: []ProxyChange{}, Requests: []RequestChange{}}
	c := newComparison(before, after, d)
	c.proxies()
	c.services()
	c.requests()
	d.Others = c.others()
	for i := range d.Requests {
		slices.Sort(d.Requests[i].Clients)
	}
	sort.SliceStable(d.Requests, func(i, j int) bool { return d.Requests[i].Count > d.Requests[j].Count })
	return d
}

func newComparison(before, after *simulate.World, out *Difference) *comparison {
	return &comparison{
		before: before, after: after, out: out,
		groups: map[string]int{}, hosts: map[string]bool{}, served: map[string]bool{},
		alones: map[int]*simulate.World{}, parts: map[[2]*simulate.Part][]string{},
		alike: map[string][]string{}, listed: map[listing]bool{},
	}
}

// services notes the hosts that only one of the configurations has.
func (c *comparison) services() {
	for _, pair := range [][2]*simulate.World{{c.before, c.after}, {c.after, c.before}} {
		for s := range pair[0].Mesh.Services.All() {
			if _, both := pair[1].Mesh.Services.Get(s.Namespace, s.Hostname); !both {
				c.hosts[s.Hostname] = true
			}
		}
	}
}

// others counts the hosts about which nothing differs, for any client: where
// clients come or go, or more than hosts differs, there is none to be sure of.
func (c *comparison) others() int {
	n := 0
	for s := range c.after.Mesh.Services.All() {
		if !c.hosts[s.Hostname] {
			n++
		}
	}
	if c.everything || slices.ContainsFunc(c.out.Proxies, func(p ProxyChange) bool { return p.Change != "changed" }) {
		return 0
	}
	return n
}

type comparison struct {
	before, after *simulate.World
	out           *Difference
	groups        map[string]int // key -> index of out.Requests
	// hosts are those whose resources differ somewhere; everything if other
	// resources than a host's do.
	hosts      map[string]bool
	everything bool
	// served are the hosts whose servers take connections differently.
	served map[string]bool
	alones map[int]*simulate.World // by index of out.Objects
	// clients are workloads, one of each class that is sent something else.
	clients []string
	// alike are the workloads of which nothing tells one from the other when it
	// is a client: by the first one, all of them.
	alike map[string][]string
	// listed has the groups of requests that name a client and those like it.
	listed map[listing]bool
	// gateways whose resources differ.
	gateways []string
	// parts remembers what differs between two parts, which many pods share.
	parts map[[2]*simulate.Part][]string
}

type listing struct {
	group  int
	client string
}

// proxies compares what each workload's proxy is sent.
func (c *comparison) proxies() {
	was := podsByName(c.before)
	now := podsByName(c.after)
	classes := c.classes()
	told := map[string]bool{} // classes of clients
	for _, name := range sortedKeys(merged(was, now)) {
		a, b := was[name], now[name]
		switch {
		case a == nil:
			c.out.Proxies = append(c.out.Proxies, ProxyChange{Workload: name, Change: "added"})
			continue
		case b == nil:
			c.out.Proxies = append(c.out.Proxies, ProxyChange{Workload: name, Change: "removed"})
			continue
		}
		list := c.resources(a, b)
		if len(list) == 0 {
			c.out.Same++
			continue
		}
		c.out.Proxies = append(c.out.Proxies, ProxyChange{Workload: name, Change: "changed", Resources: list})
		first := classes[name]
		if b.Role == config.GatewayPod {
			c.gateways = append(c.gateways, name)
		} else if !told[first] && c.isOtherClient(a, b) {
			told[first] = true
			c.clients = append(c.clients, first)
		}
	}
}

func merged[T any](a, b map[string]T) map[string]T {
	out := map[string]T{}
	for k, v := range a {
		out[k] = v
	}
	for k, v := range b {
		out[k] = v
	}
	return out
}

func podsByName(w *simulate.World) map[string]*simulate.Pod {
	w.Prepare()
	out := map[string]*simulate.Pod{}
	for _, p := range w.Pods() {
		if out[p.Name()] == nil && w.Config(p) != nil {
			out[p.Name()] = p
		}
	}
	return out
}

// resources names those that differ, and notes the hosts that they are about.
func (c *comparison) resources(a, b *simulate.Pod) []string {
	was, now := c.before.Config(a).Parts(), c.after.Config(b).Parts()
	var out []string
	for i := range min(len(was), len(now)) {
		pair := [2]*simulate.Part{was[i], now[i]}
		list, known := c.parts[pair]
		if !known {
			list = c.partDiff(was[i], now[i], a, b)
			c.parts[pair] = list
		}
		out = append(out, list...)
	}
	return out
}

func (c *comparison) partDiff(was, now *simulate.Part, a, b *simulate.Pod) []string {
	var out []string
	for _, kind := range []struct {
		name string
		of   func(*translate.Resources) *translate.Set
	}{
		{"cluster", func(r *translate.Resources) *translate.Set { return r.Clusters }},
		{"listener", func(r *translate.Resources) *translate.Set { return r.Listeners }},
		{"route", func(r *translate.Resources) *translate.Set { return r.Routes }},
	} {
		old, new := kind.of(was.Resources()), kind.of(now.Resources())
		if old.Hash() == new.Hash() {
			continue
		}
		before, after := versions(old), versions(new)
		for _, n := range sortedKeys(merged(before, after)) {
			if before[n] != after[n] {
				out = append(out, kind.name+" "+n)
				c.concerns(kind.name, n, a, b)
			}
		}
	}
	before, after := c.before.Assigned(was), c.after.Assigned(now)
	for _, n := range sortedKeys(before) {
		if v, ok := after[n]; ok && v != before[n] {
			out = append(out, "endpoints "+n)
			c.concerns("cluster", n, a, b)
		}
	}
	return out
}

func versions(s *translate.Set) map[string]config.Hash {
	out := make(map[string]config.Hash, s.Len())
	for _, r := range s.Items() {
		out[r.Name] = r.Version
	}
	return out
}

// concerns notes which hosts a resource is about.
func (c *comparison) concerns(kind, name string, a, b *simulate.Pod) {
	if kind == "cluster" {
		if _, _, _, host, ok := translate.ParseCluster(name); ok && host != "" {
			c.hosts[host] = true
		}
		return
	}
	if kind == "route" {
		for _, h := range simulate.ChangedHosts(c.before.Config(a), c.after.Config(b), name) {
			c.hosts[h] = true
		}
		return
	}
	if name == translate.VirtualInboundListener {
		for _, w := range []*simulate.World{c.before, c.after} {
			for _, h := range w.ServedBy(b) {
				c.hosts[h], c.served[h] = true, true
			}
		}
		return
	}
	c.everything = true
}

func (c *comparison) targets() []simulate.Target {
	seen := map[string]bool{}
	var out []simulate.Target
	for _, w := range []*simulate.World{c.after, c.before} {
		for _, t := range w.Targets("", "") {
			if (c.everything || c.hosts[t.Service.Hostname]) && !seen[t.String()] {
				seen[t.String()] = true
				out = append(out, t)
			}
		}
	}
	return out
}

func (c *comparison) explored(from string, to simulate.Target) []*simulate.Query {
	seen := map[string]bool{}
	var out []*simulate.Query
	for _, q := range slices.Concat(c.before.Explore(from, to), c.after.Explore(from, to)) {
		if s := q.String(); !seen[s] {
			seen[s] = true
			out = append(out, q)
		}
	}
	return out
}

// compare asks both and groups what differs by cause.
func (c *comparison) compare(q *simulate.Query) {
	a, errA := c.before.Ask(q)
	b, errB := c.after.Ask(q)
	c.out.Tried++
	c.out.queries = append(c.out.queries, q)
	was, now := different(summary(a, errA), summary(b, errB))
	if a != nil && b != nil {
		for _, u := range b.Unknown {
			if !slices.Contains(c.out.Unknown, u) {
				c.out.Unknown = append(c.out.Unknown, u)
			}
		}
	}
	if toClient(was) == toClient(now) {
		return
	}
	cause := c.cause(a, b)
	key := was + "\n" + now + "\n" + cause
	i, ok := c.groups[key]
	if !ok {
		i = len(c.out.Requests)
		c.groups[key] = i
		made := RequestChange{Before: was, After: now, Cause: cause, Witness: q.String()}
		made.Change = c.changesOf(&made, q)
		c.out.Requests = append(c.out.Requests, made)
	}
	g := &c.out.Requests[i]
	g.Count++
	if at := (listing{i, q.From}); !c.listed[at] {
		c.listed[at] = true
		g.Clients = append(g.Clients, c.alikeTo(q.From)...)
	}
}

// alikeTo are those that are answered what one client is.
func (c *comparison) alikeTo(client string) []string {
	if all := c.alike[client]; all != nil {
		return all
	}
	return []string{client}
}

// notFound is why nothing was found, which the client is not told.
var notFound = regexp.MustCompile(`404: [^,]*`)

func toClient(summary string) string { return notFound.ReplaceAllString(summary, "404") }

// cause names the decisions that differ.
func (c *comparison) cause(a, b *simulate.Answer) string {
	was, now := decidedBy(a), decidedBy(b)
	if was == now {
		return now
	}
	switch {
	case was == "":
		return now
	case now == "":
		return "no longer " + was
	}
	return now + ", before " + was
}

func decidedBy(a *simulate.Answer) string {
	if a == nil {
		return ""
	}
	route := a.Hop.Route.Written()
	for i := range a.Results {
		if r := &a.Results[i]; !r.Delivered && r.Source != nil && (route == nil || r.Source.Object != route.Object) {
			return r.Source.Object.String()
		}
	}
	if route != nil {
		return fmt.Sprintf("%s route %s", route.Object, a.Hop.Route.Name)
	}
	if s := a.Hop.HostSource(); s != nil {
		return s.Object.String()
	}
	return ""
}
