package up

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/dashboard/report"
	"github.com/pilotfish-mesh/pilotfish/meshtest"
)

// tests reads the test files of the mesh's folders, for its page.
func (m *Mesh) tests() *report.Tests {
	out := &report.Tests{}
	for _, at := range m.options.Paths {
		files, problems, err := meshtest.Files(at)
		if err != nil {
			out.Problems = append(out.Problems, config.Problem{Severity: config.Error, Message: err.Error(), File: at})
		}
		out.Problems = append(out.Problems, problems...)
		for _, name := range files {
			data, err := os.ReadFile(name)
			if err != nil {
				out.Problems = append(out.Problems, meshtest.Unreadable(name, err))
				continue
			}
			tests, problems := meshtest.Parse(name, data)
			if len(tests.Config) > 0 && !sameFiles(tests.Paths(), m.options.Paths) {
				out.Note += fmt.Sprintf("%s is about another configuration. ", name)
				continue
			}
			out.Problems = append(out.Problems, problems...)
			out.Cases = append(out.Cases, tests.Cases...)
		}
	}
	if len(out.Cases) == 0 {
		out.Note += "No case in a file *_test.yaml is about this mesh."
	}
	return out
}

// sameFiles reports whether two lists of paths lead to the same files.
func sameFiles(a, b []string) bool {
	return slices.Equal(resolved(a), resolved(b))
}

// resolved are paths in the form that identifies them, in order.
func resolved(paths []string) []string {
	var out []string
	for _, p := range paths {
		if abs, err := filepath.Abs(p); err == nil {
			p = abs
		}
		if real, err := filepath.EvalSymlinks(p); err == nil {
			p = real
		}
		out = append(out, p)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
