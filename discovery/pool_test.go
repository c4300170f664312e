package discovery_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

func hashText(s string) config.Hash { return config.NewHasher().Str(s).Sum() }

// TestPoolForgetsItsHistory compares a pool after a random history with one
// that was only told the result, nearly full so that most keys collide.
func TestPoolForgetsItsHistory(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		const size = 23
		p := discovery.NewPool(size, hashText)
		keys, reserved := map[string]bool{}, map[uint32]int{}
		numbers := map[string]uint32{}
		for range 300 {
			var moved []string
			key, n := fmt.Sprint("k", r.IntN(30)), uint32(r.IntN(size))
			switch r.IntN(5) {
			case 0, 1:
				if len(keys)+len(reserved) < size-1 {
					moved, keys[key] = p.Add(key), true
				}
			case 2:
				moved = p.Remove(key)
				delete(keys, key)
			case 3:
				if len(keys)+len(reserved) < size-1 && len(reserved) < 5 {
					moved = p.Reserve(n)
					reserved[n]++
				}
			case 4:
				if reserved[n] > 0 {
					moved = p.Release(n)
					if reserved[n]--; reserved[n] == 0 {
						delete(reserved, n)
					}
				}
			}
			checkMoves(t, p, keys, numbers, moved)
		}
		fresh := discovery.NewPool(size, hashText)
		for k := range keys {
			fresh.Add(k)
		}
		for n := range reserved {
			fresh.Reserve(n)
		}
		seen := map[uint32]string{}
		for k := range keys {
			got, ok := p.Number(k)
			want, _ := fresh.Number(k)
			if !ok || got != want || seen[got] != "" || reserved[got] > 0 {
				t.Fatalf("seed %d: %s has number %d (also %q), afresh %d", seed, k, got, seen[got], want)
			}
			seen[got] = k
		}
	}
}

// checkMoves requires that every changed number was announced.
func checkMoves(t *testing.T, p *discovery.Pool[string], keys map[string]bool, numbers map[string]uint32, moved []string) {
	t.Helper()
	told := map[string]bool{}
	for _, k := range moved {
		told[k] = true
	}
	for k := range keys {
		n, ok := p.Number(k)
		if was, had := numbers[k]; (!had || was != n) && !told[k] {
			t.Fatalf("%s went from %d to %d without a word", k, was, n)
		}
		if ok {
			numbers[k] = n
		}
	}
	for k := range numbers {
		if !keys[k] {
			delete(numbers, k)
		}
	}
}

func TestFullPoolGivesNone(t *testing.T) {
	p := discovery.NewPool(3, hashText)
	for i := range 5 {
		p.Add(fmt.Sprint(i))
	}
	seen := map[uint32]bool{}
	for i := range 5 {
		if n, ok := p.Number(fmt.Sprint(i)); ok {
			seen[n] = true
		}
	}
	if len(seen) != 3 {
		t.Errorf("%d numbers of 3 are in use", len(seen))
	}
}
