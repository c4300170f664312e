package discovery

import (
	"sync"
	"sync/atomic"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Store derives Meshes from raw objects and publishes them. Writers (sources)
// may call Apply, SetProblems and Synced from any goroutine; one step at a
// time is taken. Readers call Mesh and wait on Changed.
type Store struct {
	validate Validator
	mesh     atomic.Pointer[config.Mesh]
	changed  chan struct{}

	mu sync.Mutex // guards everything that Apply derives from
}

// NewStore returns an empty Store. Nothing is published before each of the
// named sources has called Synced. validate may be nil.
func NewStore(validate Validator, sources ...string) *Store {
	return &Store{validate: validate, changed: make(chan struct{}, 1)}
}

// Mesh returns the newest published Mesh, or nil before the first.
func (s *Store) Mesh() *config.Mesh { return s.mesh.Load() }

// Changed has capacity 1 and receives a value after each publication that
// the reader has not yet been told of. For one reader.
func (s *Store) Changed() <-chan struct{} { return s.changed }

// Apply takes one atomic step: readers see all of the changes or none. source
// names the caller; where two sources hold one object, the source that was
// named first in NewStore wins. An object whose content is as before changes
// nothing and publishes nothing.
func (s *Store) Apply(source string, changes []Change) {}

// SetProblems replaces the problems that source reports about its input.
func (s *Store) SetProblems(source string, problems []config.Problem) {}

// Synced says that source has applied its first complete view.
func (s *Store) Synced(source string) {}
