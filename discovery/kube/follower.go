package kube

import (
	"context"
	"fmt"
	"math"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// reader makes a discovery.Object with the given Meta of an object of the API
// server. It may change both and keep parts of them. No object means that the
// mesh has no use for it or, with Problems, that its content cannot be read:
// what was applied before then stays.
type reader func(config.Meta, runtime.Object) (*discovery.Object, []config.Problem)

// item is one object as a follower read it.
type item struct {
	key config.Key
	// version is the object's resourceVersion.
	version string
	// known: this very version has been seen before, so the rest is not filled
	// in.
	known    bool
	object   *discovery.Object
	problems []config.Problem
}

// useless: the mesh is not made of it.
func (it *item) useless() bool { return !it.known && it.object == nil && len(it.problems) == 0 }

// GetObjectMeta lets client-go's stores tell items apart.
func (it *item) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: it.key.Namespace, Name: it.key.Name, ResourceVersion: it.version}
}

// follower receives the objects of one kind from a reflector and puts what
// changed among the pending. Only the reflector's goroutine calls its methods.
type follower struct {
	kind    config.Key // its group and kind
	read    reader
	pending *pending
	// gone, unless nil, is told of each object that ends.
	gone func(config.Key)
	// seen are the objects of the last list and the events since: what a new
	// list lacks has gone, and what it holds unchanged is not read again.
	seen    map[config.Key]sight
	synced  chan struct{} // closed when the first list is pending
	settled bool          // synced is closed
}

// sight is what a follower remembers of an object.
type sight struct {
	version string // its resourceVersion
	put     bool   // among the pending, some time: the Store may know it
}

var _ cache.TransformingStore = (*follower)(nil)

func newFollower(kind config.Key, read reader, p *pending) *follower {
	return &follower{kind: kind, read: read, pending: p, seen: map[config.Key]sight{}, synced: make(chan struct{})}
}

// A server that is back after a long time is noticed within the largest
// backoff; client-go's own goes up to a minute.
var backoff = wait.Backoff{Duration: 200 * time.Millisecond, Cap: 3 * time.Second, Steps: math.MaxInt32, Factor: 2, Jitter: 0.5}

// reflect makes store follow r until ctx ends.
func reflect(ctx context.Context, r resource, store cache.ReflectorStore, h *health) {
	logger, b := klog.FromContext(ctx), backoff
	cache.NewReflectorWithOptions(watched{r.listWatch(), r.name, h}, nil, store, cache.ReflectorOptions{
		Logger: &logger, Name: r.name, TypeDescription: r.name, Backoff: &b, Clock: &endingClock{ctx: ctx},
	}).RunWithContext(ctx)
}

// Transformer makes the reflector's own stores hold items, which are small.
func (f *follower) Transformer() cache.TransformFunc {
	return func(o any) (any, error) { return f.item(o) }
}

// item reads an object, unless that was done already.
func (f *follower) item(o any) (*item, error) {
	if it, ok := o.(*item); ok {
		return it, nil
	}
	raw, ok := o.(runtime.Object)
	if !ok {
		return nil, fmt.Errorf("a watch of %s brought a %T", f.kind.Kind, o)
	}
	acc, err := meta.Accessor(o)
	if err != nil {
		return nil, err
	}
	it := &item{key: f.keyOf(acc), version: acc.GetResourceVersion()}
	if it.known = f.seen[it.key].version == it.version; it.known {
		return it, nil
	}
	it.object, it.problems = f.read(newMeta(it.key, acc), raw)
	return it, nil
}

func (f *follower) keyOf(o metav1.Object) config.Key {
	return config.Key{Group: f.kind.Group, Kind: f.kind.Kind, Namespace: o.GetNamespace(), Name: o.GetName()}
}

// Add implements cache.ReflectorStore.
func (f *follower) Add(o any) error { return f.Update(o) }

// Update implements cache.ReflectorStore.
func (f *follower) Update(o any) error {
	it, err := f.item(o)
	if err != nil {
		return err
	}
	var s step
	f.seen[it.key] = f.look(it, &s)
	f.pending.put(s)
	return nil
}

// Delete implements cache.ReflectorStore.
func (f *follower) Delete(o any) error {
	acc, err := meta.Accessor(o)
	if err != nil {
		return err
	}
	key := f.keyOf(acc)
	was := f.seen[key]
	delete(f.seen, key)
	f.ended(key)
	if was.put {
		f.pending.put(step{gone: []config.Key{key}})
	}
	return nil
}

// Replace implements cache.ReflectorStore: a complete list, the first or one
// after a gap.
func (f *follower) Replace(list []any, _ string) error {
	var s step
	now := make(map[config.Key]sight, len(list))
	for _, o := range list {
		it, err := f.item(o)
		if err != nil {
			return err
		}
		now[it.key] = f.look(it, &s)
	}
	for key, was := range f.seen {
		if _, still := now[key]; still {
			continue
		}
		f.ended(key)
		if was.put {
			s.gone = append(s.gone, key)
		}
	}
	f.seen = now
	f.pending.put(s)
	f.settle()
	return nil
}

func (f *follower) ended(key config.Key) {
	if f.gone != nil {
		f.gone(key)
	}
}

// look adds to s what an item changes, and returns what to remember of it.
func (f *follower) look(it *item, s *step) sight {
	was := f.seen[it.key]
	switch {
	case it.known:
		return was
	case !it.useless():
		s.items = append(s.items, it)
		return sight{it.version, true}
	case was.put:
		s.gone = append(s.gone, it.key)
	}
	return sight{it.version, false}
}

// Resync implements cache.ReflectorStore; nothing here asks for it.
func (f *follower) Resync() error { return nil }

// clear ends every object.
func (f *follower) clear() { _ = f.Replace(nil, "") }

// reread makes the next list count as new in every object.
func (f *follower) reread() {
	for key, s := range f.seen {
		f.seen[key] = sight{put: s.put}
	}
}

func (f *follower) settle() {
	if !f.settled {
		f.settled = true
		close(f.synced)
	}
}

// endingClock is the real clock, but its waits end with ctx: the reflector
// waits out its backoff without looking.
type endingClock struct {
	clock.RealClock
	ctx context.Context
}

// After implements clock.Clock.
func (c *endingClock) After(d time.Duration) <-chan time.Time {
	out := make(chan time.Time, 2) // room for both
	stop := context.AfterFunc(c.ctx, func() { out <- time.Now() })
	time.AfterFunc(d, func() {
		stop()
		out <- time.Now()
	})
	return out
}
