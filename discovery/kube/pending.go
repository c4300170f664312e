package kube

import (
	"maps"
	"slices"
	"sync"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// pending collects changes until the Store takes them. Of several changes of
// one object only the last remains, so it never holds more than there are
// objects, and adding never waits for the Store.
type pending struct {
	wake chan struct{} // capacity 1: there may be something to take

	mu       sync.Mutex
	order    []config.Key // of changes, as they first came
	changes  map[config.Key]discovery.Change
	problems map[config.Key][]config.Problem // of all objects, applied or not
	// listed is problems as a sorted list; nil after a change of problems.
	listed []config.Problem
}

func newPending() *pending {
	return &pending{
		wake:     make(chan struct{}, 1),
		changes:  map[config.Key]discovery.Change{},
		problems: map[config.Key][]config.Problem{},
		listed:   []config.Problem{},
	}
}

// step is what happened at once.
type step struct {
	items []*item
	gone  []config.Key
}

// put adds a step, to be taken as a whole.
func (p *pending) put(s step) {
	if len(s.items) == 0 && len(s.gone) == 0 {
		return
	}
	p.mu.Lock()
	for _, it := range s.items {
		if it.object != nil {
			p.change(it.key, discovery.Change{Object: *it.object})
		}
		p.report(it.key, it.problems)
	}
	for _, key := range s.gone {
		p.change(key, discovery.Change{Object: discovery.Object{Meta: config.Meta{Key: key}}, Deleted: true})
		p.report(key, nil)
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *pending) change(key config.Key, c discovery.Change) {
	if _, ok := p.changes[key]; !ok {
		p.order = append(p.order, key)
	}
	p.changes[key] = c
}

func (p *pending) report(key config.Key, problems []config.Problem) {
	if slices.Equal(p.problems[key], problems) {
		return
	}
	p.listed = nil
	if len(problems) == 0 {
		delete(p.problems, key)
	} else {
		p.problems[key] = problems
	}
}

// take empties p. problems are those of all objects; changed is false if there
// is nothing that the last call did not return.
func (p *pending) take() (changes []discovery.Change, problems []config.Problem, changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed = len(p.order) > 0 || p.listed == nil
	for _, key := range p.order {
		changes = append(changes, p.changes[key])
	}
	p.order, p.changes = nil, map[config.Key]discovery.Change{}
	if p.listed == nil {
		p.listed = p.list()
	}
	return changes, p.listed, changed
}

func (p *pending) list() []config.Problem {
	keys := slices.SortedFunc(maps.Keys(p.problems), func(a, b config.Key) int {
		if a.Less(b) {
			return -1
		}
		return 1 // keys of a map are never equal
	})
	out := []config.Problem{}
	for _, key := range keys {
		out = append(out, p.problems[key]...)
	}
	return out
}
