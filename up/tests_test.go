package up

import (
	"path/filepath"
	"testing"
)

// TestPageHasTheTestsOfItsMesh: a test file that names the folder which is up is
// about it; one that names another is not.
func TestPageHasTheTestsOfItsMesh(t *testing.T) {
	bookstore := filepath.Join("..", "examples", "bookstore")
	m := &Mesh{options: Options{Paths: []string{bookstore}}}
	if got := m.tests(); len(got.Cases) == 0 || got.Note != "" || len(got.Problems) > 0 {
		t.Errorf("%d cases, %q, %v", len(got.Cases), got.Note, got.Problems)
	}
	m.options.Paths = append(m.options.Paths, filepath.Join("..", "examples", "canary"))
	if got := m.tests(); len(got.Cases) > 0 || got.Note == "" {
		t.Errorf("%d cases of another configuration, %q", len(got.Cases), got.Note)
	}
}
