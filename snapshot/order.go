package snapshot

import (
	"time"

	"github.com/pilotfish-mesh/pilotfish/translate"
)

// next returns the next response to send, or nil if there is nothing to send
// now. s.mu is held.
func (s *stream) next(now time.Time) *response {
	if r := s.look(now); r != nil {
		return r
	}
	for k := range kinds {
		f := &s.feeds[k]
		if !f.open {
			continue
		}
		if len(f.queue) == 0 {
			if !s.free(k, now) || s.waits(k, now) || !s.compose(k) {
				continue
			}
			if len(f.sent) > 0 {
				s.server.metrics.unanswered(k)
			}
		}
		r := f.queue[0]
		f.queue = f.queue[1:]
		return r
	}
	return s.release(now)
}

// look takes up what the seat offers: endpoints and secrets at once, the rest
// as one step that ends before the next one begins. If a new step began while
// routes still wait for their clusters, they would wait for its clusters too,
// under churn until patience ends. What the ended step left to take away goes
// before the next step; look returns that.
func (s *stream) look(now time.Time) *response {
	if v := s.seat.take(); v != s.newest {
		s.server.metrics.queue.Observe(now.Sub(v.since).Seconds())
		s.newest = v
	}
	switch {
	case s.view == s.newest:
	case s.stepped():
		r := s.release(now)
		if r != nil {
			return r
		}
		s.view = s.newest
	case s.overdue(clusters, now):
		s.view = s.newest // which may have what the client waits for
	}
	return nil
}

// stepped reports whether all of the present step has been sent.
func (s *stream) stepped() bool {
	for k := range kinds {
		f := &s.feeds[k]
		if k != endpoints && k != secrets && f.open && (f.have != s.now(k) || len(f.queue) > 0) {
			return false
		}
	}
	return true
}

// free reports whether the next step of a kind may be sent: a client has one
// in flight, and what happens meanwhile is sent as one. A client that does not
// answer is sent to all the same, later.
func (s *stream) free(k kind, now time.Time) bool {
	return len(s.feeds[k].sent) == 0 || s.overdue(k, now)
}

// overdue reports whether an answer has not come for so long that it is no
// longer waited for.
func (s *stream) overdue(k kind, now time.Time) bool {
	sent := s.feeds[k].sent
	return len(sent) > 0 && now.Sub(sent[len(sent)-1].at) >= s.patience(k)
}

func (s *stream) patience(k kind) time.Duration {
	if k == clusters {
		return min(s.server.options.WarmTimeout, s.server.options.AckTimeout)
	}
	return s.server.options.AckTimeout
}

// waits reports whether a kind has to wait for the client: listeners and
// routes must not point to clusters that it has not taken up yet. A new
// cluster is ready for use only when its endpoints have followed it, for
// which the client asks; so that is waited for too, but not for ever.
func (s *stream) waits(k kind, now time.Time) bool {
	c, f := &s.feeds[clusters], &s.feeds[k]
	if k != listeners && k != routes || !c.wildcard {
		return false
	}
	if !s.blocked() {
		s.waitSince = time.Time{}
		return false
	}
	if f.have == s.now(k) && f.force.len() == 0 && !f.owed {
		return true // nothing to send anyway
	}
	if s.waitSince.IsZero() {
		s.waitSince = now
	}
	if now.Sub(s.waitSince) < s.server.options.OrderTimeout {
		return true
	}
	s.server.metrics.outOfOrder.Inc()
	s.warming = nil
	return false
}

// blocked reports whether clusters are on their way to being ready.
func (s *stream) blocked() bool {
	if !s.feeds[clusters].answered() || s.judging > 0 {
		return true
	}
	e := &s.feeds[endpoints]
	if s.warming.len() == 0 {
		return false
	}
	if e.wildcard || within(s.warming, e.only) {
		s.warming = nil // next sends endpoints before listeners and routes
		return false
	}
	return true
}

// follow notes what sending clusters of a view entails. A proxy that adds or changes a
// cluster needs its endpoints again, even unchanged ones, before it takes the
// cluster into use (warming).
func (s *stream) follow(k kind, v *view, batches []*batch) {
	e := &s.feeds[endpoints]
	if k != clusters {
		return
	}
	s.clustersFrom = v
	if !e.open && !s.feeds[clusters].used {
		return
	}
	var again, fresh []string
	assigned := &v.layers[endpoints]
	for _, b := range batches {
		if b == nil {
			continue
		}
		for _, r := range b.send {
			switch {
			case assigned.get(r.Name) == nil:
			case e.wants(r.Name):
				again = append(again, r.Name)
			default:
				fresh = append(fresh, r.Name)
			}
		}
	}
	e.force = s.names().with(e.force, again)
	s.warming = s.names().with(s.warming, fresh)
}

// cool forgets that clusters were to become ready: they never will.
func (s *stream) cool(gone []*translate.Resource) {
	if s.warming.len() == 0 {
		return
	}
	var list []string
	for _, r := range gone {
		list = append(list, r.Name)
	}
	s.warming = s.names().without(s.warming, list)
}

// release takes away what is held and no longer pointed to: one response, or
// nil if there is none to send now.
func (s *stream) release(now time.Time) *response {
	for _, k := range removalOrder {
		f := &s.feeds[k]
		if len(f.held) == 0 || !s.released(k, now) {
			continue
		}
		if s.complete(k) {
			f.letGo = true
			if s.compose(k) {
				r := f.queue[0]
				f.queue = f.queue[1:]
				return r
			}
			continue
		}
		gone := s.takeHeld(k)
		if s.protocol != delta {
			continue
		}
		removed := make([]string, 0, len(gone))
		for _, r := range gone {
			if f.wants(r.Name) {
				removed = append(removed, r.Name)
			}
		}
		if len(removed) > 0 {
			return &response{kind: k, removed: removed, version: s.version(k)}
		}
	}
	return nil
}

// takeHeld takes what is held, but for what the next step offers again.
func (s *stream) takeHeld(k kind) (gone []*translate.Resource) {
	f := &s.feeds[k]
	var left []*translate.Resource
	for _, r := range f.held {
		if s.view != s.newest && s.newest.layers[k].get(r.Name) != nil {
			left = append(left, r)
		} else {
			gone = append(gone, r)
			f.pardon(r.Name)
		}
	}
	f.held = left
	if k == clusters {
		s.cool(gone)
	}
	return gone
}

// released reports whether a kind's removals may go out: what points to it
// has been acknowledged as it now is.
func (s *stream) released(k kind, now time.Time) bool {
	f := &s.feeds[k]
	if f.have != s.now(k) || len(f.queue) > 0 || !s.free(k, now) || s.judging > 0 {
		return false
	}
	if !(s.feeds[listeners].open && s.feeds[routes].open) && now.Sub(s.resumed) < s.server.options.OrderTimeout {
		return false // a reconnected client will still say which it has
	}
	switch k {
	case listeners:
		return s.feeds[routes].settled(s.now(routes))
	case routes, extensions:
		return s.quiet(listeners) && s.unreferenced(k)
	case clusters:
		return s.quiet(listeners) && s.quiet(routes) && s.unreferenced(k)
	case endpoints:
		return s.view == s.newest && s.quiet(clusters)
	}
	return true
}

func (s *stream) quiet(k kind) bool {
	f := &s.feeds[k]
	return f.settled(s.now(k)) && len(f.held) == 0
}

// unreferenced reports whether no listener or route that the client may still
// use points to something held. Settled feeds prove that, unless old versions
// are in service because newer ones were rejected.
func (s *stream) unreferenced(k kind) bool {
	held := s.feeds[k].held
	for _, from := range [...]kind{listeners, routes} {
		f := &s.feeds[from]
		if s.complete(from) {
			if !f.leadsOnlyElsewhere(k, held) {
				return false
			}
			continue
		}
		f.forget(&s.view.layers[from])
		for _, l := range s.view.layers[from] {
			if l == nil || !l.stale && len(f.refused) == 0 {
				continue
			}
			if len(l.withheld) > 0 || len(f.refused) > 0 {
				return false // what the client has instead is not known
			}
			for _, r := range l.items {
				if pointsTo(r, k, held) {
					return false
				}
			}
		}
	}
	return true
}

// refs are the names of a kind that a listener or a route points to.
func refs(r *translate.Resource, k kind) []string {
	switch k {
	case routes:
		return r.Refs.Routes
	case extensions:
		return nil
	}
	return r.Refs.Clusters
}

func pointsTo(r *translate.Resource, k kind, held []*translate.Resource) bool {
	for _, ref := range refs(r, k) {
		for _, h := range held {
			if h.Name == ref {
				return true
			}
		}
	}
	return false
}
