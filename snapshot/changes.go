package snapshot

import (
	"sync"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
)

const (
	// keptChanges bounds the ring of recent changes.
	keptChanges = 64
	// keptObjects bounds the objects that one change names.
	keptObjects = 20
	// keptArrivals bounds the proxies that one change lists.
	keptArrivals = 1000
)

// Change is one published Mesh and how it reached the proxies that it
// concerns.
type Change struct {
	Sequence uint64    `json:"sequence"`
	Noticed  time.Time `json:"noticed"` // when the Cache saw the Mesh
	// Objects are what differs from the Mesh before, at most 20 of them;
	// ObjectCount is their number.
	Objects     []config.Key `json:"objects"`
	ObjectCount int          `json:"objectCount"`
	// Proxies is the number of connected proxies that it concerns, Reached how
	// many of them have acknowledged everything (a proxy that left counts as
	// neither).
	Proxies int `json:"proxies"`
	Reached int `json:"reached"`
	// Last is how long after Noticed the last proxy so far acknowledged.
	Last time.Duration `json:"last"`
	// Arrivals are the proxies that acknowledged, in order, at most 1,000.
	Arrivals []Arrival `json:"arrivals,omitempty"`
}

// Arrival is one proxy's acknowledgement of a Change.
type Arrival struct {
	Proxy string        `json:"proxy"`
	After time.Duration `json:"after"` // Change.Noticed
}

// change is a Change in the making.
type change struct {
	mu      sync.Mutex
	value   Change
	onReach func(time.Duration)
}

func (c *change) expect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value.Proxies++
}

func (c *change) reached(proxy string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	after := time.Since(c.value.Noticed)
	c.value.Reached++
	c.value.Last = after
	if len(c.value.Arrivals) < keptArrivals {
		c.value.Arrivals = append(c.value.Arrivals, Arrival{proxy, after})
	}
	if c.onReach != nil {
		c.onReach(after)
	}
}

func (c *change) left() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value.Proxies--
}

// ring holds the most recent changes.
type ring struct {
	onReach func(time.Duration)

	mu   sync.Mutex
	list []*change // oldest first
}

// begin makes the change from prev, which may be nil, to m.
func (r *ring) begin(m, prev *config.Mesh, noticed time.Time) *change {
	ch := &change{onReach: r.onReach, value: Change{Sequence: m.Sequence, Noticed: noticed}}
	if prev != nil {
		ch.value.Objects, ch.value.ObjectCount = changedObjects(prev, m)
	}
	return ch
}

// published shows a change, once it is known whom it concerns.
func (r *ring) published(ch *change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, ch)
	if len(r.list) > keptChanges {
		r.list = append(r.list[:0], r.list[1:]...)
	}
}

func (r *ring) changes() []Change {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Change, 0, len(r.list))
	for i := len(r.list) - 1; i >= 0; i-- {
		ch := r.list[i]
		ch.mu.Lock()
		v := ch.value
		v.Arrivals = append([]Arrival(nil), v.Arrivals...)
		ch.mu.Unlock()
		out = append(out, v)
	}
	return out
}

// abandon takes the seat out of the changes that it has not settled.
func (s *seat) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ch := range s.changes {
		ch.left()
	}
	s.changes = nil
}

// changedObjects lists what differs between two Meshes of one history.
func changedObjects(prev, m *config.Mesh) (keys []config.Key, count int) {
	l := &keyList{}
	if prev.Settings != m.Settings {
		l.add(m.Settings.Key)
	}
	listChanged(l, prev.Services, m.Services, func(o *config.Service) config.Key { return o.Key })
	listChanged(l, prev.Endpoints, m.Endpoints, func(o *config.Endpoints) config.Key {
		return config.Key{Kind: "Endpoints", Namespace: o.ID.Namespace, Name: o.ID.Hostname}
	})
	listChanged(l, prev.Workloads, m.Workloads, func(o *config.Workload) config.Key { return o.Key })
	listChanged(l, prev.Namespaces, m.Namespaces, func(o *config.Namespace) config.Key { return o.Key })
	listChanged(l, prev.Secrets, m.Secrets, func(o *config.Secret) config.Key { return o.Key })
	listChanged(l, prev.ConfigMaps, m.ConfigMaps, func(o *config.ConfigMap) config.Key { return o.Key })
	for before, after := range m.ChangedObjects(prev) {
		if after != nil {
			l.add(after.Key)
		} else {
			l.add(before.Key)
		}
	}
	return l.keys, l.count
}

type keyList struct {
	keys  []config.Key
	count int
}

func (l *keyList) add(k config.Key) {
	l.count++
	if len(l.keys) < keptObjects {
		l.keys = append(l.keys, k)
	}
}

func listChanged[T interface {
	config.Keyed
	comparable
}](l *keyList, prev, now config.Index[T], key func(T) config.Key) {
	var zero T
	for before, after := range now.Changed(prev) {
		if after != zero {
			l.add(key(after))
		} else {
			l.add(key(before))
		}
	}
}
