package report

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// Calls is who may call whom: each gateway and workload against each port of a
// service.
type Calls struct {
	Services []string
	Clients  []Client
	// Left are the pairs that are not shown, since there are too many, and
	// LeftGateways the gateways.
	Left, LeftGateways int
	// Changed are those that a change makes otherwise.
	Changed []ChangedCall
}

// Client is one row.
type Client struct {
	Name    string
	Gateway bool
	Partly  bool   // it has more routes than are asked about
	To      []Call // in the order of Services
}

// Call is what happens to a client's requests to a service.
type Call struct {
	Service string
	// Kind is mtls, tls, plaintext, some (rules let in some requests only),
	// denied or unreachable.
	Kind string
	Text string
	Why  string // an example
	// Mode is how the connection is secured, one of simulate's; of several the
	// weakest.
	Mode string
	// Reasons are the objects that route the requests and let them in or not.
	Reasons []string
}

// What is asked about at most.
const (
	maxPairs    = 600
	maxServices = 40
	maxGateways = 10
	// maxRequests of one pair.
	maxRequests = 40
)

// CallsOf asks for each client and service whether requests get there, by which
// connection, and whether policies let them in.
func CallsOf(w *simulate.World) *Calls {
	out := &Calls{}
	targets := w.Targets("", "")
	shown := spread(targets, maxServices, func(t simulate.Target) string { return t.Service.Namespace })
	for _, t := range shown {
		out.Services = append(out.Services, t.String())
	}
	gateways := w.Gateways()
	slices.Sort(gateways)
	for _, g := range gateways[:min(len(gateways), maxGateways)] {
		out.Clients = append(out.Clients, behind(w, g, shown))
	}
	out.LeftGateways = max(0, len(gateways)-maxGateways)
	all := w.Clients("", "")
	clients := spread(all, maxPairs/max(1, len(shown)), func(name string) string { return namespaceOf(name) })
	for _, from := range clients {
		row := Client{Name: from}
		for _, to := range shown {
			row.To = append(row.To, callOf(w, from, to))
		}
		out.Clients = append(out.Clients, row)
	}
	out.Left = len(all)*len(targets) - len(clients)*len(shown)
	return out
}

func namespaceOf(workload string) string {
	ns, _, _ := strings.Cut(workload, "/")
	return ns
}

// spread takes at most n of a list, as evenly from every namespace as there
// are, in the list's order.
func spread[T any](list []T, n int, namespace func(T) string) []T {
	if len(list) <= n {
		return list
	}
	taken, rounds := make([]bool, len(list)), map[string]int{}
	order := make([]int, len(list)) // the how-manieth of its namespace
	for i, v := range list {
		order[i] = rounds[namespace(v)]
		rounds[namespace(v)]++
	}
	for round, left := 0, n; left > 0; round++ {
		for i := range list {
			if order[i] == round && left > 0 {
				taken[i] = true
				left--
			}
		}
	}
	var out []T
	for i, v := range list {
		if taken[i] {
			out = append(out, v)
		}
	}
	return out
}

func callOf(w *simulate.World, from string, to simulate.Target) Call {
	var t tally
	for i, q := range w.Explore(from, to) {
		if i == maxRequests {
			break
		}
		a, err := w.Ask(q)
		if err != nil {
			t.why = err.Error()
			continue
		}
		t.answer(a)
		for j := range a.Results {
			t.result(q, &a.Results[j])
		}
	}
	c := t.call()
	c.Service = to.String()
	return c
}

// behind is what a gateway's routes lead to.
func behind(w *simulate.World, gateway string, shown []simulate.Target) Client {
	row := Client{Name: gateway, Gateway: true}
	queries, all := w.ExploreBehind(gateway)
	row.Partly = !all
	missing := Call{Kind: "unreachable", Text: "no", Why: "no route of the gateway leads there"}
	if row.Partly {
		missing.Text, missing.Why = "?", "none of the routes that were asked about leads there"
	}
	tallies := map[string]*tally{}
	hosts := map[string]map[*tally]bool{} // what a virtual host leads to
	type refusal struct {
		host   string
		query  *simulate.Query
		result *simulate.Result
	}
	var refused []refusal // by the gateway itself
	for _, q := range queries {
		a, err := w.Ask(q)
		if err != nil {
			continue
		}
		host := ""
		if a.Hop.VirtualHost != nil {
			host = a.Hop.VirtualHost.Name
		}
		if hosts[host] == nil {
			hosts[host] = map[*tally]bool{}
		}
		for j := range a.Results {
			r := &a.Results[j]
			key := serviceOf(r.Cluster)
			if key == "" {
				if isDenied(r) {
					refused = append(refused, refusal{host, q, r})
				}
				continue
			}
			t := tallies[key]
			if t == nil {
				t = &tally{}
				tallies[key] = t
			}
			hosts[host][t] = true
			t.answer(a)
			t.result(q, r)
		}
	}
	for _, f := range refused {
		for t := range hosts[f.host] {
			t.result(f.query, f.result)
		}
		if len(hosts[f.host]) == 0 && !row.Partly {
			missing.Why = example(f.query, f.result)
		}
	}
	for _, to := range shown {
		call := missing
		if t := tallies[to.Service.Hostname+":"+strconv.Itoa(int(to.Port.Number))]; t != nil {
			call = t.call()
		}
		call.Service = to.String()
		row.To = append(row.To, call)
	}
	return row
}

// serviceOf is "host:port" of a cluster "outbound|port|subset|host", or empty.
func serviceOf(cluster string) string {
	if parts := strings.Split(cluster, "|"); len(parts) == 4 && strings.HasPrefix(parts[0], "outbound") {
		return parts[3] + ":" + parts[1]
	}
	return ""
}

// tally gathers what requests of one pair come to.
type tally struct {
	in, denied int
	modes      []string // of the connections of those that get there
	why        string
	reasons    []string
}

// answer takes up which objects decided.
func (t *tally) answer(a *simulate.Answer) {
	t.hop(a.Hop, map[*simulate.Hop]bool{})
}

func (t *tally) hop(h *simulate.Hop, seen map[*simulate.Hop]bool) {
	if h == nil || seen[h] {
		return
	}
	seen[h] = true
	t.because(h.Route.Written())
	t.because(h.Peers)
	for i := range h.Filters {
		if v := &h.Filters[i]; v.Rule != "" || !v.Allowed {
			t.because(v.Source)
		}
	}
	for i := range h.To {
		for j := range h.To[i].Endpoints {
			t.hop(h.To[i].Endpoints[j].Server, seen)
		}
	}
}

func (t *tally) because(s *simulate.Source) {
	if text := s.String(); text != "" && !slices.Contains(t.reasons, text) {
		t.reasons = append(t.reasons, text)
	}
}

func (t *tally) result(q *simulate.Query, r *simulate.Result) {
	switch {
	case r.Delivered:
		t.in++
		t.modes = append(t.modes, r.Security)
	case isDenied(r):
		t.denied++
		t.why = example(q, r)
		t.because(r.Source)
	case t.why == "":
		t.why = example(q, r)
	}
}

func isDenied(r *simulate.Result) bool {
	return !r.Delivered && (r.Status == 403 || r.Status == 401 || strings.HasPrefix(r.Reason, "RBAC: "))
}

func example(q *simulate.Query, r *simulate.Result) string {
	return "pilotfish ask " + q.String() + ": " + resultText(r)
}

func (t *tally) call() Call {
	c := Call{Why: t.why, Reasons: t.reasons}
	switch {
	case slices.Contains(t.modes, simulate.Plaintext):
		c.Mode = simulate.Plaintext
	case slices.Contains(t.modes, simulate.TLS):
		c.Mode = simulate.TLS
	case len(t.modes) > 0:
		c.Mode = simulate.MTLS
	}
	switch {
	case t.in == 0 && t.denied > 0:
		c.Kind, c.Text = "denied", "denied"
	case t.in == 0:
		c.Kind, c.Text = "unreachable", "no"
	case t.denied > 0:
		c.Kind, c.Text = "some", "some"
	case c.Mode == simulate.Plaintext:
		c.Kind, c.Text, c.Why = "plaintext", "plain", ""
	case c.Mode == simulate.TLS:
		c.Kind, c.Text, c.Why = "tls", "TLS", ""
	default:
		c.Kind, c.Text, c.Why = "mtls", "mTLS", ""
	}
	return c
}
