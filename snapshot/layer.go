package snapshot

import (
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// layer is what one class of proxies is offered of one kind: an immutable set
// of resources, sorted by name. A proxy is served one layer a class, and
// their names are disjoint. The nil layer is empty. Along one class's history
// equal content is one pointer, so that comparing pointers tells whether
// there is anything to send.
type layer struct {
	kind  kind
	items []*translate.Resource
	// hash identifies the layer, version its items alone: what a client has that
	// was sent all of them.
	hash, version config.Hash
	// withheld are names, sorted, of which no acceptable version is known:
	// they are not sent, and not taken from a client that has one.
	withheld []string
	// stale: some item is an older version, or some name is withheld, because
	// proxies rejected the newest.
	stale bool
	// accepted has a bit for each item that some proxy has acknowledged.
	accepted []atomic.Uint32
	// next is the layer that followed this one, so that what a proxy says late
	// about this one is known there too.
	next atomic.Pointer[layer]

	// table finds names; see find.
	tabulate sync.Once
	table    []uint32

	mu sync.Mutex
	// good holds, for names whose present version no proxy has accepted yet,
	// the last one that some proxy did.
	good map[string]*translate.Resource
	// batches are the encoded steps towards this layer, shared by all streams
	// that take them.
	batches map[batchKey]*batch
}

// newLayer makes a layer of items, which are sorted by name and distinct.
func newLayer(k kind, items []*translate.Resource, withheld []string) *layer {
	l := &layer{
		kind: k, items: items, withheld: withheld, stale: len(withheld) > 0,
		accepted: make([]atomic.Uint32, (len(items)+31)/32),
	}
	if k == endpoints {
		for _, r := range items {
			l.hash += sumOf(r)
		}
		l.version = l.hash
		return l
	}
	h := config.NewHasher()
	for _, r := range items {
		h.Str(r.Name).Hash(r.Version)
	}
	l.version = h.Sum()
	for _, n := range withheld {
		h.Str(n)
	}
	l.hash = h.Sum()
	return l
}

// sumOf is a resource's part of the hash of an endpoints' layer, which is a sum:
// a change of one of thousands must not cost a look at all of them.
func sumOf(r *translate.Resource) config.Hash {
	return config.NewHasher().Str(r.Name).Hash(r.Version).Sum()
}

// replacing is l with other items of the same names at some places. l is an
// endpoints' layer.
func (l *layer) replacing(with map[int]*translate.Resource) *layer {
	next := &layer{
		kind: l.kind, items: slices.Clone(l.items), hash: l.hash,
		accepted: make([]atomic.Uint32, len(l.accepted)),
	}
	for i, r := range with {
		next.hash += sumOf(r) - sumOf(l.items[i])
		next.items[i] = r
	}
	next.version = next.hash
	return next
}

func (l *layer) all() []*translate.Resource {
	if l == nil {
		return nil
	}
	return l.items
}

// index returns the place of a name, or -1.
func (l *layer) index(name string) int {
	items := l.all()
	i := sort.Search(len(items), func(i int) bool { return items[i].Name >= name })
	if i < len(items) && items[i].Name == name {
		return i
	}
	return -1
}

// get returns the resource of a name, or nil.
func (l *layer) get(name string) *translate.Resource {
	if i := l.index(name); i >= 0 {
		return l.items[i]
	}
	return nil
}

func (l *layer) withholds(name string) bool {
	if l == nil {
		return false
	}
	_, found := slices.BinarySearch(l.withheld, name)
	return found
}

// accept records that a proxy has acknowledged a resource, which is or was
// in the layer.
func (l *layer) accept(r *translate.Resource) {
	for ; l != nil; l = l.next.Load() {
		i := l.index(r.Name)
		switch {
		case i >= 0 && l.items[i].Version == r.Version:
			l.setAccepted(i)
		case i >= 0 && !l.isAccepted(i), l.withholds(r.Name):
			l.keep(r)
		}
	}
}

func (l *layer) setAccepted(i int) { l.accepted[i/32].Or(1 << (i % 32)) }

func (l *layer) isAccepted(i int) bool { return l.accepted[i/32].Load()&(1<<(i%32)) != 0 }

func (l *layer) keep(r *translate.Resource) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.good == nil {
		l.good = map[string]*translate.Resource{}
	}
	l.good[r.Name] = r
}

// lastGood returns the version of a name that some proxy of the class has
// accepted last, or nil.
func (l *layer) lastGood(name string) *translate.Resource {
	if l == nil {
		return nil
	}
	if i := l.index(name); i >= 0 && l.isAccepted(i) {
		return l.items[i]
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.good[name]
}

// follow makes l the layer after prev: it takes over what is known about
// acceptance, and is told what becomes known.
func (l *layer) follow(prev *layer) {
	if prev == nil {
		return
	}
	prev.next.Store(l)
	// After the Store, so that an acknowledgement either finds l or is found
	// here.
	walk(prev, l, func(before, after int) {
		switch {
		case before < 0 || after < 0: // new, or removed: then its next version starts afresh
		case prev.items[before].Version == l.items[after].Version && prev.isAccepted(before):
			l.setAccepted(after)
		default:
			if r := prev.lastGood(l.items[after].Name); r != nil {
				l.accept(r)
			}
		}
	})
	for _, n := range l.withheld {
		if r := prev.lastGood(n); r != nil {
			l.keep(r)
		}
	}
}

// walk visits every name of either layer in order with its places, -1 where
// it is absent.
func walk(a, b *layer, visit func(i, j int)) {
	x, y := a.all(), b.all()
	i, j := 0, 0
	for i < len(x) || j < len(y) {
		switch {
		case j == len(y) || (i < len(x) && x[i].Name < y[j].Name):
			visit(i, -1)
			i++
		case i == len(x) || y[j].Name < x[i].Name:
			visit(-1, j)
			j++
		default:
			visit(i, j)
			i++
			j++
		}
	}
}

// difference is what brings a client from one layer to another.
type difference struct {
	send []*translate.Resource // new or changed
	// fresh are the names among send that the client did not have.
	fresh []string
	gone  []*translate.Resource
}

func diff(from, to *layer) difference {
	var d difference
	if from == to {
		return d
	}
	walk(from, to, func(i, j int) {
		switch {
		case i < 0:
			d.send = append(d.send, to.items[j])
			d.fresh = append(d.fresh, to.items[j].Name)
		case j < 0:
			if !to.withholds(from.items[i].Name) {
				d.gone = append(d.gone, from.items[i])
			}
		case from.items[i].Version != to.items[j].Version:
			d.send = append(d.send, to.items[j])
		}
	})
	if from != nil {
		for _, n := range from.withheld {
			if to.index(n) < 0 && !to.withholds(n) {
				d.gone = append(d.gone, &translate.Resource{Name: n})
			}
		}
	}
	return d
}

// batchKey names one step that streams take towards a layer.
type batchKey struct {
	from weak.Pointer[layer] // zero: from nothing
	// only limits the step to some names; zero means all.
	only weak.Pointer[names]
	// limited tells "the names of only" from "all" when only is empty.
	limited bool
}

// maxBatches bounds the steps that one layer remembers.
const maxBatches = 64

// between returns the step from one layer to another, limited to the names of
// only unless all is true.
func between(from, to *layer, all bool, only *names) *batch {
	if from == to || to == nil && from == nil {
		return nil
	}
	if to == nil {
		return newBatch(from.kind, limit(diff(from, to), all, only))
	}
	key := batchKey{limited: !all}
	if from != nil {
		key.from = weak.Make(from)
	}
	if !all && only != nil {
		key.only = weak.Make(only)
	}
	to.mu.Lock()
	defer to.mu.Unlock()
	if b, ok := to.batches[key]; ok {
		return b
	}
	if to.batches == nil || len(to.batches) >= maxBatches {
		to.batches = map[batchKey]*batch{}
	}
	b := newBatch(to.kind, limit(diff(from, to), all, only))
	to.batches[key] = b
	return b
}

func limit(d difference, all bool, only *names) difference {
	if all {
		return d
	}
	out := func(r *translate.Resource) bool { return !only.has(r.Name) }
	d.send = slices.DeleteFunc(d.send, out)
	d.gone = slices.DeleteFunc(d.gone, out)
	d.fresh = slices.DeleteFunc(d.fresh, func(n string) bool { return !only.has(n) })
	return d
}
