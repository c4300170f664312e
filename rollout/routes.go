package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

// destination is where a route sends a share of its requests.
type destination struct {
	Host, Subset string
	Weight       int64
}

// is reports whether a user's name for a version means the destination.
func (d destination) is(to string) bool {
	if d.Subset != "" {
		return d.Subset == to
	}
	short, _, _ := strings.Cut(d.Host, ".")
	return d.Host == to || short == to
}

// edit is one http rule that the rollout changes, with what it takes to undo
// that.
type edit struct {
	Rule   int    `json:"rule"` // its place in spec.http
	Name   string `json:"name,omitempty"`
	Route  []any  `json:"route"`  // as it was
	Target int    `json:"target"` // the new version's place in it; len(Route) if it is added
	// Destination is the new version's destination, as the API writes it.
	Destination map[string]any `json:"destination"`
}

// rule is an http rule as far as the choice of rules needs it.
type rule struct {
	index        int
	name         string
	destinations []destination
	target       int // of the new version; -1 if it has none
	mirrors      bool
	object       map[string]any
}

func readRules(http []any, to string) ([]rule, error) {
	var out []rule
	for i, item := range http {
		o, ok := item.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("spec.http[%d] is no object", i)
		}
		r := rule{index: i, target: -1, object: o}
		r.name, _ = o["name"].(string)
		r.mirrors = o["mirror"] != nil || o["mirrors"] != nil
		list, _ := o["route"].([]any)
		for j, entry := range list {
			d := readDestination(entry)
			if d.is(to) {
				if r.target >= 0 {
					return nil, fmt.Errorf("spec.http[%d]: two destinations are %q", i, to)
				}
				r.target = j
			}
			r.destinations = append(r.destinations, d)
		}
		if len(list) == 1 && r.destinations[0].Weight == 0 {
			r.destinations[0].Weight = 100 // the API's meaning of a lone destination
		}
		out = append(out, r)
	}
	return out, nil
}

func readDestination(entry any) (d destination) {
	e, _ := entry.(map[string]any)
	to, _ := e["destination"].(map[string]any)
	d.Host, _ = to["host"].(string)
	d.Subset, _ = to["subset"].(string)
	switch w := e["weight"].(type) {
	case int64:
		d.Weight = w
	case float64:
		d.Weight = int64(w)
	}
	return d
}

func (r *rule) oneHost() bool {
	for _, d := range r.destinations {
		if d.Host != r.destinations[0].Host {
			return false
		}
	}
	return len(r.destinations) > 0
}

// others is the weight of all that is not the new version.
func (r *rule) others() (sum int64) {
	for i, d := range r.destinations {
		if i != r.target {
			sum += d.Weight
		}
	}
	return sum
}

// errPromoted says that the new version has all traffic already.
var errPromoted = errors.New("the version has all of the traffic already")

// chooseRules finds the http rules that a rollout changes: those that share
// their requests between the new version and others, or, if there are none,
// the one rule whose host has a subset of that name. hasSubset tells that.
func chooseRules(http []any, to, route string, hasSubset func(host string) bool) ([]edit, error) {
	rules, err := readRules(http, to)
	if err != nil {
		return nil, err
	}
	if route != "" {
		rules = slices.DeleteFunc(rules, func(r rule) bool { return r.name != route })
		if len(rules) == 0 {
			return nil, fmt.Errorf("no rule of spec.http has the name %q", route)
		}
	}
	var shared, addable, full []rule
	for _, r := range rules {
		switch {
		case r.target >= 0 && len(r.destinations) > 1 && r.others() > 0:
			shared = append(shared, r)
		case r.target >= 0:
			full = append(full, r)
		case r.oneHost() && r.others() > 0 && hasSubset(r.destinations[0].Host):
			addable = append(addable, r)
		}
	}
	switch {
	case len(shared) > 0:
		return edits(shared)
	case len(addable) == 1:
		return edits(addable)
	case len(addable) > 1:
		return nil, fmt.Errorf("%d rules of spec.http could be given %q: name one with --route", len(addable), to)
	case len(full) > 0:
		return nil, errPromoted
	default:
		return nil, fmt.Errorf("no rule of spec.http has a destination %q, or a host with a subset of that name: %s", to, known(rules))
	}
}

// known lists what a user could have meant.
func known(rules []rule) string {
	var names []string
	for _, r := range rules {
		for _, d := range r.destinations {
			name := d.Host
			if d.Subset != "" {
				name += " subset " + d.Subset
			}
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return "it has no http routes"
	}
	return "there are " + strings.Join(names, ", ")
}

func edits(rules []rule) ([]edit, error) {
	var out []edit
	for _, r := range rules {
		if r.mirrors {
			return nil, fmt.Errorf("spec.http[%d] mirrors requests already: a rollout would not know whose they are", r.index)
		}
		list, _ := r.object["route"].([]any)
		e := edit{Rule: r.index, Name: r.name, Route: runtime.DeepCopyJSONValue(list).([]any), Target: r.target}
		if r.target >= 0 {
			entry, _ := e.Route[r.target].(map[string]any)
			e.Destination, _ = runtime.DeepCopyJSONValue(entry["destination"]).(map[string]any)
		} else {
			e.Target = len(list)
		}
		out = append(out, e)
	}
	return out, nil
}

// named gives rules that the new version is added to its destination: that of
// the rule's first one, with another subset.
func (e *edit) named(to string) {
	if e.Destination != nil {
		return
	}
	first, _ := e.Route[0].(map[string]any)
	e.Destination, _ = runtime.DeepCopyJSONValue(first["destination"]).(map[string]any)
	e.Destination["subset"] = to
}

// at is the http list at a stage of the rollout. http is not changed.
func at(http []any, list []edit, s Stage) ([]any, error) {
	out, err := restored(http, list)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		o := out[e.Rule].(map[string]any)
		if s.Mirror {
			o["mirror"] = runtime.DeepCopyJSONValue(e.Destination)
			o["mirrorPercentage"] = map[string]any{"value": int64(s.Percent)}
			continue
		}
		o["route"] = e.route(s.Percent)
	}
	return out, nil
}

// restored is the http list as it was before the rollout, but for what the
// rollout does not touch, which stays.
func restored(http []any, list []edit) ([]any, error) {
	out := runtime.DeepCopyJSONValue(http).([]any)
	for _, e := range list {
		if e.Rule >= len(out) {
			return nil, fmt.Errorf("spec.http[%d] is gone", e.Rule)
		}
		o, ok := out[e.Rule].(map[string]any)
		if name, _ := o["name"].(string); !ok || name != e.Name {
			return nil, fmt.Errorf("spec.http[%d] is another rule now", e.Rule)
		}
		o["route"] = runtime.DeepCopyJSONValue(e.Route)
		delete(o, "mirror")
		delete(o, "mirrorPercentage")
	}
	return out, nil
}

// route is the rule's list with a share for the new version, of 100; the
// others share the rest as they did before.
func (e *edit) route(percent int) []any {
	out := runtime.DeepCopyJSONValue(e.Route).([]any)
	if e.Target == len(out) {
		out = append(out, map[string]any{"destination": runtime.DeepCopyJSONValue(e.Destination)})
	}
	var weights []int64
	for i, entry := range out {
		w := readDestination(entry).Weight
		if i == e.Target {
			w = 0
		} else if w == 0 && len(e.Route) == 1 {
			w = 100
		}
		weights = append(weights, w)
	}
	for i, w := range divide(int64(100-percent), weights) {
		if i == e.Target {
			w = int64(percent)
		}
		out[i].(map[string]any)["weight"] = w
	}
	return out
}

// divide splits a total in proportion to weights, with no unit lost: the
// largest remainders get what rounding leaves.
func divide(total int64, weights []int64) []int64 {
	var sum int64
	for _, w := range weights {
		sum += w
	}
	out := make([]int64, len(weights))
	if sum == 0 {
		return out
	}
	left := total
	order := make([]int, len(weights))
	for i, w := range weights {
		out[i] = total * w / sum
		left -= out[i]
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return int(total*weights[b]%sum - total*weights[a]%sum)
	})
	for _, i := range order[:left] {
		out[i]++
	}
	return out
}

// share is the new version's percentage before the rollout.
func (e *edit) share() int {
	if e.Target == len(e.Route) {
		return 0
	}
	var sum, own int64
	for i, entry := range e.Route {
		w := readDestination(entry).Weight
		sum += w
		if i == e.Target {
			own = w
		}
	}
	if sum == 0 {
		return 0
	}
	return int(own * 100 / sum)
}

// weights tells the weights of a rule, for people.
func weights(route []any) string {
	var parts []string
	for _, entry := range route {
		d := readDestination(entry)
		name := d.Subset
		if name == "" {
			name = d.Host
		}
		if len(route) == 1 && d.Weight == 0 {
			d.Weight = 100
		}
		parts = append(parts, fmt.Sprintf("%s %d", name, d.Weight))
	}
	return strings.Join(parts, ", ")
}

// sameJSON reports whether two values are written alike, whatever types their
// numbers have.
func sameJSON(a, b any) bool {
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err == nil && err2 == nil && string(x) == string(y)
}
