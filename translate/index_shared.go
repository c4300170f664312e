package translate

import (
	"sync"
	"sync/atomic"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// rememberedIndexes is how many Meshes keep their Index: the one in effect, the
// one before, and what is tried in between.
const rememberedIndexes = 4

// indexes remembers the Index of the last few Meshes, so that all who look
// into one Mesh share it.
type indexes struct {
	mu   sync.Mutex
	last []*sharedIndex // newest first
}

type sharedIndex struct {
	mesh *config.Mesh
	make sync.Once
	from *Index // what it is made of; nil: of nothing
	ix   *Index
	done atomic.Bool
}

// newest is the Index of the last Mesh that has one. x.mu is held.
func (x *indexes) newest() *Index {
	for _, s := range x.last {
		if s.done.Load() {
			return s.ix
		}
	}
	return nil
}

// Index returns the Index of a Mesh, made once for all who ask while the Mesh
// is one of the last few.
func (t *Translator) Index(m *config.Mesh) *Index {
	s := t.indexes.of(m)
	s.make.Do(func() {
		s.ix = nextIndex(m, s.from)
		s.from = nil
		s.done.Store(true)
	})
	return s.ix
}

func (x *indexes) of(m *config.Mesh) *sharedIndex {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, s := range x.last {
		if s.mesh == m {
			return s
		}
	}
	s := &sharedIndex{mesh: m, from: x.newest()}
	x.last = append([]*sharedIndex{s}, x.last[:min(len(x.last), rememberedIndexes-1)]...)
	return s
}
