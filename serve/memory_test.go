package serve

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"testing/synctest"
	"time"
)

// TestReturnsMemory: once it is calm, what a burst left is returned to the
// system.
func TestReturnsMemory(t *testing.T) {
	const burst = 256 << 20
	synctest.Test(t, func(t *testing.T) {
		go returnMemory(t.Context())
		synctest.Wait() // it has seen what there was before
		allocate(burst)
		full := resident()
		<-time.After(3 * calmAfter / 2) // of the bubble's clock: the first look is a burst's
		synctest.Wait()
		if now := resident(); now < full {
			t.Errorf("memory was returned in the middle of work: %d MiB of %d", now>>20, full>>20)
		}
		<-time.After(calmAfter)
		synctest.Wait()
		if now := resident(); now+burst/2 > full {
			t.Errorf("of %d MiB, %d are left", full>>20, now>>20)
		}
	})
}

// TestReturnsMemoryAtRest: what less than a burst left is returned too, once it
// has been calm for longer.
func TestReturnsMemoryAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		go returnMemory(t.Context())
		<-time.After(3 * calmAfter / 2) // memory of before is returned
		synctest.Wait()
		work := max(restBytes, int(readHeap().live/4)) + 4<<20
		allocate(work)
		before := cycles()
		<-time.After(2 * calmAfter) // the look after the work, and a calm one
		synctest.Wait()
		if n := cycles() - before; n != 0 {
			t.Errorf("%d collections, at once after a little work", n)
		}
		<-time.After(calmAfter)
		synctest.Wait()
		if n := cycles() - before; n == 0 {
			t.Error("nothing was collected")
		}
	})
}

// cycles are the collections so far.
func cycles() uint64 {
	s := []metrics.Sample{{Name: "/gc/cycles/forced:gc-cycles"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// allocate holds n bytes, until it returns.
func allocate(n int) {
	var list [][]byte
	for range n >> 20 {
		list = append(list, make([]byte, 1<<20))
	}
	runtime.KeepAlive(list)
}

// resident is the heap that the system has not got back, in bytes.
func resident() uint64 {
	s := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/unused:bytes"},
	}
	metrics.Read(s)
	return s[0].Value.Uint64() + s[1].Value.Uint64() + s[2].Value.Uint64()
}
