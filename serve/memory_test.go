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
