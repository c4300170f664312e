package meshtest

import (
	"fmt"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// Between are the states between two configurations.
type Between struct {
	// Changed are all objects that differ.
	Changed []ObjectChange
	// With is the state before with some of the changes applied, as a cluster
	// would make it.
	With func(applied []config.Key) *config.Mesh
}

// Order is in which order changes can be applied one by one without a request
// that fails in between and neither before nor after.
type Order struct {
	// Any: every order is safe.
	Any bool `json:"any"`
	// Steps are an order that is safe. If Stuck is not empty, they are the
	// longest beginning of one that was found.
	Steps []Step `json:"steps"`
	// Stuck: whichever of these comes after Steps makes requests fail.
	Stuck []Step `json:"stuck,omitempty"`
	// Partly: more orders exist than were tried.
	Partly bool `json:"partly,omitempty"`
	// AnyTime are changes that no proxy is told of.
	AnyTime []config.Key `json:"anyTime,omitempty"`
	// Danger is what another order does wrong.
	Danger string `json:"danger,omitempty"`
	// Witness is a request that fails then.
	Witness string `json:"witness,omitempty"`
}

// Step is one change to apply.
type Step struct {
	Object config.Key `json:"object"`
	Change string     `json:"change"` // added, removed or changed
	// Wait: its pods must be ready before the next step.
	Wait bool `json:"wait,omitempty"`
	// After are the steps that must come before this one.
	After []Need `json:"after,omitempty"`
	// Why says what fails with a step that is stuck; Witness is a request.
	Why     string `json:"why,omitempty"`
	Witness string `json:"witness,omitempty"`
}

// Need is a step that another one needs, with what fails otherwise.
type Need struct {
	Object  config.Key `json:"object"`
	Why     string     `json:"why"`
	Witness string     `json:"witness,omitempty"`
}

const (
	// maxOrdered bounds the changes for which every order is tried.
	maxOrdered = 6
	// maxVisited bounds the states that are tried to find one order.
	maxVisited = 200
	// maxReasoned bounds the changes of an order whose reasons are looked for.
	maxReasoned = 16
)

// SafeOrder tries the states between two configurations with the requests of
// a Difference.
func SafeOrder(d *Difference, before, after *simulate.World, b Between) *Order {
	o := newOrdering(d, before, after, b)
	out := &Order{Steps: []Step{}, AnyTime: o.without}
	n := len(o.changes)
	if out.Any = n <= maxOrdered; !out.Any {
		out.Danger = fmt.Sprintf("%d changes have more orders than are tried", n)
	}
	for set := uint(1); out.Any && set < 1<<n-1; set++ {
		applied := make(subset, n)
		for i := range applied {
			applied[i] = set&(1<<i) != 0
		}
		if f := o.fails(applied); f != nil {
			out.Any, out.Danger, out.Witness = false, "with only "+o.names(applied)+" applied, "+f.why, f.witness
		}
	}
	if out.Any {
		for i := range n {
			out.Steps = append(out.Steps, o.step(i))
		}
		return out
	}
	o.budget = maxVisited
	path, found := o.search(make(subset, n), nil)
	if !found {
		out.Partly = o.budget <= 0
		path = o.longest
	}
	for i := range path {
		out.Steps = append(out.Steps, o.reasoned(path[:i+1]))
	}
	if !found {
		out.Stuck = o.stuck(path)
	}
	return out
}

// subset says which changes are applied.
type subset []bool

func (s subset) String() string { return fmt.Sprint([]bool(s)) }

func (s subset) with(i int, applied bool) subset {
	out := append(subset(nil), s...)
	out[i] = applied
	return out
}

func (s subset) all() bool {
	for _, applied := range s {
		if !applied {
			return false
		}
	}
	return true
}

// failure is what goes wrong in a state.
type failure struct{ why, witness string }

type ordering struct {
	before  *simulate.World
	with    func(applied []config.Key) *config.Mesh
	changes []ObjectChange // those that matter, in the order in which they are tried first
	without []config.Key   // those that do not
	// secrets are those that come or go: proxies cannot have them all the time.
	secrets map[config.Key]bool
	reached map[socket]bool
	queries []expected
	known   map[string]*failure
	visited map[string]bool // by search
	budget  int
	longest []int
}

// expected is a request and the worst end of it before and after.
type expected struct {
	*simulate.Query
	worst ending
}

func newOrdering(d *Difference, before, after *simulate.World, b Between) *ordering {
	o := &ordering{before: before, with: b.With, secrets: map[config.Key]bool{}, reached: map[socket]bool{}, known: map[string]*failure{}, visited: map[string]bool{}}
	for _, c := range b.Changed {
		if c.Object.Kind == "Secret" || c.Object.Kind == "ConfigMap" {
			o.secrets[c.Object] = true
		}
	}
	changed := b.Changed
	before, after = before.With(before.Mesh).Expecting(o.secrets), before.With(after.Mesh).Expecting(o.secrets)
	for _, q := range d.queries {
		a, err := before.Ask(q)
		if err != nil {
			continue
		}
		b, err := after.Ask(q)
		if err != nil {
			continue
		}
		o.reach(a, false)
		o.reach(b, true)
		if worst := max(endOf(a), endOf(b)); worst < endsFailed {
			o.queries = append(o.queries, expected{q, worst})
		}
	}
	o.sort(changed)
	return o
}

// search finds an order depth first; the first change of those that can come
// next is tried first.
func (o *ordering) search(applied subset, path []int) ([]int, bool) {
	if len(path) > len(o.longest) {
		o.longest = append([]int(nil), path...)
	}
	if applied.all() {
		return path, true
	}
	for i := range o.changes {
		if applied[i] || o.blocked(i, applied) != nil {
			continue
		}
		next := applied.with(i, true)
		if o.visited[next.String()] {
			continue // it failed, or nothing came of it
		}
		o.visited[next.String()] = true
		if o.budget--; o.budget < 0 {
			return nil, false
		}
		if o.fails(next) != nil {
			continue
		}
		if out, ok := o.search(next, append(append([]int(nil), path...), i)); ok {
			return out, true
		}
	}
	return nil, false
}

// fails says what goes wrong when exactly some changes are applied; nil if
// nothing does.
func (o *ordering) fails(applied subset) *failure {
	key := applied.String()
	if f, known := o.known[key]; known {
		return f
	}
	f := o.tried(applied)
	o.known[key] = f
	return f
}

func (o *ordering) tried(applied subset) *failure {
	var keys []config.Key
	for i := range o.changes {
		if !applied[i] {
			continue
		}
		if f := o.blocked(i, applied); f != nil {
			return f
		}
		keys = append(keys, o.changes[i].Object)
	}
	if len(keys) == 0 || applied.all() {
		return nil
	}
	w := o.before.With(o.with(keys)).Expecting(o.secrets)
	for _, q := range o.queries {
		a, err := w.Ask(q.Query)
		if err != nil {
			return &failure{"it cannot be asked: " + err.Error(), q.String()}
		}
		if endOf(a) > q.worst {
			return &failure{"a request that works before and after fails: " + strings.Join(ends(a), ", "), q.String()}
		}
		if why := o.deaf(a, applied); why != "" {
			return &failure{why, q.String()}
		}
	}
	return nil
}

func (o *ordering) names(applied subset) string {
	var out []string
	for i := range o.changes {
		if applied[i] {
			out = append(out, o.changes[i].Object.String())
		}
	}
	return strings.Join(out, ", ")
}

func (o *ordering) step(i int) Step {
	c := &o.changes[i]
	return Step{Object: c.Object, Change: c.Change, Wait: c.Change != "removed" && makesPods(c.Object)}
}

// reasoned is the last step of a path, with those that must come before it.
func (o *ordering) reasoned(path []int) Step {
	last := len(path) - 1
	out := o.step(path[last])
	if len(o.changes) > maxReasoned {
		return out
	}
	applied := make(subset, len(o.changes))
	for _, i := range path[:last] {
		applied[i] = true
	}
	for j := last - 1; j >= 0; j-- {
		without := applied.with(path[j], false)
		if o.fails(without) != nil {
			continue // a step between needs it
		}
		if f := o.fails(without.with(path[last], true)); f != nil {
			out.After = append(out.After, Need{o.changes[path[j]].Object, f.why, f.witness})
		}
	}
	return out
}

// stuck are the changes that could come next, with what fails with each.
func (o *ordering) stuck(path []int) []Step {
	applied := make(subset, len(o.changes))
	for _, i := range path {
		applied[i] = true
	}
	var out []Step
	for i := range o.changes {
		if applied[i] {
			continue
		}
		s := o.step(i)
		if f := o.fails(applied.with(i, true)); f != nil {
			s.Why, s.Witness = f.why, f.witness
		} else {
			s.Why = "every order of the steps after it fails"
		}
		out = append(out, s)
	}
	return out
}
