package translate

import "github.com/pilotfish-mesh/pilotfish/config"

// succession remembers the values of a long list that is made again and again
// with few differences: what stayed is found beside its neighbour in the list
// before, and only the rest is looked up. It never changes a result.
type succession[T any] struct {
	t   *Translator
	key config.Hash
	was []successor[T] // the list before
	at  int            // the place in it of what comes next, if nothing has changed
	now []successor[T]
}

// successor is one value with the hash of its inputs.
type successor[T any] struct {
	sum   config.Hash
	value T
}

// newSuccession begins the list of n values that is known under key. Lists that
// share one are only slower.
func newSuccession[T any](t *Translator, key config.Hash, n int) *succession[T] {
	s := &succession[T]{t: t, key: key, now: make([]successor[T], 0, n)}
	if was, ok := t.lists.Get(key); ok {
		s.was, _ = was.([]successor[T])
	}
	return s
}

// next is remember for the next value of the list.
func (s *succession[T]) next(sum config.Hash, make func() T) T {
	for i := s.at; i < min(s.at+2, len(s.was)); i++ { // the second, where one was changed or taken out
		if s.was[i].sum == sum {
			s.at = i + 1
			s.now = append(s.now, s.was[i])
			return s.was[i].value
		}
	}
	v := remember(s.t, sum, make)
	s.now = append(s.now, successor[T]{sum, v})
	return v
}

// end keeps the list for the next one.
func (s *succession[T]) end() { s.t.lists.Add(s.key, s.now) }
