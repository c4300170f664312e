package file

import (
	"context"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// A burst of events ends after quiet without any, or, as a folder may never
// come to rest, burst after its first.
const (
	quiet = 50 * time.Millisecond
	burst = 500 * time.Millisecond
)

// watch waits for changes below some paths.
type watch struct {
	roots   []string
	fs      *fsnotify.Watcher
	watched map[string]bool
	holding map[string]bool // directories in which everything counts
	entries map[string]bool // the roots, as events name them
	blind   []config.Problem
}

func newWatch(roots []string) (*watch, error) {
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	w := &watch{fs: fs, watched: map[string]bool{}}
	for _, r := range roots {
		w.roots = append(w.roots, filepath.Clean(r))
	}
	return w, nil
}

func (w *watch) close() { _ = w.fs.Close() }

// walk lists the files and moves the watches to the directories that count
// now.
func (w *watch) walk() listing {
	had := w.watched
	w.watched, w.holding, w.entries, w.blind = map[string]bool{}, map[string]bool{}, map[string]bool{}, nil
	l := w.from(w.roots)
	for dir := range had {
		if !w.watched[dir] {
			_ = w.fs.Remove(dir) // it may be gone already
		}
	}
	l.problems = append(l.problems, w.blind...)
	return l
}

// follow watches another root until the next walk.
func (w *watch) follow(root string) { w.from([]string{filepath.Clean(root)}) }

// from watches some roots and lists their files.
func (w *watch) from(roots []string) listing {
	for _, r := range roots {
		// A root may be replaced as a whole.
		dir, err := filepath.EvalSymlinks(filepath.Dir(r))
		if err != nil {
			continue
		}
		w.entries[filepath.Join(dir, filepath.Base(r))] = true
		w.add(dir)
	}
	return walk(roots, func(dir string) {
		w.holding[dir] = true
		w.add(dir)
	})
}

// add watches a directory. It is added again each time: a directory that was
// replaced by another of the same name has lost its watch.
func (w *watch) add(dir string) {
	if w.watched[dir] {
		return
	}
	w.watched[dir] = true
	if err := w.fs.Add(dir); err != nil {
		w.blind = append(w.blind, config.Problem{
			Severity: config.Warning, Code: "NotWatched", File: dir,
			Message: "cannot be watched: " + err.Error() + ": changes in it are seen only when something else changes too",
		})
	}
}

// wait returns after the next burst of events, with the paths that they named,
// or at once when again has a value; false when ctx ends.
func (w *watch) wait(ctx context.Context, again <-chan struct{}) (touched map[string]bool, ok bool) {
	touched = map[string]bool{}
	var rest, limit <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil, false
		case <-again:
			return touched, true
		case <-rest:
			return touched, true
		case <-limit:
			return touched, true
		case e, open := <-w.fs.Events:
			if !open {
				return nil, false
			}
			if !w.concerns(e.Name) {
				continue
			}
			touched[filepath.Clean(e.Name)] = true
		case _, open := <-w.fs.Errors:
			// Events were lost: whatever changed is found by its time and size.
			if !open {
				return nil, false
			}
		}
		rest = time.After(quiet)
		if limit == nil {
			limit = time.After(burst)
		}
	}
}

// concerns reports whether an event is about a root or something below it.
func (w *watch) concerns(path string) bool {
	path = filepath.Clean(path)
	return w.holding[filepath.Dir(path)] || w.holding[path] || w.entries[path]
}
