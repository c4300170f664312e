package file

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// Name is how the source calls itself to the Store.
const Name = "file"

// Source reads folders and files of YAML and watches them. It implements
// discovery.Source.
type Source struct {
	paths     []string
	namespace string
	addresses func(pod config.Key, labels map[string]string) []string
	sidecars  func(pod config.Key) bool

	refresh chan struct{} // capacity 1
	folder  folder
	applied map[config.Key]*discovery.Object
}

// Option adjusts a Source.
type Option func(*Source)

// WithNamespace sets the namespace of namespaced objects that name none.
func WithNamespace(ns string) Option { return func(s *Source) { s.namespace = ns } }

// WithAddresses says which addresses a pod has that the folder gives none:
// pods without status, and those that its workload templates make. It is
// called again and again and must answer the same for the same pod until
// Refresh is called; nil means that the pod has no address yet. Without the option such pods have none, and
// so yield no endpoints.
func WithAddresses(of func(pod config.Key, labels map[string]string) []string) Option {
	return func(s *Source) { s.addresses = of }
}

// WithSidecars says which pods have a sidecar that takes mesh TLS. They get the
// label by which clients know, as injection would give it, unless they have it
// already. It is called as WithAddresses' function is.
func WithSidecars(has func(pod config.Key) bool) Option {
	return func(s *Source) { s.sidecars = has }
}

// New returns a Source of paths, each a folder (searched recursively for
// *.yaml, *.yml and *.json; hidden files are skipped) or a file.
func New(paths []string, opts ...Option) *Source {
	s := &Source{paths: slices.Clone(paths), namespace: DefaultNamespace, refresh: make(chan struct{}, 1), applied: map[config.Key]*discovery.Object{}}
	for _, o := range opts {
		o(s)
	}
	s.folder = folder{namespace: s.namespace, files: map[string]*content{}}
	return s
}

// Load reads paths once. The error is for paths that do not exist; problems
// are those of the Mesh, in order.
func Load(paths ...string) (*config.Mesh, []config.Problem, error) {
	m, err := New(paths).Load(nil)
	if err != nil {
		return nil, nil, err
	}
	return m, m.Problems, nil
}

// Load reads the source's paths once, without watching them. validate may be
// nil.
func (s *Source) Load(validate discovery.Validator) (*config.Mesh, error) {
	if err := s.exist(); err != nil {
		return nil, err
	}
	store := discovery.NewStore(validate, Name)
	s.take(store, walk(s.paths, func(string) {}), nil)
	store.Synced(Name)
	return store.Mesh(), nil
}

// Run reads the paths, and again whenever something below them changes, until
// ctx ends. All changes of a burst of events make one step. Paths that do not
// exist at the start are an error; later they only leave the last good state.
func (s *Source) Run(ctx context.Context, store *discovery.Store) error {
	if err := s.exist(); err != nil {
		return err
	}
	w, err := newWatch(s.paths)
	if err != nil {
		return fmt.Errorf("watching %v: %w", s.paths, err)
	}
	defer w.close()
	s.take(store, w.walk(), nil)
	store.Synced(Name)
	for {
		touched, ok := w.wait(ctx, s.refresh)
		if !ok {
			return nil
		}
		s.take(store, w.walk(), touched)
	}
}

// Refresh makes Run ask for the pods' addresses again (WithAddresses). It does
// not block and may be called from any goroutine.
func (s *Source) Refresh() {
	select {
	case s.refresh <- struct{}{}:
	default:
	}
}

func (s *Source) exist() error {
	for _, p := range s.paths {
		if _, err := os.Stat(p); err != nil {
			return err
		}
	}
	return nil
}

// take brings the store to what the files say now.
func (s *Source) take(store *discovery.Store, l listing, touched map[string]bool) {
	s.folder.check = store.Check
	s.folder.update(l, touched)
	objects, problems := s.folder.settled()
	c := newCluster(objects, s.addresses)
	c.sidecars = s.sidecars
	problems = append(problems, c.run()...)
	var changes []discovery.Change
	next := make(map[config.Key]*discovery.Object, len(c.objects))
	for _, o := range c.objects {
		key := o.Meta.Key
		next[key] = o
		if s.applied[key] != o {
			changes = append(changes, discovery.Change{Object: *o})
		}
	}
	for key := range s.applied {
		if next[key] == nil {
			gone := discovery.Object{Meta: config.Meta{Key: key}}
			changes = append(changes, discovery.Change{Object: gone, Deleted: true})
		}
	}
	s.applied = next
	store.Replace(Name, changes, problems)
}
