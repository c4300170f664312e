package meshtest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	security "istio.io/api/security/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// Covered is one match, route, policy or rule of the configuration and how many
// cases it decided.
type Covered struct {
	Object config.Key `json:"object"`
	Field  string     `json:"field"`          // spec.http[0], spec.http[0].match[1], spec.rules[1]
	Name   string     `json:"name,omitempty"` // the route's, or what is meant
	File   string     `json:"file,omitempty"`
	Line   int        `json:"line,omitempty"`
	Cases  int        `json:"cases"`
}

// Coverage is what the cases of a run reached.
type Coverage struct {
	Items []Covered `json:"items"`
}

// Percent of the items that some case reached; 100 without any.
func (c *Coverage) Percent() float64 {
	if len(c.Items) == 0 {
		return 100
	}
	n := 0
	for _, i := range c.Items {
		if i.Cases > 0 {
			n++
		}
	}
	return 100 * float64(n) / float64(len(c.Items))
}

// Cover counts what the results reached: the routes of VirtualServices and the
// matches of routes that have several, their TCP and TLS routes as one each,
// the rules of AuthorizationPolicies, and that one which allows something keeps
// out the rest. Routes that are in no file are left out: nothing tells them
// apart.
func Cover(m *config.Mesh, results []*Result) *Coverage {
	c := &covering{out: &Coverage{}, at: map[string]int{}}
	for vs := range m.VirtualServices.All() {
		c.routes(vs)
	}
	for p := range m.AuthorizationPolicies.All() {
		c.policy(p)
	}
	for _, r := range results {
		for place := range reachedBy(r) {
			if i, ok := c.at[place]; ok {
				c.out.Items[i].Cases++
			}
		}
	}
	slices.SortStableFunc(c.out.Items, func(a, b Covered) int {
		if n := strings.Compare(a.File, b.File); n != 0 {
			return n
		}
		return a.Line - b.Line
	})
	return c.out
}

// covering gathers what there is to reach.
type covering struct {
	out *Coverage
	at  map[string]int // place -> index of out.Items
}

func (c *covering) add(meta *config.Meta, field, name, place string) {
	c.at[placeOf(meta.Key, place)] = len(c.out.Items)
	c.out.Items = append(c.out.Items, Covered{Object: meta.Key, Field: field, Name: name, File: meta.File, Line: meta.LineOf(field)})
}

func (c *covering) routes(vs *config.VirtualService) {
	for i, r := range vs.Spec.GetHttp() {
		if r.GetDelegate() != nil || vs.File == "" {
			continue
		}
		field := fmt.Sprintf("spec.http[%d]", i)
		place := linePlace(vs.LineOf(field))
		c.add(&vs.Meta, field, r.GetName(), place)
		if len(r.GetMatch()) < 2 {
			continue
		}
		for j, m := range r.GetMatch() {
			c.add(&vs.Meta, fmt.Sprintf("%s.match[%d]", field, j), m.GetName(), matchPlace(place, j))
		}
	}
	if len(vs.Spec.GetTcp()) > 0 {
		c.add(&vs.Meta, "spec.tcp", "", "connections")
	}
	if len(vs.Spec.GetTls()) > 0 {
		c.add(&vs.Meta, "spec.tls", "", "connections")
	}
}

func (c *covering) policy(p *config.AuthorizationPolicy) {
	if p.Spec.GetAction() == security.AuthorizationPolicy_ALLOW {
		c.add(&p.Meta, "spec", "what it does not allow", "denial")
	}
	for i := range p.Spec.GetRules() {
		field := fmt.Sprintf("spec.rules[%d]", i)
		c.add(&p.Meta, field, "", field)
	}
}

// placeOf names an item: routes by the line that Envoy's configuration tells.
func placeOf(o config.Key, place string) string { return o.String() + " " + place }

func linePlace(line int) string { return fmt.Sprintf("line %d", line) }

func matchPlace(route string, match int) string { return fmt.Sprintf("%s match %d", route, match) }

func reachedBy(r *Result) map[string]bool {
	out := map[string]bool{}
	for _, a := range r.answers {
		reachedHops(a.Hop, out, map[*simulate.Hop]bool{})
	}
	return out
}

var ruleOfPolicy = regexp.MustCompile(`^(?:.*-)?ns\[([^\]]*)\]-policy\[([^\]]*)\]-rule\[(\d+)\]$`)

func reachedHops(h *simulate.Hop, out map[string]bool, seen map[*simulate.Hop]bool) {
	if h == nil || seen[h] {
		return
	}
	seen[h] = true
	if s := h.Route.Written(); s != nil {
		place := linePlace(s.Line)
		out[placeOf(s.Object, place)] = true
		if s.Match != nil {
			out[placeOf(s.Object, matchPlace(place, *s.Match))] = true
		}
	} else if h.Chain != nil && h.Chain.Source != nil && h.RouteTable == "" {
		out[placeOf(h.Chain.Source.Object, "connections")] = true
	}
	for i := range h.Filters {
		reachedPolicies(&h.Filters[i], out)
	}
	for i := range h.To {
		for j := range h.To[i].Endpoints {
			reachedHops(h.To[i].Endpoints[j].Server, out, seen)
		}
	}
}

// reachedPolicies notes the rule that decided, or all policies that allowed
// something else.
func reachedPolicies(v *simulate.Verdict, out map[string]bool) {
	if m := ruleOfPolicy.FindStringSubmatch(v.Rule); m != nil && v.Source != nil {
		out[placeOf(v.Source.Object, "spec.rules["+m[3]+"]")] = true
	}
	if v.Allowed || v.Rule != "" {
		return
	}
	for _, p := range v.Passed {
		if p.Source != nil {
			out[placeOf(p.Source.Object, "denial")] = true
		}
	}
}

// Files are those that hold items, sorted.
func (c *Coverage) Files() []string {
	var out []string
	for _, i := range c.Items {
		if i.File != "" {
			out = append(out, i.File)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// AnnotatedLine is one line of a file. Cases is the number of cases that reach
// the match, route, policy or rule on it, of several that of the one with the
// fewest; -1 for a line without one.
type AnnotatedLine struct {
	Cases int
	Text  string
}

// Annotate is a text of a file with the number of cases that reach each line.
// above are the lines of the file before the text.
func (c *Coverage) Annotate(file string, above int, text string) []AnnotatedLine {
	counts := map[int]int{}
	for _, i := range c.Items {
		if n, ok := counts[i.Line]; i.File == file && (!ok || i.Cases < n) {
			counts[i.Line] = i.Cases
		}
	}
	var out []AnnotatedLine
	for line := range strings.Lines(text) {
		cases, ok := counts[above+len(out)+1]
		if !ok {
			cases = -1
		}
		out = append(out, AnnotatedLine{cases, strings.TrimRight(line, "\r\n")})
	}
	return out
}
