package serve

import (
	"slices"
	"sync"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// keptVersions bounds what is remembered of one object's versions.
const keptVersions = 8

// lineage remembers since which Mesh each object of Istio's API has its
// versions.
type lineage struct {
	mu   sync.Mutex
	mesh *config.Mesh
	of   map[config.Key][]objectVersion // oldest first
}

// objectVersion is one version of an object in effect.
type objectVersion struct {
	sequence uint64 // of the first Mesh that has it
	meta     *config.Meta
	// since is when it came into effect; zero for those of the first Mesh.
	since time.Time
}

// follow takes the next Mesh in effect.
func (l *lineage) follow(m *config.Mesh) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = map[config.Key][]objectVersion{}
	}
	var now time.Time
	if l.mesh != nil {
		now = time.Now()
	}
	for before, after := range m.ChangedObjects(l.mesh) {
		if after == nil {
			delete(l.of, before.Key)
			continue
		}
		list := l.of[after.Key]
		if len(list) >= keptVersions {
			list = slices.Clone(list[1:])
		}
		l.of[after.Key] = append(list, objectVersion{m.Sequence, after, now})
	}
	l.mesh = m
}

func (l *lineage) versions(key config.Key) []objectVersion {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of[key]
}

// newest calls f for each object with its version in effect.
func (l *lineage) newest(f func(config.Key, objectVersion)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, versions := range l.of {
		f(key, versions[len(versions)-1])
	}
}

// Held is which version of an object one proxy has.
type Held struct {
	Proxy *config.Proxy
	// Newest: it has acknowledged all that was made of the version in effect, or
	// nothing is made of it for this proxy.
	Newest bool
	// Generation is that of the version that it has; 0 if it has none, or an
	// older one than is remembered, and for objects of files.
	Generation int64
}

// Distribution is how far the connected proxies are at one moment.
type Distribution struct {
	reached []snapshot.Reach
	through []uint64 // how far they are, sorted
	older   []int    // places of those that have something older, since it was rejected
	lineage *lineage
	refused func(*config.Meta) bool
}

// Distribution says how far the proxies that are connected to this replica are.
func (p *Plane) Distribution() *Distribution {
	d := &Distribution{reached: p.Server.Reached(), lineage: &p.lineage, refused: p.Server.Refused}
	for i := range d.reached {
		d.through = append(d.through, d.reached[i].Sequence)
		if len(d.reached[i].Older) > 0 {
			d.older = append(d.older, i)
		}
	}
	slices.Sort(d.through)
	return d
}

// Proxies is the number of connected proxies.
func (d *Distribution) Proxies() int { return len(d.reached) }

// Of says which version of an object each proxy has, by proxy id, and which one
// is in effect. That can be an older one than the API server's: see
// translate.Effect, and discovery.Validator. It is nil if none is.
func (d *Distribution) Of(key config.Key) (effective *config.Meta, held []Held) {
	versions := d.lineage.versions(key)
	if len(versions) == 0 {
		return nil, nil
	}
	for i := range d.reached {
		generation, newest := d.heldBy(&d.reached[i], key, versions)
		held = append(held, Held{d.reached[i].Proxy, newest, generation})
	}
	return versions[len(versions)-1].meta, held
}

// Holders is the number of proxies that have the version in effect, and that
// version; nil if none is.
func (d *Distribution) Holders(key config.Key) (effective *config.Meta, n int) {
	versions := d.lineage.versions(key)
	if len(versions) == 0 {
		return nil, 0
	}
	newest := versions[len(versions)-1]
	return newest.meta, d.holders(key, newest)
}

func (d *Distribution) holders(key config.Key, v objectVersion) int {
	first, _ := slices.BinarySearch(d.through, v.sequence)
	n := len(d.through) - first
	for _, i := range d.older {
		if _, rejected := d.reached[i].Older[key]; rejected && d.reached[i].Sequence >= v.sequence {
			n--
		}
	}
	return n
}

func (d *Distribution) heldBy(r *snapshot.Reach, key config.Key, versions []objectVersion) (generation int64, newest bool) {
	if older, rejected := r.Older[key]; rejected {
		return older, false
	}
	for i := len(versions) - 1; i >= 0; i-- {
		v, newest := versions[i], i == len(versions)-1
		if v.sequence <= r.Sequence && (newest || !d.refused(v.meta)) {
			return v.meta.Generation, newest
		}
	}
	return 0, false
}
