package config

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// An Index is what its edits make of it one after the other, whatever their
// number, and the one before stays as it is.
func TestIndexEdits(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var x Index[*Meta]
	want := map[Key]*Meta{}
	for step := range 200 {
		before, had := x, slices.Collect(x.All())
		edits := make([]indexEdit[*Meta], random.IntN(20))
		for i := range edits {
			m := &Meta{Key: Key{Namespace: fmt.Sprint("ns", random.IntN(3)), Name: fmt.Sprint(random.IntN(12))}}
			edits[i] = indexEdit[*Meta]{ns: m.Namespace, name: m.Name, value: m, present: random.IntN(2) == 0}
			if edits[i].present {
				want[m.Key] = m
			} else {
				delete(want, m.Key)
			}
		}
		x = x.edit(edits)
		if !slices.Equal(slices.Collect(before.All()), had) {
			t.Fatalf("step %d changes the Index before", step)
		}
		order := slices.SortedFunc(maps.Values(want), func(a, b *Meta) int { return a.Compare(b.Key) })
		if got := slices.Collect(x.All()); x.Len() != len(want) || !slices.Equal(got, order) {
			t.Fatalf("step %d: %d objects %v, want %d %v", step, x.Len(), got, len(want), order)
		}
	}
}
