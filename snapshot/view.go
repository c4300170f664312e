package snapshot

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// classesPerProxy is the most classes that a proxy has.
const classesPerProxy = 2

// layers are a proxy's layers of one kind, one a class.
type layers [classesPerProxy]*layer

// get returns the resource of a name, or nil.
func (l *layers) get(name string) *translate.Resource {
	for _, x := range l {
		if r := x.get(name); r != nil {
			return r
		}
	}
	return nil
}

func (l *layers) withholds(name string) bool {
	for _, x := range l {
		if x.withholds(name) {
			return true
		}
	}
	return false
}

// version identifies the content of all layers.
func (l *layers) version() config.Hash {
	h := config.NewHasher()
	for _, x := range l {
		if x != nil {
			h.Hash(x.version)
		} else {
			h.Hash(0)
		}
	}
	return h.Sum()
}

// view is everything that the proxies of one audience are offered. Immutable.
type view struct {
	sequence uint64    // of the newest Mesh that changed it
	since    time.Time // when it was offered
	layers   [kinds]layers
}

// same reports whether two views offer the same.
func (v *view) same(o *view) bool { return o != nil && v.layers == o.layers }

// audience are the proxies that share one view: equal classes, and nothing
// between them that endpoints depend on.
type audience struct {
	audienceKey
	// view and seats are guarded by Cache.mu.
	view  *view
	seats map[*seat]struct{}
}

type audienceKey struct {
	slots   [classesPerProxy]*slot // the second one may be nil
	viewers [classesPerProxy]translate.Viewer
}

// look makes the audience's view from its classes' states.
func (a *audience) look(sequence uint64, now time.Time) *view {
	v := &view{sequence: sequence, since: now}
	for i, s := range a.slots {
		if s == nil {
			continue
		}
		for k := range kinds {
			v.layers[k][i] = s.state.layers[k]
		}
		v.layers[endpoints][i] = s.state.assignments[a.viewers[i]]
	}
	return v
}

// seat is one connected proxy's place in an audience.
type seat struct {
	proxy  *config.Proxy
	viewer translate.Viewer // all of it
	// wake tells the stream that there is a new view or a new change. It does
	// not block.
	wake func()

	audience *audience // guarded by Cache.mu

	coalesced prometheus.Counter
	secrets   atomic.Bool // the stream has asked for secrets
	names     atomic.Bool // the stream has asked for the name table

	mu      sync.Mutex
	view    *view
	taken   *view     // the last one that the stream took up
	changes []*change // that brought the view about and are not yet settled
	met     bool      // the proxy has had all of some view
	lacks   uint64    // the oldest Mesh of which it may not have everything; 0 for none
}

// take returns the newest view for sending it.
func (s *seat) take() *view {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = s.view
	return s.view
}

// offered returns the newest view.
func (s *seat) offered() *view {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

// offer puts a new view before the proxy.
func (s *seat) offer(v *view, ch *change) {
	s.mu.Lock()
	if s.view != s.taken {
		s.coalesced.Inc()
	}
	s.view = v
	if s.lacks == 0 {
		s.lacks = v.sequence
	}
	if ch != nil && len(s.changes) < keptChanges {
		s.changes = append(s.changes, ch)
		ch.expect()
	}
	s.mu.Unlock()
	s.wake()
}

// settled tells that the proxy has acknowledged everything of a view.
func (s *seat) settled(v *view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.met = true
	n := 0
	for _, ch := range s.changes {
		if s.view != v && ch.value.Sequence > v.sequence {
			break
		}
		ch.reached(s.proxy.ID)
		n++
	}
	switch s.changes = s.changes[n:]; {
	case s.view == v:
		s.changes, s.lacks = nil, 0
	case len(s.changes) > 0:
		s.lacks = s.changes[0].value.Sequence
	default:
		s.lacks = s.view.sequence
	}
}
