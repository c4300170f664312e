package snapshot_test

import (
	"runtime"
	"testing"
	"weak"

	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// TestDroppedCacheIsFreed: nothing keeps a Cache that nobody has any more, such
// as a cleanup of what it offered.
func TestDroppedCacheIsFreed(t *testing.T) {
	w := newWorld(t)
	w.edit(small)
	s := serve(t, w, snapshot.Options{})
	c := s.delta("one")
	c.start([]string{"a", "b"}, []string{"r"}, "l")
	c.cancel()
	p := weak.Make(s.cache)
	s.stop()
	until(t, "the Cache is freed", func() bool {
		runtime.GC()
		return p.Value() == nil
	})
}
