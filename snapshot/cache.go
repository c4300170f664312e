package snapshot

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/semaphore"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// idleGrace is how long a class without proxies is kept up to date, so that a
// reconnecting proxy finds it.
const idleGrace = time.Minute

// Cache holds what every kind of connected proxy is served, and follows the
// mesh. Proxies of equal classes share resources, layers and encodings; what
// no proxy needs is dropped.
type Cache struct {
	source  Source
	names   *nameTable
	metrics *metrics
	ring    *ring
	secrets secretShelf
	past    history
	// translating admits as many translations at once as there are
	// processors, in the order of asking.
	translating *semaphore.Weighted
	assignments *assignments
	ready       chan struct{} // closed when the first Mesh is in service
	tasks       chan struct{} // capacity 1: todo has work for Run

	// refused are versions of objects that some class never had, since a proxy
	// rejected what was made of them.
	refused *lru.Cache[refusedVersion, struct{}]

	// rejections is the number of versions that are kept from some class.
	rejections atomic.Int64

	mu          sync.Mutex
	mesh        *config.Mesh
	arrangement Arrangement
	slots       map[translate.Class]*slot
	building    map[translate.Class]*building
	audiences   map[audienceKey]*audience
	seats       map[*seat]struct{}
	todo        []func()
}

// building is a class that some connecting proxy is translating.
type building struct {
	done        chan struct{}
	arrangement Arrangement
}

// NewCache returns an empty Cache over a source of resources.
func NewCache(source Source) *Cache {
	refused, err := lru.New[refusedVersion, struct{}](rememberedRefusals)
	if err != nil {
		panic(err) // only for a size below one
	}
	m := newMetrics()
	return &Cache{
		source: source, names: newNameTable(), metrics: m, secrets: secretShelf{source: source}, past: newHistory(),
		ring:        &ring{onReach: func(d time.Duration) { m.convergence.Observe(d.Seconds()) }},
		translating: semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0))),
		refused:     refused,
		assignments: &assignments{},
		ready:       make(chan struct{}), tasks: make(chan struct{}, 1),
		slots: map[translate.Class]*slot{}, building: map[translate.Class]*building{},
		audiences: map[audienceKey]*audience{}, seats: map[*seat]struct{}{},
	}
}

// Ready is closed when the first Mesh is in service.
func (c *Cache) Ready() <-chan struct{} { return c.ready }

// Mesh returns the Mesh in service, or nil before the first.
func (c *Cache) Mesh() *config.Mesh {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mesh
}

// later hands work to Run, which alone changes what is in service.
func (c *Cache) later(f func()) {
	c.mu.Lock()
	c.todo = append(c.todo, f)
	c.mu.Unlock()
	select {
	case c.tasks <- struct{}{}:
	default:
	}
}

// attach gives a proxy its place, translating for its classes if no proxy has
// them yet. It blocks until the first Mesh is in service and translation is
// done, or ctx ends. wake is called after each change of the seat's view.
func (c *Cache) attach(ctx context.Context, p *config.Proxy, wake func()) (*seat, error) {
	select {
	case <-c.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s := &seat{proxy: p, viewer: translate.ViewerOf(p), wake: wake, coalesced: c.metrics.coalesced}
	for {
		c.mu.Lock()
		a, m := c.arrangement, c.mesh
		classes, v := a.Classes(p), s.viewer
		missing := c.missing(classes, v)
		if len(missing) == 0 {
			c.sit(s, c.audience(classes, v))
			c.mu.Unlock()
			return s, nil
		}
		c.mu.Unlock()
		for _, class := range missing {
			if err := c.provide(ctx, a, m, class, v); err != nil {
				return nil, err
			}
		}
	}
}

// missing returns the classes that are not in service for a viewer.
func (c *Cache) missing(classes []translate.Class, v translate.Viewer) []translate.Class {
	var out []translate.Class
	for _, class := range classes {
		s := c.slots[class]
		if s == nil {
			out = append(out, class)
		} else if !s.state.serves(s.state.resources.viewer(v)) {
			out = append(out, class)
		}
	}
	return out
}

// provide brings a class into service for a viewer, unless another proxy does
// it at this moment: then it waits for that.
func (c *Cache) provide(ctx context.Context, a Arrangement, m *config.Mesh, class translate.Class, v translate.Viewer) error {
	c.mu.Lock()
	if b := c.building[class]; b != nil && b.arrangement == a {
		c.mu.Unlock()
		select {
		case <-b.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b := &building{done: make(chan struct{}), arrangement: a}
	c.building[class] = b
	var state *classState
	if s := c.slots[class]; s != nil {
		state = s.state
	}
	c.mu.Unlock()

	err := c.translating.Acquire(ctx, 1)
	if err == nil {
		if state == nil {
			state = c.buildClass(a, class, nil, nil)
		}
		v = state.resources.viewer(v)
		assigned := c.assign(state.resources.Endpoints, m, v, nil, nil)
		c.translating.Release(1)
		c.serve(m, class, state, v, assigned)
	}
	c.mu.Lock()
	if c.building[class] == b {
		delete(c.building, class)
	}
	c.mu.Unlock()
	close(b.done)
	return err
}

// serve puts a class that was built beside the mesh's changes into service,
// if the mesh is still the one that it was built of.
func (c *Cache) serve(m *config.Mesh, class translate.Class, state *classState, v translate.Viewer, assigned *layer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mesh != m {
		return // attach will ask again
	}
	s := c.slots[class]
	if s == nil {
		s = &slot{class: class, state: state, idle: time.Now()}
		c.slots[class] = s
	}
	s.state.assign(v, assigned)
}

func (s *classState) assign(v translate.Viewer, l *layer) {
	if len(s.resources.Endpoints) == 0 {
		return
	}
	if s.assignments == nil {
		s.assignments = map[translate.Viewer]*layer{}
	}
	s.assignments[v] = l
}

// audience returns the audience of classes in service. c.mu is held.
func (c *Cache) audience(classes []translate.Class, v translate.Viewer) *audience {
	var key audienceKey
	for i, class := range classes {
		key.slots[i] = c.slots[class]
		key.viewers[i] = key.slots[i].state.resources.viewer(v)
	}
	a := c.audiences[key]
	if a == nil {
		a = &audience{audienceKey: key, seats: map[*seat]struct{}{}}
		a.view = a.look(c.mesh.Sequence, time.Now())
		c.past.offer(a.view)
		c.audiences[key] = a
		for _, s := range a.slots {
			if s != nil {
				s.users++
			}
		}
	}
	return a
}

// sit puts a seat into an audience. c.mu is held.
func (c *Cache) sit(s *seat, a *audience) {
	s.audience = a
	a.seats[s] = struct{}{}
	c.seats[s] = struct{}{}
	s.mu.Lock()
	s.view = a.view
	s.mu.Unlock()
}

// detach takes a seat away.
func (c *Cache) detach(s *seat) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.seats, s)
	c.leave(s)
	s.abandon()
}

// leave takes a seat out of its audience. c.mu is held.
func (c *Cache) leave(s *seat) {
	a := s.audience
	delete(a.seats, s)
	if len(a.seats) > 0 {
		return
	}
	delete(c.audiences, a.audienceKey)
	for _, s := range a.slots {
		if s == nil {
			continue
		}
		if s.users--; s.users == 0 {
			s.idle = time.Now()
		}
	}
}

// Problems are those that translation found for the classes in service, and
// what proxies rejected.
func (c *Cache) Problems() []config.Problem {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := map[config.Problem]bool{}
	var out []config.Problem
	add := func(list []config.Problem) {
		for _, p := range list {
			if !seen[p] {
				seen[p] = true
				out = append(out, p)
			}
		}
	}
	add(c.secrets.problems())
	all := make([]*translate.Resources, 0, len(c.slots))
	for _, s := range c.slots {
		all = append(all, s.state.resources.Resources)
		add(s.state.resources.Problems)
		for k := range kinds {
			for _, r := range s.rejected[k] {
				add(r.problems(k))
			}
		}
	}
	add(translate.UnmatchedPatches(all))
	sortProblems(out)
	return out
}
