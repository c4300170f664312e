package meshtest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Files are the test files at or below a path; a file itself is one, whatever
// its name. Folders that cannot be read are problems; the error is for a path
// that does not exist.
func Files(path string) ([]string, []config.Problem, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if info.Mode().IsRegular() {
		return []string{path}, nil, nil
	}
	if !info.IsDir() {
		return nil, nil, &fs.PathError{Op: "read", Path: path, Err: errNotAFile}
	}
	var out []string
	var problems []config.Problem
	err = filepath.WalkDir(path, func(at string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			problems = append(problems, Unreadable(at, err))
			if d.IsDir() {
				return filepath.SkipDir
			}
		case d.IsDir() && at != path && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case !d.IsDir() && (strings.HasSuffix(at, "_test.yaml") || strings.HasSuffix(at, "_test.yml")):
			if info, err := os.Stat(at); err == nil && !info.Mode().IsRegular() { // reading it might never end
				problems = append(problems, Unreadable(at, errNotAFile))
				return nil
			}
			out = append(out, at)
		}
		return nil
	})
	return out, problems, err
}

var errNotAFile = errors.New("it is neither a file nor a folder")

// Unreadable is the problem of a file or folder that an error is about.
func Unreadable(at string, err error) config.Problem {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		err = pe.Err
	}
	return config.Problem{Severity: config.Error, Code: "Unreadable", File: at, Message: "cannot be read: " + err.Error()}
}
