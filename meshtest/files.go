package meshtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Files are the test files at or below a path; a file itself is one, whatever
// its name.
func Files(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var out []string
	err = filepath.WalkDir(path, func(at string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && at != path && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case !d.IsDir() && (strings.HasSuffix(at, "_test.yaml") || strings.HasSuffix(at, "_test.yml")):
			out = append(out, at)
		}
		return nil
	})
	return out, err
}
