package meshtest

import (
	"fmt"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// Order is in which order changes can be applied one by one without a request
// that fails in between and neither before nor after.
type Order struct {
	// Any: every order is safe. Otherwise Steps is one that is, or is empty
	// if none was found.
	Any   bool         `json:"any"`
	Steps []config.Key `json:"steps"`
	// Untried are changes beside, whose place in the order is not known.
	Untried []config.Key `json:"untried,omitempty"`
	// Danger is what another order does wrong, or why there is no safe one.
	Danger string `json:"danger,omitempty"`
	// Witness is a request that fails then.
	Witness string `json:"witness,omitempty"`
}

// maxOrdered bounds the changes for which every order is tried.
const maxOrdered = 6

// SafeOrder tries the states between two configurations with the requests of
// a Difference.
func SafeOrder(d *Difference, before, after *simulate.World) *Order {
	o := &ordering{d: d, before: before, after: after, bad: map[uint64]string{}, witness: map[uint64]string{}}
	for _, q := range d.queries {
		if a, err := before.Ask(q); err == nil && works(a) {
			if b, err := after.Ask(q); err == nil && works(b) {
				o.queries = append(o.queries, q)
			}
		}
	}
	out := &Order{Any: true, Steps: []config.Key{}}
	n := len(d.Objects)
	if n <= maxOrdered {
		for set := uint64(1); set < 1<<n-1; set++ {
			if why := o.fails(set); why != "" {
				out.Any, out.Danger, out.Witness = false, why, o.witness[set]
				break
			}
		}
	} else {
		out.Any = false
		out.Danger = fmt.Sprintf("%d changes have more orders than are tried", n)
	}
	if others := notOrdered(before.Mesh, after.Mesh); len(others) > 0 && n+len(others) > 1 {
		out.Any, out.Untried = false, others
		if out.Danger == "" {
			out.Danger = changeList(others) + " too, and in which place of the order is not tried"
		}
	}
	path, ok := o.search(0, nil)
	if !ok {
		out.Any, out.Steps = false, nil
		return out
	}
	for _, i := range path {
		out.Steps = append(out.Steps, d.Objects[i].Object)
	}
	return out
}

// changeList names a few changes.
func changeList(keys []config.Key) string {
	const few = 3
	var names []string
	for _, k := range keys[:min(few, len(keys))] {
		names = append(names, k.String())
	}
	text := strings.Join(names, ", ")
	if len(keys) > few {
		text += fmt.Sprintf(" and %d more", len(keys)-few)
	}
	if len(keys) == 1 {
		return text + " changes"
	}
	return text + " change"
}

type ordering struct {
	d             *Difference
	before, after *simulate.World
	queries       []*simulate.Query
	bad           map[uint64]string // by set of applied changes
	witness       map[uint64]string
	visited       int
}

// maxVisited bounds the states that are tried.
const maxVisited = 200

// search finds an order depth first.
func (o *ordering) search(set uint64, path []int) ([]int, bool) {
	n := len(o.d.Objects)
	if len(path) == n {
		return path, true
	}
	if o.visited++; o.visited > maxVisited {
		return nil, false
	}
	for i := range n {
		next := set | 1<<i
		if next == set || next != 1<<n-1 && o.fails(next) != "" {
			continue
		}
		if out, ok := o.search(next, append(append([]int(nil), path...), i)); ok {
			return out, true
		}
	}
	return nil, false
}

// fails says what goes wrong when exactly a set of changes is applied, or "".
func (o *ordering) fails(set uint64) string {
	if why, known := o.bad[set]; known {
		return why
	}
	b := config.NewBuilder(o.before.Mesh)
	names := ""
	for i := range o.d.Objects {
		if set&(1<<i) != 0 {
			o.d.Objects[i].apply(b)
			names += ", " + o.d.Objects[i].Object.String()
		}
	}
	w := o.before.With(b.Mesh())
	why := ""
	for _, q := range o.queries {
		if a, err := w.Ask(q); err != nil || !works(a) {
			why = fmt.Sprintf("with only %s applied, a request that works before and after fails: %s", names[2:], strings.Join(summary(a, err), ", "))
			o.witness[set] = q.String()
			break
		}
	}
	o.bad[set] = why
	return why
}

// works reports whether no share of the requests fails.
func works(a *simulate.Answer) bool {
	for i := range a.Results {
		r := &a.Results[i]
		if !r.Delivered && (r.Status == 0 || r.Status >= 500) {
			return false
		}
	}
	return true
}
