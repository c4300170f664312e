package snapshot

import (
	"slices"

	"github.com/pilotfish-mesh/pilotfish/translate"
)

// compose queues what the client needs of one kind, and reports whether there
// is anything. What the stream knows about the client is afterwards as if it
// had arrived.
func (s *stream) compose(k kind) bool {
	f := &s.feeds[k]
	switch {
	case s.complete(k):
		return s.composeComplete(k)
	case len(f.split) > 0:
		return s.composeSplit(k)
	}
	now := s.now(k)
	if f.have == now && f.force.len() == 0 && !f.owed {
		return false
	}
	batches, gone := s.steps(f, &now)
	f.hold(gone, &now)
	f.forget(&now)
	absent, late := s.absent(k, f, &now)
	if len(late) > 0 {
		batches = append(batches, newBatch(k, difference{send: late}))
	}
	s.follow(k, s.view, batches)
	owed, step := f.owed, response{before: f.have, after: now}
	f.have, f.force, f.owed = now, nil, false
	return s.enqueue(k, step, batches, absent, owed)
}

// absent returns the names that the client has just asked for and that do not
// exist. Endpoints of a cluster that it was sent a moment ago, and that is gone
// since, are not among them but late: Envoy holds back its acknowledgement of
// the clusters until they are ready for use.
func (s *stream) absent(k kind, f *feed, now *layers) (absent []string, late []*translate.Resource) {
	for _, name := range f.force.all() {
		if !f.wants(name) || now.get(name) != nil || now.withholds(name) || f.holds(name) && k != endpoints {
			continue
		}
		if r := s.late(k, name); r != nil {
			late = append(late, r)
			continue
		}
		absent = append(absent, name)
	}
	return absent, late
}

// late are the endpoints of a cluster that the client was sent a moment ago.
func (s *stream) late(k kind, name string) *translate.Resource {
	if k != endpoints {
		return nil
	}
	if s.clustersFrom != nil {
		if r := s.clustersFrom.layers[k].get(name); r != nil {
			return r
		}
	}
	for _, before := range s.endpointsBefore {
		if r := before.get(name); r != nil {
			return r
		}
	}
	return nil
}

// steps returns what leads from what the client has to now, with what it no
// longer should have. Shared steps are used where the client is like others.
func (s *stream) steps(f *feed, now *layers) (batches []*batch, gone []*translate.Resource) {
	own := len(f.refused) > 0
	for i := range now {
		b := between(f.have[i], now[i], f.wildcard, f.only)
		if b != nil {
			gone = append(gone, b.gone...)
		}
		if f.force.len() > 0 && now[i] != nil {
			forced := between(nil, now[i], false, f.force)
			own = own || !b.empty() || forced.fresh != nil && !f.wildcard && !within(f.force, f.only)
			batches = append(batches, b, forced)
			continue
		}
		batches = append(batches, b)
	}
	if own {
		batches = []*batch{s.merge(f, batches)}
	}
	return batches, gone
}

func within(a, b *names) bool {
	if a == b {
		return true
	}
	for _, n := range a.all() {
		if !b.has(n) {
			return false
		}
	}
	return true
}

// merge makes one batch of this stream's own, without repetitions and without
// what the client refused.
func (s *stream) merge(f *feed, batches []*batch) *batch {
	var d difference
	seen := map[string]bool{}
	fresh := map[string]bool{}
	k := clusters
	for _, b := range batches {
		if b == nil {
			continue
		}
		k = b.kind
		for _, r := range b.send {
			if seen[r.Name] || !f.wants(r.Name) || f.refuses(r) {
				continue
			}
			seen[r.Name] = true
			d.send = append(d.send, r)
		}
		for _, n := range b.fresh {
			fresh[n] = true
		}
	}
	for _, r := range d.send {
		if fresh[r.Name] {
			d.fresh = append(d.fresh, r.Name)
		}
	}
	return newBatch(k, d)
}

func (f *feed) refuses(r *translate.Resource) bool {
	v, ok := f.refused[r.Name]
	return ok && v == r.Version
}

func anySent(batches []*batch) bool {
	for _, b := range batches {
		if b != nil && len(b.send) > 0 {
			return true
		}
	}
	return false
}

// hold keeps what is gone until nothing points to it, and lets go of what is
// offered again.
func (f *feed) hold(gone []*translate.Resource, now *layers) {
	if len(f.held) == 0 && len(gone) == 0 {
		return
	}
	f.held = slices.DeleteFunc(append(slices.Clone(f.held), gone...), func(r *translate.Resource) bool {
		return now.get(r.Name) != nil || now.withholds(r.Name) || !f.wants(r.Name)
	})
}

// enqueue makes responses of batches: in pieces of bounded size for delta, in
// one for SotW. owed asks for a response even if it is empty.
func (s *stream) enqueue(k kind, step response, batches []*batch, removed []string, owed bool) bool {
	f := &s.feeds[k]
	limit := s.server.options.ResponseSize
	step.kind, step.version = k, s.version(k)
	next := func() *response { r := step; return &r }
	cur := next()
	size := 0
	for _, b := range batches {
		for _, p := range b.pieces(s.protocol, limit) {
			if size > 0 && size+len(p.wire) > limit && s.protocol == delta {
				f.queue = append(f.queue, cur)
				cur, size = next(), 0
			}
			cur.pieces = append(cur.pieces, p)
			size += len(p.wire)
		}
	}
	if s.protocol == delta {
		cur.removed = removed
	}
	if len(cur.pieces) > 0 || len(cur.removed) > 0 || owed && len(f.queue) == 0 {
		f.queue = append(f.queue, cur)
	}
	return len(f.queue) > 0
}

// composeSplit queues the next group of names whose fate is to be found out.
func (s *stream) composeSplit(k kind) bool {
	f := &s.feeds[k]
	of := s.now(k)
	var group []*translate.Resource
	for _, name := range f.split[0] {
		if r := of.get(name); r != nil && f.wants(name) && !f.refuses(r) {
			group = append(group, r)
		}
	}
	if len(group) == 0 {
		f.split = f.split[1:]
		return s.compose(k)
	}
	b := newBatch(k, difference{send: group})
	s.follow(k, s.view, []*batch{b})
	return s.enqueue(k, response{before: f.have, after: f.have}, []*batch{b}, nil, false)
}
