package translate

import (
	"slices"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// What stayed in a list is found beside its neighbour, also where nothing else is
// remembered any more; only what is new is made.
func TestSuccession(t *testing.T) {
	tr := NewTranslator(16)
	list := func(sums ...config.Hash) (values, made []config.Hash) {
		s := newSuccession[config.Hash](tr, 1, len(sums))
		for _, sum := range sums {
			values = append(values, s.next(sum, func() config.Hash {
				made = append(made, sum)
				return 10 * sum
			}))
		}
		s.end()
		return values, made
	}
	list(1, 2, 3, 4, 5, 6)
	for _, c := range []struct {
		name       string
		sums, made []config.Hash
	}{
		{"the same", []config.Hash{1, 2, 3, 4, 5, 6}, nil},
		{"inserted", []config.Hash{1, 2, 7, 3, 4, 5, 6}, []config.Hash{7}},
		{"taken out", []config.Hash{1, 2, 7, 4, 5, 6}, nil},
		{"changed", []config.Hash{1, 8, 7, 4, 5, 6}, []config.Hash{8}},
		{"first and last", []config.Hash{9, 1, 8, 7, 4, 5, 6, 10}, []config.Hash{9, 10}},
		{"other order", []config.Hash{10, 6, 9}, []config.Hash{10, 6}},
		{"empty", nil, nil},
	} {
		tr.memo.Purge()
		values, made := list(c.sums...)
		if !slices.Equal(made, c.made) {
			t.Errorf("%s: made %v, want %v", c.name, made, c.made)
		}
		for i, sum := range c.sums {
			if values[i] != 10*sum {
				t.Errorf("%s: value %d of %d is %d", c.name, i, sum, values[i])
			}
		}
	}
}
