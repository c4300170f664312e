package config

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"sort"
	"strings"
)

// Keyed is what an Index can hold.
type Keyed interface {
	// indexKey returns the namespace and the name that is unique in it.
	indexKey() (ns, name string)
}

func (m *Meta) indexKey() (string, string)      { return m.Namespace, m.Name }
func (s *Service) indexKey() (string, string)   { return s.Namespace, s.Hostname }
func (e *Endpoints) indexKey() (string, string) { return e.ID.Namespace, e.ID.Hostname }

func nameOf[T Keyed](o T) string {
	_, name := o.indexKey()
	return name
}

// Index is an immutable collection of objects of one kind, by namespace and
// name. A change copies only the namespaces that it touches.
type Index[T Keyed] struct {
	byNS map[string][]T // each sorted by name
	n    int
}

// Len is the number of objects.
func (x Index[T]) Len() int { return x.n }

// In returns a namespace's objects, sorted by name. Not to be modified.
func (x Index[T]) In(ns string) []T { return x.byNS[ns] }

// Get returns one object.
func (x Index[T]) Get(ns, name string) (T, bool) {
	items := x.byNS[ns]
	i := sort.Search(len(items), func(i int) bool { return nameOf(items[i]) >= name })
	if i < len(items) && nameOf(items[i]) == name {
		return items[i], true
	}
	var zero T
	return zero, false
}

// Namespaces returns the namespaces that hold objects, sorted.
func (x Index[T]) Namespaces() []string { return slices.Sorted(maps.Keys(x.byNS)) }

// All yields every object by namespace, then name.
func (x Index[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, ns := range x.Namespaces() {
			for _, o := range x.byNS[ns] {
				if !yield(o) {
					return
				}
			}
		}
	}
}

// Same reports whether two Indexes hold the very same objects. It is exact for
// Indexes that descend from one another, and may be false for equal content
// built separately.
func (x Index[T]) Same(o Index[T]) bool {
	if len(x.byNS) != len(o.byNS) || x.n != o.n {
		return false
	}
	for ns, items := range x.byNS {
		if !sameItems(items, o.byNS[ns]) {
			return false
		}
	}
	return true
}

// Changed yields (old, new) for each object that differs between o and x; the
// zero value stands for an absent one. Its cost is that of the namespaces
// that differ.
func (x Index[T]) Changed(o Index[T]) iter.Seq2[T, T] {
	return func(yield func(before, after T) bool) {
		names := map[string]bool{}
		for ns := range x.byNS {
			names[ns] = true
		}
		for ns := range o.byNS {
			names[ns] = true
		}
		for _, ns := range slices.Sorted(maps.Keys(names)) {
			if !mergeChanged(o.byNS[ns], x.byNS[ns], yield) {
				return
			}
		}
	}
}

func sameItems[T Keyed](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func mergeChanged[T Keyed](old, now []T, yield func(before, after T) bool) bool {
	if sameItems(old, now) {
		return true
	}
	var zero T
	i, j := 0, 0
	for i < len(old) || j < len(now) {
		switch {
		case i < len(old) && j < len(now) && any(old[i]) == any(now[j]): // most by far; it need not be read
			i++
			j++
		case j == len(now) || (i < len(old) && nameOf(old[i]) < nameOf(now[j])):
			if !yield(old[i], zero) {
				return false
			}
			i++
		case i == len(old) || nameOf(now[j]) < nameOf(old[i]):
			if !yield(zero, now[j]) {
				return false
			}
			j++
		default:
			if !yield(old[i], now[j]) {
				return false
			}
			i++
			j++
		}
	}
	return true
}

// indexEdit is one pending change of an Index; present false deletes.
type indexEdit[T Keyed] struct {
	ns, name string
	value    T
	present  bool
}

// edit returns the Index with the edits applied in order.
func (x Index[T]) edit(edits []indexEdit[T]) Index[T] {
	if len(edits) == 0 {
		return x
	}
	byNS := maps.Clone(x.byNS)
	if byNS == nil {
		byNS = map[string][]T{}
	}
	edits = slices.Clone(edits)
	slices.SortStableFunc(edits, func(a, b indexEdit[T]) int {
		return cmp.Or(strings.Compare(a.ns, b.ns), strings.Compare(a.name, b.name))
	})
	n := x.n
	for len(edits) > 0 {
		ns, end := edits[0].ns, 1
		for end < len(edits) && edits[end].ns == ns {
			end++
		}
		items := edited(byNS[ns], edits[:end])
		n += len(items) - len(byNS[ns])
		if len(items) == 0 {
			delete(byNS, ns)
		} else {
			byNS[ns] = items
		}
		edits = edits[end:]
	}
	return Index[T]{byNS: byNS, n: n}
}

// edited is a namespace's objects with edits by name, of which the last one of
// a name counts.
func edited[T Keyed](items []T, edits []indexEdit[T]) []T {
	out := make([]T, 0, len(items)+len(edits))
	for i, e := range edits {
		if i+1 < len(edits) && edits[i+1].name == e.name {
			continue
		}
		at := sort.Search(len(items), func(i int) bool { return nameOf(items[i]) >= e.name })
		out = append(out, items[:at]...)
		items = items[at:]
		if len(items) > 0 && nameOf(items[0]) == e.name {
			items = items[1:]
		}
		if e.present {
			out = append(out, e.value)
		}
	}
	return append(out, items...)
}
