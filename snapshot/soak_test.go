package snapshot_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/snapshot"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// soakFor, in the environment, is how long the soaks run together: `make soak` sets it.
const soakFor = "SOAK"

// soakLength is how long one of the two soaks runs: each for half of the time.
func soakLength(t *testing.T, short time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv(soakFor)
	if text == "" {
		return short
	}
	length, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", soakFor, err)
	}
	return length / 2
}

// TestSoak is the oracle of `make soak`: rounds of churn, with proxies of both
// protocols that answer late, reject, reconnect and are thrown out by restarts
// of the server, each with a new Cache. After each round all is quiet for a
// moment, and then every proxy must have what a fresh server would give it.
// Goroutines and the heap must stay where they were after the first rounds.
func TestSoak(t *testing.T) {
	length := soakLength(t, 2*time.Second)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, %v", seed, length)
	s := newSoak(t, seed)
	rounds, end := 0, time.Now().Add(length)
	for ; rounds < soakWarm+2 || time.Now().Before(end); rounds++ {
		s.round(rounds)
	}
	t.Logf("%d rounds, %d restarts, %d goroutines, %.1f MB of heap", rounds, s.restarts, runtime.NumGoroutine(), heap())
}

const (
	// soakWarm is the number of rounds before goroutines and heap are taken as
	// what is normal.
	soakWarm = 5
	// soakHeap is how far, in MB, the heap may grow beyond that.
	soakHeap = 32
)

type soak struct {
	*history
	options  snapshot.Options
	restarts int
	bounds   soakBounds
}

// soakBounds is what was normal when the soak was warm.
type soakBounds struct {
	goroutines int
	heap       float64
}

func newSoak(t *testing.T, seed uint64) *soak {
	// Time must not decide: what is late here is late by order alone.
	s := &soak{options: snapshot.Options{AckTimeout: time.Hour, OrderTimeout: time.Hour, WarmTimeout: time.Hour, Requests: 1e6}}
	s.history = &history{t: t, rng: rand.New(rand.NewPCG(seed, 1)), world: newWorld(t), refs: map[int]translate.Refs{}}
	s.edit(func(c *content) {
		s.cluster(c, "c0")
		s.cluster(c, "c1")
		s.route(c, "r0")
		s.listener(c, "l0")
	})
	s.server = serve(t, s.world, s.options)
	for i := range 8 {
		s.proxies = append(s.proxies, s.connect(fmt.Sprint("p", i), i%2 == 1))
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(strings.Join(s.log, "\n"))
		}
	})
	return s
}

// round is churn, quiet and the oracle.
func (s *soak) round(n int) {
	s.log = nil
	s.mayFail, s.hostile = s.rng.IntN(2) == 0, s.rng.IntN(2) == 0
	for range 150 {
		s.step()
	}
	s.edit(s.repair)
	s.settle()
	for _, isSotW := range []bool{false, true} {
		fresh := serve(s.t, s.world, s.options)
		all := s.proxies
		s.proxies = nil
		for _, p := range all {
			if p.isSotW == isSotW {
				s.proxies = append(s.proxies, p)
			}
		}
		s.compare(fresh, isSotW)
		s.proxies = all
		fresh.stop()
	}
	if s.t.Failed() {
		s.t.FailNow()
	}
	if s.rng.IntN(3) == 0 {
		s.restart()
	}
	s.forget()
	s.bounds.hold(s.t, n)
}

// forget drops what no proxy has any more.
func (s *soak) forget() {
	s.world.forget()
	now, refs := s.world.now(), map[int]translate.Refs{}
	for _, table := range []map[string]int{now.listeners, now.routes} {
		for _, v := range table {
			refs[v] = s.refs[v]
		}
	}
	s.refs = refs
	for _, p := range s.proxies {
		p.lost = map[int]bool{}
	}
}

// restart replaces the server by a fresh one: all proxies have to say what
// they have.
func (s *soak) restart() {
	s.restarts++
	old := s.server
	s.server = serve(s.t, s.world, s.options)
	for _, p := range s.proxies {
		p.reconnect()
	}
	old.stop()
	s.settle()
}

// hold holds goroutines and heap to what they were when warm.
func (b *soakBounds) hold(t *testing.T, round int) {
	t.Helper()
	if round < soakWarm {
		return
	}
	if round == soakWarm {
		b.heap, b.goroutines = heap(), runtime.NumGoroutine()
		return
	}
	limit := b.goroutines + b.goroutines/4 + 20
	until(t, fmt.Sprintf("no more than %d goroutines are left", limit), func() bool { return runtime.NumGoroutine() <= limit })
	if h := heap(); h > b.heap+soakHeap {
		t.Fatalf("round %d: %.1f MB of heap, %.1f MB when warm", round, h, b.heap)
	}
}

// heap is what is in use after a collection, in MB.
func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / 1e6
}
