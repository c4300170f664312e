package file

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// Text is the content of one file, or a part of one, wherever it comes from.
type Text struct {
	Name string // for positions
	Real string // the file's absolute path without links; empty if it is in none
	Data []byte
	// Above are the lines of the file that come before Data.
	Above int
	// Strict: every document is meant to be an object, as in what a program
	// prints. In a folder there may be files for other programs.
	Strict bool
}

// ReadTexts reads the files of a path, a folder or a file, in the order in
// which a Source takes them. What cannot be read is a Problem; the error is
// for a path that does not exist.
func ReadTexts(path string) ([]Text, []config.Problem, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, nil, err
	}
	l := walk([]string{path}, func(string) {})
	from := ""
	if !filepath.IsAbs(path) {
		if wd, err := os.Getwd(); err == nil {
			from, _ = filepath.EvalSymlinks(wd)
		}
	}
	out := make([]Text, len(l.files))
	problems := make([][]config.Problem, len(l.files))
	inParallel(len(l.files), func(i int) {
		f := &l.files[i]
		if f.info.Size() > MaxSize {
			problems[i] = []config.Problem{tooLarge(f.path)}
			return
		}
		data, err := os.ReadFile(f.path)
		if err != nil {
			problems[i] = []config.Problem{unreadable(f.path, err)}
			return
		}
		out[i] = Text{Name: f.path, Real: filepath.Join(from, f.real), Data: data}
	})
	out = slices.DeleteFunc(out, func(t Text) bool { return t.Name == "" })
	l.problems = append(l.problems, slices.Concat(problems...)...)
	for i := range l.problems { // nothing was read before
		l.problems[i].Message = strings.TrimSuffix(l.problems[i].Message, staysInEffect)
	}
	return out, l.problems, nil
}

// IsConfig reports whether a file of a folder, by its path in the folder,
// holds configuration.
func IsConfig(path string) bool {
	for dir := path; dir != "." && dir != "/" && dir != ""; dir = filepath.Dir(dir) {
		if filepath.Base(dir)[0] == '.' {
			return false
		}
	}
	return isConfig(filepath.Base(path))
}

// Objects makes of texts, in their order, what a Source makes of files: the
// objects of the mesh, with those that a cluster would add. A later definition
// of an object counts. addresses is that of WithAddresses. check, which may be
// nil, is that of ParseChecked.
func Objects(texts []Text, addresses func(pod config.Key, labels map[string]string) []string, check discovery.Validator) ([]discovery.Change, []config.Problem) {
	given, problems := given(texts, check, nil)
	changes, more := InCluster(given, addresses)
	return changes, append(problems, more...)
}

// given are the objects that texts define, each once.
func given(texts []Text, check discovery.Validator, memory *Memory) ([]*discovery.Object, []config.Problem) {
	read := make([]*content, len(texts))
	inParallel(len(texts), func(i int) {
		t := &texts[i]
		r := reader{file: t.Name, above: t.Above, namespace: DefaultNamespace, check: check, memory: memory, strict: t.Strict}
		read[i] = &content{}
		read[i].take(r.stream(t.Data), nil)
	})
	return settled(read, nil)
}

// InCluster are objects, each given once, with those that a cluster would add.
// addresses is that of WithAddresses.
func InCluster(given []*discovery.Object, addresses func(pod config.Key, labels map[string]string) []string) ([]discovery.Change, []config.Problem) {
	c := newCluster(given, addresses)
	problems := c.run()
	changes := make([]discovery.Change, len(c.objects))
	for i, o := range c.objects {
		changes[i] = discovery.Change{Object: *o}
	}
	return changes, problems
}

func inParallel(n int, do func(i int)) {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range n {
		g.Go(func() error {
			do(i)
			return nil
		})
	}
	_ = g.Wait() // what fails is in the contents
}

// Watch calls changed now and after each burst of changes at or below the
// paths, and at or below those that changed itself, before it reads them, says
// that it depends on, until ctx ends.
func Watch(ctx context.Context, paths []string, changed func(dependsOn func(path string))) error {
	// Each directory has one name: a watch is a directory's, not a name's.
	absolute := make([]string, len(paths))
	for i, path := range paths {
		absolute[i] = absoluteOf(path)
	}
	w, err := newWatch(absolute)
	if err != nil {
		return err
	}
	defer w.close()
	for {
		w.walk()
		changed(func(path string) { w.follow(absoluteOf(path)) })
		if _, ok := w.wait(ctx, nil); !ok {
			return nil
		}
	}
}

func absoluteOf(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
