package discovery

import (
	"cmp"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Pool assigns numbers from 0 to size-1 to keys. Which number a key has
// depends only on the set of keys and reservations, never on the order in
// which they came, so replicas and restarts agree; adding or removing a key
// moves at most the few that collide with it. (Linear probing in which the
// smaller hash wins a slot.) Not safe for concurrent use.
type Pool[K comparable] struct {
	size     uint32
	hash     func(K) config.Hash
	slots    map[uint32]K
	numbers  map[K]uint32
	reserved map[uint32]int
}

// NewPool makes a Pool. hash must be free of collisions between keys in
// practice and must not depend on the process.
func NewPool[K comparable](size uint32, hash func(K) config.Hash) *Pool[K] {
	return &Pool[K]{
		size: size, hash: hash,
		slots: map[uint32]K{}, numbers: map[K]uint32{}, reserved: map[uint32]int{},
	}
}

// Number returns a key's number.
func (p *Pool[K]) Number(k K) (uint32, bool) {
	n, ok := p.numbers[k]
	return n, ok
}

// Add gives k a number and returns the keys whose number changed, k among
// them. A full pool gives none.
func (p *Pool[K]) Add(k K) []K {
	if _, ok := p.numbers[k]; ok {
		return nil
	}
	var moved []K
	slot := p.home(k)
	for range p.size {
		if p.reserved[slot] > 0 {
			slot = p.next(slot)
			continue
		}
		holder, taken := p.slots[slot]
		if taken && !p.precedes(k, holder) {
			slot = p.next(slot)
			continue
		}
		p.slots[slot], p.numbers[k] = k, slot
		moved = append(moved, k)
		if !taken {
			return moved
		}
		k = holder
		delete(p.numbers, k)
		slot = p.next(slot)
	}
	return append(moved, k)
}

// Remove takes k's number away and returns the keys whose number changed.
func (p *Pool[K]) Remove(k K) []K {
	slot, ok := p.numbers[k]
	if !ok {
		return nil
	}
	delete(p.numbers, k)
	delete(p.slots, slot)
	return append(p.resettle(p.next(slot)), k)
}

// Reserve keeps a number from being assigned until as many calls of Release.
func (p *Pool[K]) Reserve(n uint32) []K {
	p.reserved[n]++
	if p.reserved[n] > 1 {
		return nil
	}
	k, ok := p.slots[n]
	if !ok {
		return nil
	}
	delete(p.slots, n)
	delete(p.numbers, k)
	return p.Add(k)
}

// Release undoes one Reserve.
func (p *Pool[K]) Release(n uint32) []K {
	if p.reserved[n]--; p.reserved[n] > 0 {
		return nil
	}
	delete(p.reserved, n)
	return p.resettle(p.next(n))
}

// resettle places the keys from slot on up to the next free one again.
func (p *Pool[K]) resettle(slot uint32) []K {
	type was struct {
		k    K
		slot uint32
	}
	var run []was
	for range p.size {
		k, ok := p.slots[slot]
		if !ok && p.reserved[slot] == 0 {
			break
		}
		if ok {
			run = append(run, was{k, slot})
			delete(p.slots, slot)
			delete(p.numbers, k)
		}
		slot = p.next(slot)
	}
	for _, r := range run {
		p.Add(r.k)
	}
	var moved []K
	for _, r := range run {
		if p.numbers[r.k] != r.slot {
			moved = append(moved, r.k)
		}
	}
	return moved
}

func (p *Pool[K]) home(k K) uint32      { return uint32(uint64(p.hash(k)) % uint64(p.size)) }
func (p *Pool[K]) next(s uint32) uint32 { return (s + 1) % p.size }
func (p *Pool[K]) precedes(a, b K) bool { return cmp.Less(p.hash(a), p.hash(b)) }
