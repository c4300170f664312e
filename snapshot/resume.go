package snapshot

import (
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// resume brings a reconnected client's state in: it says which versions it
// has, and is sent what differs.
func (s *stream) resume(k kind, f *feed, req *request) {
	now := s.now(k)
	var has [classesPerProxy]bitset // the items of which the client has this very version
	for i, l := range now {
		has[i] = newBitset(len(l.all()))
	}
	for name, version := range req.known() {
		i, at := now.find(name)
		switch {
		case at >= 0:
			if v, ok := parseVersion(version); ok && v == now[i].items[at].Version {
				has[i].set(at)
			}
		case f.wildcard && !f.only.has(name) && !now.withholds(name):
			f.held = append(f.held, &translate.Resource{Name: strings.Clone(name)})
		}
	}
	var send []string
	for i, l := range now {
		send = f.lacking(send, l, has[i])
	}
	for _, name := range f.only.all() {
		if _, at := now.find(name); at < 0 {
			send = append(send, name) // answered as removed
		}
	}
	if k == endpoints {
		// Those of clusters that were sent on this stream, even if they are
		// the same: Envoy may not ask for them again (envoy#13009).
		send = append(send, s.warming.all()...)
	}
	if s.resumed.IsZero() {
		s.resumed = time.Now()
	}
	slices.SortFunc(f.held, func(a, b *translate.Resource) int { return strings.Compare(a.Name, b.Name) })
	f.used, f.owed = true, false
	f.have, f.force = now, s.names().of(send)
}

// lacking adds the names of the items that the client wants and has not.
func (f *feed) lacking(send []string, l *layer, has bitset) []string {
	only := f.only.all()
	for i, r := range l.all() {
		if has.get(i) {
			continue
		}
		if !f.wildcard {
			at, ok := slices.BinarySearch(only, r.Name)
			if only = only[at:]; !ok {
				continue
			}
		}
		send = append(send, r.Name)
	}
	return send
}

// find returns the layer and the place of a name, and a negative place if
// there is none.
func (l *layers) find(name string) (i, at int) {
	for i, x := range l {
		if at := x.find(name); at >= 0 {
			return i, at
		}
	}
	return 0, -1
}

// scanned is the number of items up to which searching is quick enough.
const scanned = 16

// find is index for who looks for many names: by a table that the first one
// makes.
func (l *layer) find(name string) int {
	if l == nil || len(l.items) <= scanned {
		return l.index(name)
	}
	l.tabulate.Do(func() { l.table = newTable(l.items) })
	mask := uint64(len(l.table) - 1)
	for h := xxhash.Sum64String(name) & mask; l.table[h] != 0; h = (h + 1) & mask {
		if i := int(l.table[h] - 1); l.items[i].Name == name {
			return i
		}
	}
	return -1
}

// newTable is an open-addressed hash table of the items' places plus one.
func newTable(items []*translate.Resource) []uint32 {
	size := 1
	for size < 2*len(items) {
		size *= 2
	}
	table := make([]uint32, size)
	for i, r := range items {
		h := xxhash.Sum64String(r.Name) & uint64(size-1)
		for table[h] != 0 {
			h = (h + 1) & uint64(size-1)
		}
		table[h] = uint32(i + 1)
	}
	return table
}

type bitset []uint64

func newBitset(n int) bitset    { return make(bitset, (n+63)/64) }
func (b bitset) set(i int)      { b[i/64] |= 1 << (i % 64) }
func (b bitset) get(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }

// parseVersion reads a version that some pilotfish has sent: 16 hexadecimal
// digits.
func parseVersion(s string) (config.Hash, bool) {
	if len(s) != 16 {
		return 0, false
	}
	var v uint64
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		default:
			return 0, false
		}
		v = v<<4 | uint64(c)
	}
	return config.Hash(v), true
}
