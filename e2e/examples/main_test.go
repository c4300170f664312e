package examples

import (
	"path/filepath"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

func TestMain(m *testing.M) { stage.Main(m) }

// run starts a copy of one example; prepare, if not nil, changes the copy first.
// An example has no problem of any severity.
func run(t *testing.T, example string, mode up.Mode, prepare func(dir string)) *stage.Stage {
	t.Helper()
	return runWith(t, example, up.Options{Mode: mode}, prepare)
}

func runWith(t *testing.T, example string, o up.Options, prepare func(dir string)) *stage.Stage {
	t.Helper()
	dir := stage.Copy(t, filepath.Join("../../examples", example))
	if prepare != nil {
		prepare(dir)
	}
	s := stage.StartWith(t, dir, o)
	for _, p := range s.Plane().Problems() {
		t.Errorf("the example has a problem: %v %s %s", p.Object, p.Field, p.Message)
	}
	return s
}

// outside calls the gateway that every example with HTTP has.
func outside(s *stage.Stage) *stage.Caller { return s.Outside("shop", 80) }

// fits reports whether k of n trials fit a probability within five standard
// deviations.
func fits(k, n int, p float64) bool { return stage.Fits(k, n, p, 5) }
