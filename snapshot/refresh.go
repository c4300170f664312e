package snapshot

import (
	"context"
	"maps"
	"sort"
	"sync"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// Run follows meshes until ctx ends. Only Run changes what is in service;
// connecting proxies add to it.
func (c *Cache) Run(ctx context.Context, meshes Meshes) {
	if m := meshes.Mesh(); m != nil {
		c.take(m)
	}
	sweep := time.NewTicker(idleGrace / 2)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-meshes.Changed():
			if m := meshes.Mesh(); m != nil {
				c.take(m)
			}
		case <-c.tasks:
			c.mu.Lock()
			todo := c.todo
			c.todo = nil
			c.mu.Unlock()
			for _, f := range todo {
				f()
			}
		case now := <-sweep.C:
			c.sweep(now)
		}
	}
}

// take brings a Mesh into service.
func (c *Cache) take(m *config.Mesh) {
	start := time.Now()
	c.mu.Lock()
	prev := c.mesh
	c.mu.Unlock()
	if prev == m {
		return
	}
	if prev != nil && m.OnlyEndpointsDiffer(prev) && !gathered(m, changedEndpoints(prev, m)) {
		c.takeEndpoints(m, prev, start)
		return
	}
	r := &refresh{cache: c, mesh: m, arrangement: c.source.Arrange(m), start: start, states: map[translate.Class]*classState{}}
	if prev != nil {
		r.prev, r.changed = prev, changedEndpoints(prev, m)
	}
	r.run()
	if prev == nil {
		close(c.ready)
	}
}

// gathered reports whether scopes read some of these endpoints, so that they
// must be gathered anew.
func gathered(m *config.Mesh, changed map[config.ServiceID]bool) bool {
	for id := range changed {
		if s, ok := m.Services.Get(id.Namespace, id.Hostname); ok && translate.ReadsEndpoints(s) {
			return true
		}
	}
	return false
}

func changedEndpoints(prev, m *config.Mesh) map[config.ServiceID]bool {
	changed := map[config.ServiceID]bool{}
	for before, after := range m.Endpoints.Changed(prev.Endpoints) {
		if before != nil {
			changed[before.ID] = true
		}
		if after != nil {
			changed[after.ID] = true
		}
	}
	return changed
}

// refresh is one step from a Mesh to the next.
type refresh struct {
	cache       *Cache
	mesh, prev  *config.Mesh
	arrangement Arrangement
	changed     map[config.ServiceID]bool // endpoints
	start       time.Time

	mu     sync.Mutex
	states map[translate.Class]*classState
}

// demand is a class with the viewers that its proxies have.
type demand struct {
	class translate.Class
	slot  *slot // nil if it is new
	prev  *classState
	// viewers are those to assign endpoints for.
	viewers map[translate.Viewer]bool
	// before are the assignments of prev.
	before map[translate.Viewer]*layer
}

// run builds what the present proxies need, outside the lock, until nothing
// is missing for those that have come in the meantime; then it commits.
func (r *refresh) run() {
	c := r.cache
	c.mu.Lock()
	for {
		todo := r.demands()
		if len(todo) == 0 {
			break
		}
		c.mu.Unlock()
		r.build(todo)
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	c.mesh, c.arrangement = r.mesh, r.arrangement
	r.commit()
}

// demands lists what is not built yet. c.mu is held.
func (r *refresh) demands() []*demand {
	c := r.cache
	need := map[translate.Class]*demand{}
	want := func(class translate.Class, v translate.Viewer) {
		if s := r.states[class]; s != nil && s.serves(s.resources.viewer(v)) {
			return
		}
		d := need[class]
		if d == nil {
			d = &demand{class: class, slot: c.slots[class], viewers: map[translate.Viewer]bool{}}
			if d.slot != nil {
				d.prev, d.before = d.slot.state, maps.Clone(d.slot.state.assignments)
			}
			need[class] = d
		}
		d.viewers[v] = true
	}
	for s := range c.seats {
		for _, class := range r.arrangement.Classes(s.proxy) {
			want(class, s.viewer)
		}
	}
	now := time.Now()
	for class, s := range c.slots {
		if s.users == 0 && now.Sub(s.idle) < idleGrace {
			if len(s.state.assignments) == 0 {
				want(class, translate.Viewer{})
			}
			for v := range s.state.assignments {
				want(class, v)
			}
		}
	}
	out := make([]*demand, 0, len(need))
	for _, d := range need {
		out = append(out, d)
	}
	return out
}

func (r *refresh) build(todo []*demand) {
	var wg sync.WaitGroup
	for _, d := range todo {
		// Acquire fails only when its context ends.
		_ = r.cache.translating.Acquire(context.Background(), 1)
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer r.cache.translating.Release(1)
			r.buildOne(d)
		}()
	}
	wg.Wait()
}

func (r *refresh) buildOne(d *demand) {
	r.mu.Lock()
	state := r.states[d.class]
	r.mu.Unlock()
	if state == nil {
		var rejected *[kinds]map[string]*rejection
		if d.slot != nil {
			rejected = &d.slot.rejected // written by Run's goroutine only
		}
		state = r.cache.buildClass(r.arrangement, d.class, d.prev, rejected)
	}
	made := map[translate.Viewer]*layer{}
	for v := range d.viewers {
		v = state.resources.viewer(v)
		if _, ok := made[v]; ok {
			continue
		}
		var before *assigned
		if l, ok := d.before[v]; ok {
			before = &assigned{d.prev.resources.Endpoints, l}
		}
		made[v] = r.cache.assign(state.resources.Endpoints, r.mesh, v, before, r.changed)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for v, l := range made {
		state.assign(v, l)
	}
	r.states[d.class] = state
}

// commit puts the new states into service and offers the views that differ.
// Slots that have none go, also those that proxies are about to leave: what is
// made of their next state would take this Mesh for the one of their last.
// c.mu is held.
func (r *refresh) commit() {
	c := r.cache
	for class, s := range c.slots {
		if state := r.states[class]; state != nil {
			s.state = state
		} else {
			delete(c.slots, class)
		}
	}
	for class, state := range r.states {
		if c.slots[class] == nil {
			c.slots[class] = &slot{class: class, state: state, idle: time.Now()}
		}
	}
	for s := range c.seats {
		a := c.audience(r.arrangement.Classes(s.proxy), s.viewer)
		if a != s.audience {
			c.leave(s)
			s.audience = a
			a.seats[s] = struct{}{}
		}
	}
	for _, s := range c.slots {
		s.forgive()
	}
	c.countRejections()
	c.wakeForSecrets(r.mesh)
	c.wakeForNames()
	c.publish(c.ring.begin(r.mesh, r.prev, r.start))
}

// takeEndpoints brings a Mesh into service that differs in endpoints only: no
// scope is gathered, and only the assignments of the services that changed
// are made anew.
func (c *Cache) takeEndpoints(m, prev *config.Mesh, start time.Time) {
	changed := changedEndpoints(prev, m)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mesh = m
	c.wakeForSecrets(m)
	if named(m, changed) {
		c.wakeForNames()
	}
	if len(changed) == 0 {
		return
	}
	for _, s := range c.slots {
		for v, l := range s.state.assignments {
			s.state.assignments[v] = c.reassign(s.state.resources, m, v, l, changed)
		}
	}
	c.publish(c.ring.begin(m, prev, start))
}

// reassign is assign for unchanged specs.
func (c *Cache) reassign(of *resources, m *config.Mesh, v translate.Viewer, before *layer, changed map[config.ServiceID]bool) *layer {
	with := map[int]*translate.Resource{}
	for id := range changed {
		for _, i := range of.specsOf(id) {
			spec := &of.Endpoints[i]
			j := before.index(spec.Cluster)
			r := c.endpoints(spec, m, v)
			if j < 0 || r == nil {
				return c.assign(of.Endpoints, m, v, &assigned{of.Endpoints, before}, changed)
			}
			with[j] = r
		}
	}
	if len(with) == 0 {
		return before
	}
	return succeed(before, before.replacing(with))
}

// publish offers every audience its newest view where it differs. ch is the
// change that brings it about, nil if it is none of the mesh. c.mu is held.
func (c *Cache) publish(ch *change) {
	now := time.Now()
	c.metrics.inService(c.mesh)
	for _, a := range c.audiences {
		next := a.look(c.mesh.Sequence, now)
		switch {
		case next.same(a.view):
			next = a.view
		case next.layers[clusters] != a.view.layers[clusters] || next.layers[listeners] != a.view.layers[listeners]:
			c.past.offer(next)
		}
		a.view = next
		for s := range a.seats {
			if !next.same(s.offered()) {
				s.offer(next, ch)
			}
		}
	}
	if ch != nil {
		c.ring.published(ch)
	}
}

// sweep drops classes that no proxy has had for a while.
func (c *Cache) sweep(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for class, s := range c.slots {
		if s.users == 0 && now.Sub(s.idle) >= idleGrace {
			delete(c.slots, class)
			continue
		}
		c.dropViewers(s)
	}
}

// dropViewers forgets assignments that no audience has. c.mu is held.
func (c *Cache) dropViewers(s *slot) {
	if s.users == 0 {
		return
	}
	used := map[translate.Viewer]bool{}
	for _, a := range c.audiences {
		for i := range a.slots {
			if a.slots[i] == s {
				used[a.viewers[i]] = true
			}
		}
	}
	for v := range s.state.assignments {
		if !used[v] {
			delete(s.state.assignments, v)
		}
	}
}

func sortProblems(list []config.Problem) {
	sort.Slice(list, func(i, j int) bool {
		if list[i].Object != list[j].Object {
			return list[i].Object.Less(list[j].Object)
		}
		return list[i].String() < list[j].String()
	})
}
