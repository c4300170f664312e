package serve

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How a burst's memory is given back. A fleet that connects leaves several
// times what the server keeps, which Go's collector would hold for minutes: it
// runs when the heap has doubled again, and returns pages slowly.
const (
	// calmAfter is how long little must have been allocated.
	calmAfter = 500 * time.Millisecond
	// calmBytes is what counts as little, in bytes.
	calmBytes = 512 << 10
	// burstBytes is how much must have been allocated since memory was returned
	// last, at least; and as much as is in use. So this costs about as much as
	// the usual collections.
	burstBytes = 32 << 20
	// restBytes is the same once it has been calm for as long again, and a quarter
	// of what is in use: nothing waits then for the collector to end.
	restBytes = 8 << 20
)

// heap is what the collector says of the heap, in bytes.
type heap struct {
	allocated uint64 // since the process began
	live      uint64 // reachable at the last collection
}

func readHeap() heap {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return heap{s[0].Value.Uint64(), s[1].Value.Uint64()}
}

// calm reports whether little was allocated since an earlier look. Under
// constant work it never is: the collector's own pace is best then.
func (h heap) calm(before heap) bool { return h.allocated-before.allocated < calmBytes }

// burst reports whether much was allocated since an earlier look.
func (h heap) burst(before heap) bool {
	return h.allocated-before.allocated > max(burstBytes, h.live)
}

// rest reports whether enough for a longer calm was.
func (h heap) rest(before heap) bool {
	return h.allocated-before.allocated > max(restBytes, h.live/4)
}

// returnMemory gives back to the system what bursts of work leave behind, until
// ctx ends.
func returnMemory(ctx context.Context) {
	look := time.NewTicker(calmAfter)
	defer look.Stop()
	returned := heap{}
	before, calm := readHeap(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		now := readHeap()
		if calm++; !now.calm(before) {
			calm = 0
		}
		if calm >= 1 && now.burst(returned) || calm >= 2 && now.rest(returned) {
			debug.FreeOSMemory()
			now = readHeap()
			returned = now
		}
		before = now
	}
}
