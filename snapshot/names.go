package snapshot

import (
	"hash/maphash"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"weak"
)

// names is an immutable set of resource names. Proxies that ask for the same
// names share one value: a thousand subscriptions would otherwise cost each
// stream 66 KB.
type names struct {
	list []string // sorted, distinct
	sum  uint64

	mu sync.Mutex
	// steps remembers what adding or removing names led to, so that the
	// proxies of one class do each step once together.
	steps map[step]weak.Pointer[names]
}

type step struct {
	sum    uint64
	remove bool
}

// maxSteps bounds the memory of one set's steps.
const maxSteps = 32

// all returns the names, sorted; none for nil, which is the empty set.
func (n *names) all() []string {
	if n == nil {
		return nil
	}
	return n.list
}

func (n *names) len() int { return len(n.all()) }

func (n *names) has(name string) bool {
	if n == nil {
		return false
	}
	i := sort.SearchStrings(n.list, name)
	return i < len(n.list) && n.list[i] == name
}

// nameTable makes equal name sets one value. The sums are keyed with a secret
// of the process, so that no client can make two different sets collide.
type nameTable struct {
	seed maphash.Seed
	// root remembers the steps from the empty set, and stands for it in those of
	// others.
	root *names
	mu   sync.Mutex
	sets map[uint64]weak.Pointer[names]
}

func newNameTable() *nameTable {
	return &nameTable{seed: maphash.MakeSeed(), root: &names{}, sets: map[uint64]weak.Pointer[names]{}}
}

// sum is independent of order: Envoy's SotW requests list names as its hash
// tables do.
func (t *nameTable) sum(list []string) uint64 {
	var sum uint64
	for _, s := range list {
		sum += maphash.String(t.seed, s)
	}
	return sum
}

// of returns the set of the names in list, which may repeat.
func (t *nameTable) of(list []string) *names { return t.with(nil, list) }

// with returns n and the names of add.
func (t *nameTable) with(n *names, add []string) *names {
	if len(add) == 0 {
		return n
	}
	return t.added(n, add, t.sum(add))
}

func (t *nameTable) added(n *names, add []string, sum uint64) *names {
	return t.step(n, step{sum: sum}, func() []string {
		out := slices.Clone(n.all())
		for _, name := range add {
			out = append(out, strings.Clone(name)) // it may point into a request
		}
		slices.Sort(out)
		return slices.Compact(out)
	})
}

// without returns n less the names of remove.
func (t *nameTable) without(n *names, remove []string) *names {
	if len(remove) == 0 || n.len() == 0 {
		return n
	}
	return t.removed(n, remove, t.sum(remove))
}

// less returns n less the names of o.
func (t *nameTable) less(n, o *names) *names {
	if n.len() == 0 || o.len() == 0 {
		return n
	}
	return t.removed(n, o.list, o.sum)
}

// both returns the names of n and o.
func (t *nameTable) both(n, o *names) *names {
	switch {
	case n.len() == 0:
		return o
	case o.len() == 0:
		return n
	}
	return t.added(n, o.list, o.sum)
}

func (t *nameTable) removed(n *names, remove []string, sum uint64) *names {
	return t.step(n, step{sum: sum, remove: true}, func() []string {
		gone := make(map[string]bool, len(remove))
		for _, r := range remove {
			gone[r] = true
		}
		return slices.DeleteFunc(slices.Clone(n.list), func(s string) bool { return gone[s] })
	})
}

func (t *nameTable) step(n *names, s step, make func() []string) *names {
	if n == nil {
		n = t.root
	}
	n.mu.Lock()
	next := n.steps[s].Value()
	n.mu.Unlock()
	switch next {
	case t.root:
		return nil
	case nil:
	default:
		return next
	}
	next = t.intern(make())
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.steps) >= maxSteps || n.steps == nil {
		n.steps = map[step]weak.Pointer[names]{}
	}
	if next == nil {
		n.steps[s] = weak.Make(t.root)
		return nil
	}
	n.steps[s] = weak.Make(next)
	return next
}

// intern returns the one set of a sorted list.
func (t *nameTable) intern(list []string) *names {
	if len(list) == 0 {
		return nil
	}
	sum := t.sum(list)
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.sets[sum].Value(); n != nil {
		return n
	}
	n := &names{list: list, sum: sum}
	t.sets[sum] = weak.Make(n)
	runtime.AddCleanup(n, t.forget, sum)
	return n
}

func (t *nameTable) forget(sum uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sets[sum].Value() == nil {
		delete(t.sets, sum)
	}
}
