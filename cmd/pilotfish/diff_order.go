package main

import (
	"slices"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery/inputs"
	"github.com/pilotfish-mesh/pilotfish/meshtest"
)

func (t *diffText) order(o *meshtest.Order) {
	switch {
	case o == nil:
		return
	case o.Any:
		t.title("Any order of applying is safe")
		t.waits(o.Steps)
	case len(o.Stuck) > 0:
		t.stuck(o)
		return
	default:
		t.title("Apply in this order, each step when the proxies have the one before (pilotfish wait)")
		t.steps(o)
		if slices.ContainsFunc(o.Steps, func(s meshtest.Step) bool { return s.After != nil }) {
			return
		}
		t.detail("because", o.Danger)
		if o.Witness != "" {
			t.detail("example", "pilotfish ask "+o.Witness)
		}
	}
}

// stuck says why no order is safe.
func (t *diffText) stuck(o *meshtest.Order) {
	if o.Partly {
		t.title("No safe order was found, and more exist than were tried")
	} else {
		t.title("No order is safe: whichever way, a request can fail between two steps")
	}
	if len(o.Steps) > 0 {
		t.item("safe to begin with:")
		t.steps(o)
		t.item("then fails:")
	}
	for i := range o.Stuck {
		s := &o.Stuck[i]
		t.item("%s", stepText(s))
		t.detail("because", s.Why)
		if s.Witness != "" {
			t.detail("example", "pilotfish ask "+s.Witness)
		}
	}
}

func (t *diffText) steps(o *meshtest.Order) {
	for i := range o.Steps {
		s := &o.Steps[i]
		t.item("%d. %s", i+1, stepText(s))
		for _, n := range s.After {
			t.detail("after", n.Object.String()+": without it, "+n.Why)
			if n.Witness != "" {
				t.detail("example", "pilotfish ask "+n.Witness)
			}
		}
	}
	if len(o.AnyTime) > 0 {
		t.item("at any time: %s", listed(keyTexts(o.AnyTime)))
	}
}

// waits names what has to start.
func (t *diffText) waits(steps []meshtest.Step) {
	for i := range steps {
		if steps[i].Wait {
			t.item("%s", stepText(&steps[i]))
		}
	}
}

func stepText(s *meshtest.Step) string {
	verbs := map[string]string{"added": "add", "removed": "remove", "changed": "change"}
	text := verbs[s.Change] + " " + s.Object.String()
	if s.Wait {
		text += ", and wait until its pods are ready"
	}
	return text
}

func keyTexts(keys []config.Key) []string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = k.String()
	}
	return out
}

// between are the states between two.
func between(before, after *inputs.Bare) meshtest.Between {
	b := meshtest.Between{With: func(applied []config.Key) *config.Mesh { return before.With(after, applied) }}
	for _, c := range before.Changed(after) {
		b.Changed = append(b.Changed, meshtest.ObjectChange{Object: c.Object, Change: c.How})
	}
	return b
}
