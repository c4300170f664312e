package meshtest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// Covered is one route or rule of the configuration and how many cases it
// decided.
type Covered struct {
	Object config.Key `json:"object"`
	Field  string     `json:"field"`          // spec.http[0], spec.rules[1]
	Name   string     `json:"name,omitempty"` // the route's
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

// Cover counts what the results reached: the routes of VirtualServices, and
// the rules of AuthorizationPolicies.
func Cover(m *config.Mesh, results []*Result) *Coverage {
	c := &Coverage{}
	at := map[string]int{} // place -> index
	add := func(meta *config.Meta, field, name string) {
		item := Covered{Object: meta.Key, Field: field, Name: name, File: meta.File, Line: meta.LineOf(field)}
		at[placeOf(meta.Key, meta.LineOf(field), field)] = len(c.Items)
		c.Items = append(c.Items, item)
	}
	for vs := range m.VirtualServices.All() {
		for i, r := range vs.Spec.GetHttp() {
			if r.GetDelegate() == nil {
				add(&vs.Meta, fmt.Sprintf("spec.http[%d]", i), r.GetName())
			}
		}
	}
	for p := range m.AuthorizationPolicies.All() {
		for i := range p.Spec.GetRules() {
			add(&p.Meta, fmt.Sprintf("spec.rules[%d]", i), "")
		}
	}
	for _, r := range results {
		for place := range reachedBy(r) {
			if i, ok := at[place]; ok {
				c.Items[i].Cases++
			}
		}
	}
	slices.SortStableFunc(c.Items, func(a, b Covered) int {
		if n := strings.Compare(a.File, b.File); n != 0 {
			return n
		}
		return a.Line - b.Line
	})
	return c
}

// placeOf names an item: by line where it is in a file, or else by field.
func placeOf(o config.Key, line int, field string) string {
	if line > 0 {
		field = ""
	}
	return fmt.Sprintf("%s:%d:%s", o, line, field)
}

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
	if h.Route != nil && h.Route.Source != nil {
		out[placeOf(h.Route.Source.Object, h.Route.Source.Line, "")] = true
	}
	for i := range h.Filters {
		v := &h.Filters[i]
		if m := ruleOfPolicy.FindStringSubmatch(v.Rule); m != nil && v.Source != nil {
			out[placeOf(v.Source.Object, v.Source.Line, "spec.rules["+m[3]+"]")] = true
		}
	}
	for i := range h.To {
		for j := range h.To[i].Endpoints {
			reachedHops(h.To[i].Endpoints[j].Server, out, seen)
		}
	}
}

// Annotate is a file's text with the number of cases before each line that
// holds a route or a rule, and a mark where there are none.
func (c *Coverage) Annotate(file, text string) string {
	counts := map[int]int{}
	for _, i := range c.Items {
		if i.File == file {
			counts[i.Line] = i.Cases
		}
	}
	var b strings.Builder
	n := 0
	for line := range strings.Lines(text) {
		n++
		mark := "      "
		if cases, ok := counts[n]; ok && cases == 0 {
			mark = "!!!!! "
		} else if ok {
			mark = fmt.Sprintf("%5d ", cases)
		}
		b.WriteString(mark + line)
	}
	return b.String()
}
