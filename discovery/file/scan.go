package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// listing is what a walk over the paths found.
type listing struct {
	// files in the order in which kubectl apply would take them. One that
	// several paths lead to is taken once, where it comes last.
	files []found
	// lost are paths that could not be read: what was known of the files
	// below them stays.
	lost     []string
	problems []config.Problem
}

// found is one file. real is its path without links, and info is that of the
// file itself.
type found struct {
	path, real string
	info       fs.FileInfo
}

// walk lists the files of roots. before is called once with the real path of
// each directory that counts, before it is read: a watch which it sets misses
// nothing.
func walk(roots []string, before func(dir string)) listing {
	w := walker{before: before, seen: map[string]bool{}, listed: map[string]int{}}
	for _, root := range roots {
		root = filepath.Clean(root)
		info, err := os.Stat(root)
		switch {
		case err != nil:
			w.fail(root, err)
		case info.IsDir():
			w.dir(root, nil)
		case !info.Mode().IsRegular():
			w.fail(root, NotAFile(info.Mode()))
		default:
			w.watch(filepath.Dir(root))
			w.link(root, info)
		}
	}
	w.files = slices.DeleteFunc(w.files, func(f found) bool { return f.path == "" })
	return w.listing
}

type walker struct {
	listing
	before func(string)
	seen   map[string]bool // directories that before was told of
	listed map[string]int  // files, by their real paths
}

func (w *walker) fail(path string, err error) {
	w.lost = append(w.lost, path)
	w.problems = append(w.problems, unreadable(path, err))
}

func unreadable(path string, err error) config.Problem {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return config.Problem{
		Severity: config.Error, Code: "Unreadable", File: path,
		Message: "cannot be read: " + err.Error() + staysInEffect,
	}
}

// NotAFile says what something is that is no folder and no file with content of
// its own: reading it might never end.
func NotAFile(mode fs.FileMode) error {
	what := "device"
	switch {
	case mode&fs.ModeNamedPipe != 0:
		what = "named pipe"
	case mode&fs.ModeSocket != 0:
		what = "socket"
	}
	return fmt.Errorf("it is a %s, not a file", what)
}

// staysInEffect ends what is said of a file that a Source cannot read.
const staysInEffect = ": what was read from it before stays in effect"

// dir walks one directory; above are the real paths of those around it, which
// a link must not lead back to.
func (w *walker) dir(path string, above []string) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		w.fail(path, err)
		return
	}
	if slices.Contains(above, real) {
		return
	}
	w.watch(real)
	items, err := os.ReadDir(path)
	if err != nil {
		w.fail(path, err)
		return
	}
	if slices.ContainsFunc(items, func(i fs.DirEntry) bool { return i.Name() == ChartFile }) {
		w.problems = append(w.problems, ChartProblem(path))
		return
	}
	if slices.ContainsFunc(items, func(i fs.DirEntry) bool { return slices.Contains(kustomizations, i.Name()) }) {
		w.problems = append(w.problems, OverlayProblem(path))
	}
	above = append(slices.Clip(above), real)
	for _, item := range items {
		name := item.Name()
		at := filepath.Join(path, name)
		if strings.HasPrefix(name, ".") {
			continue
		}
		info, err := os.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if to, err := os.Readlink(at); err == nil && isConfig(name) { // otherwise it is gone meanwhile
				w.fail(at, fmt.Errorf("it is a link to %s, which does not exist", to))
			}
		case err != nil:
			w.fail(at, err)
		case info.IsDir():
			w.dir(at, above)
		case !isConfig(name):
		case !info.Mode().IsRegular():
			w.fail(at, NotAFile(info.Mode()))
		case item.Type()&fs.ModeSymlink != 0:
			w.link(at, info)
		default:
			w.file(at, filepath.Join(real, name), info)
		}
	}
}

// ChartFile is in each folder that is a chart of Helm.
const ChartFile = "Chart.yaml"

// ChartProblem is what is said of a folder that is a chart: its templates are
// YAML only after Helm has filled them in.
func ChartProblem(path string) config.Problem {
	return config.Problem{
		Severity: config.Error, Code: "HelmChart", File: path,
		Message: "is a Helm chart, whose templates are no YAML yet: it is left out. Read what \"helm template\" prints for it",
	}
}

// kustomizations are the names of kustomize's recipes.
var kustomizations = []string{"kustomization.yaml", "kustomization.yml", "Kustomization"}

// OverlayProblem is what is said of a folder below the one that is read which
// is an overlay or base of kustomize: its recipe has no effect there, as with
// kubectl apply -R, and its patches look like objects.
func OverlayProblem(path string) config.Problem {
	return config.Problem{
		Severity: config.Warning, Code: OverlayCode, File: path,
		Message: "has a kustomization, which does not count in a folder that is read as plain files: name this folder itself to have it built",
	}
}

// OverlayCode is that of OverlayProblem.
const OverlayCode = "KustomizationIgnored"

// link lists a file that may be a link, or be reached through one.
func (w *walker) link(path string, info fs.FileInfo) {
	if real, err := filepath.EvalSymlinks(path); err == nil { // or it is gone meanwhile
		w.file(path, real, info)
	}
}

func (w *walker) file(path, real string, info fs.FileInfo) {
	w.watch(filepath.Dir(real)) // a link's target changes in its own directory
	if i, again := w.listed[real]; again {
		w.files[i].path = ""
	}
	w.listed[real] = len(w.files)
	w.files = append(w.files, found{path, real, info})
}

func (w *walker) watch(dir string) {
	if !w.seen[dir] {
		w.seen[dir] = true
		w.before(dir)
	}
}

// isConfig reports whether a file of a folder holds configuration: tests of
// configuration and kustomize's recipes do not.
func isConfig(name string) bool {
	ext := filepath.Ext(name)
	base := strings.TrimSuffix(name, ext)
	switch ext {
	case ".yaml", ".yml", ".json":
		return base != "kustomization" && !strings.HasSuffix(base, "_test")
	}
	return false
}

func below(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, string(filepath.Separator))+string(filepath.Separator))
}
