package discovery

import (
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Store derives Meshes from raw objects and publishes them. Writers (sources)
// may call Apply, SetProblems and Synced from any goroutine; one step at a
// time is taken. Readers call Mesh and wait on Changed.
type Store struct {
	mesh    atomic.Pointer[config.Mesh]
	changed chan struct{}

	mu       sync.Mutex // guards everything below
	holding  holding
	derived  derivation
	reported map[string][]config.Problem // by source
	waiting  map[string]bool             // sources that have not synced
	latest   *config.Mesh
	// touched: problems may differ from those of the latest Mesh.
	touched bool

	events   map[Event]uint64
	triggers map[string]uint64
	since    map[string]bool // reasons for the next publication
}

// NewStore returns an empty Store. Nothing is published before each of the
// named sources has called Synced. validate may be nil.
func NewStore(validate Validator, sources ...string) *Store {
	s := &Store{
		changed:  make(chan struct{}, 1),
		holding:  newHolding(validate, sources),
		derived:  newDerivation(),
		reported: map[string][]config.Problem{},
		waiting:  map[string]bool{},
		events:   map[Event]uint64{}, triggers: map[string]uint64{}, since: map[string]bool{},
	}
	for _, src := range sources {
		s.waiting[src] = true
	}
	return s
}

// ReadEnvironment has the variables that MeshConfig names (HttpHeader.envName)
// looked up, and no others. It is called before the first Apply; without it
// something stands for each that says which one it is.
func (s *Store) ReadEnvironment(lookup config.Lookup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.derived.lookup = lookup
}

// Mesh returns the newest published Mesh, or nil before the first.
func (s *Store) Mesh() *config.Mesh { return s.mesh.Load() }

// Changed has capacity 1 and receives a value after each publication that
// the reader has not yet been told of. For one reader.
func (s *Store) Changed() <-chan struct{} { return s.changed }

// Apply takes one atomic step: readers see all of the changes or none. source
// names the caller; where two sources hold one object, the source that was
// named first in NewStore wins. An object whose content is as before changes
// nothing and publishes nothing, except that objects of files get their new
// lines, and those of Istio's API the generation that they are said to have.
func (s *Store) Apply(source string, changes []Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.step(source, changes)
	s.publish()
}

// Replace is Apply with the problems that source reports about its input set
// in the same step.
func (s *Store) Replace(source string, changes []Change, problems []config.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.step(source, changes)
	s.report(source, problems)
	s.publish()
}

// SetProblems replaces the problems that source reports about its input.
func (s *Store) SetProblems(source string, problems []config.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report(source, problems)
	s.publish()
}

// Synced says that source has applied its first complete view.
func (s *Store) Synced(source string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, source)
	s.publish()
}

// InEffect are the objects of a core kind that are in effect now.
func (s *Store) InEffect(kind string) []*Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*Object
	for key, o := range s.holding.objects {
		if key.Group == "" && key.Kind == kind && o.effect != nil {
			out = append(out, o.effect)
		}
	}
	return out
}

// Check tests an Istio object as Apply does, without putting it into effect.
func (s *Store) Check(meta *config.Meta, spec proto.Message) []config.Problem {
	if s.holding.validate == nil {
		return nil
	}
	return s.holding.validate(meta, spec)
}

func (s *Store) step(source string, changes []Change) {
	hashes := identities(changes)
	for i := range changes {
		key, before, after, touched := s.holding.apply(source, &changes[i], hashes[i])
		s.touched = s.touched || touched
		if before != after {
			s.derived.change(key, before, after)
			s.happened(before, after)
		}
	}
}

func (s *Store) report(source string, problems []config.Problem) {
	if slices.Equal(s.reported[source], problems) {
		return
	}
	s.reported[source] = slices.Clone(problems)
	s.touched = true
}

// publish derives what changed and makes it the newest Mesh.
func (s *Store) publish() {
	if len(s.waiting) > 0 {
		return
	}
	b := config.NewBuilder(s.latest)
	if s.derived.derive(b) {
		s.touched = true
	}
	if s.touched || s.latest == nil {
		s.touched = false
		problems := s.problems()
		if s.latest == nil || !slices.Equal(problems, s.latest.Problems) {
			b.SetProblems(problems)
		}
	}
	if s.latest != nil && !b.Changed() {
		return
	}
	s.triggered()
	s.latest = b.Mesh()
	s.mesh.Store(s.latest)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// problems are all known problems in a fixed order.
func (s *Store) problems() []config.Problem {
	var out []config.Problem
	for _, p := range s.reported {
		out = append(out, p...)
	}
	out = s.holding.addProblems(out, s.derived.revision.takes)
	out = s.derived.addProblems(out)
	config.SortProblems(out)
	return out
}
