package file

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// folder is what is known of the files: for each its documents and the last
// good versions of those that no longer parse.
type folder struct {
	namespace string
	check     discovery.Validator // may be nil
	files     map[string]*content
	order     []string
	walked    []config.Problem // by the walk itself
}

// content is one file's.
type content struct {
	info     fs.FileInfo
	objects  []*discovery.Object // in the order of their documents
	problems []config.Problem
}

// MaxSize bounds the size of a file in bytes; a larger one is not read.
const MaxSize = 64 << 20

func tooLarge(path string) config.Problem {
	return config.Problem{
		Severity: config.Error, Code: "TooLarge", File: path,
		Message: "is larger than 64 MiB and is not read; split it" + staysInEffect,
	}
}

// update reads the files that are new or different; touched are those that
// are to be read whatever their size and time say.
func (f *folder) update(l listing, touched map[string]bool) {
	now := make([]*content, len(l.files))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, file := range l.files {
		had := f.files[file.path]
		if had != nil && !touched[file.path] && !touched[file.real] && sameFile(had.info, file.info) {
			now[i] = had
			continue
		}
		g.Go(func() error {
			now[i] = f.read(file, had)
			return nil
		})
	}
	_ = g.Wait() // what fails is in the contents
	next := make(map[string]*content, len(l.files))
	order := make([]string, 0, len(l.files))
	for i, file := range l.files {
		if now[i] != nil {
			next[file.path] = now[i]
			order = append(order, file.path)
		}
	}
	for _, path := range f.order {
		lost := func(dir string) bool { return below(path, dir) }
		if next[path] == nil && slices.ContainsFunc(l.lost, lost) {
			next[path] = f.files[path]
			order = append(order, path)
		}
	}
	f.files, f.order, f.walked = next, order, l.problems
}

func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// read parses one file; nil means that it is gone.
func (f *folder) read(file found, had *content) *content {
	now := &content{info: file.info}
	keep := func(p config.Problem) *content {
		now.problems = append(now.problems, p)
		if had != nil {
			now.objects = had.objects
		}
		return now
	}
	if file.info.Size() > MaxSize {
		return keep(tooLarge(file.path))
	}
	data, err := os.ReadFile(file.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return keep(unreadable(file.path, err))
	}
	r := reader{file: file.path, namespace: f.namespace, check: f.check}
	now.take(r.stream(data), had)
	return now
}

// take sorts the documents of a file. A broken document leaves the last good
// version of its object in effect; if it does not say which object it is, any
// of the file's that is missing now may be it, so all of them stay. What stands
// in for a broken one counts if there is no such version.
func (c *content) take(docs []document, had *content) {
	present := map[config.Key]bool{}
	broken := map[config.Key]bool{}
	anyone := false
	var standIns []*discovery.Object
	c.objects = make([]*discovery.Object, 0, len(docs))
	mend := had != nil || slices.ContainsFunc(docs, func(d document) bool { return d.broken })
	for _, d := range docs {
		c.problems = append(c.problems, d.problems...)
		switch {
		case d.object != nil && !d.broken:
			c.objects = append(c.objects, d.object)
			if mend {
				present[d.key] = true
			}
		case d.broken && d.key.Kind == "":
			anyone = true
		case d.broken:
			broken[d.key] = true
		}
		if d.object != nil && d.broken {
			standIns = append(standIns, d.object)
		}
	}
	if had != nil {
		for _, o := range had.objects {
			key := o.Meta.Key
			if !present[key] && o.Meta.StandsIn == config.StandsInForNothing && (anyone || broken[key]) {
				c.objects = append(c.objects, o)
				present[key] = true
			}
		}
	}
	for _, o := range standIns {
		if !present[o.Meta.Key] {
			c.objects = append(c.objects, o)
			present[o.Meta.Key] = true
		}
	}
}

func (f *folder) settled() ([]*discovery.Object, []config.Problem) {
	files := make([]*content, len(f.order))
	for i, path := range f.order {
		files[i] = f.files[path]
	}
	return settled(files, slices.Clone(f.walked))
}

// settled are the objects in effect, each once: of several definitions the
// last one counts, as if kubectl had applied the files in order. The problems
// are added to those that there are.
func settled(files []*content, problems []config.Problem) ([]*discovery.Object, []config.Problem) {
	n := 0
	for _, c := range files {
		n += len(c.objects)
	}
	objects := make([]*discovery.Object, 0, n)
	at := make(map[config.Key]int, n)
	for _, c := range files {
		problems = append(problems, c.problems...)
		for _, o := range c.objects {
			i, dup := at[o.Meta.Key]
			if !dup {
				at[o.Meta.Key] = len(objects)
				objects = append(objects, o)
				continue
			}
			if o.Meta.StandsIn != config.StandsInForNothing {
				continue // what can be read counts, wherever it stands
			}
			if objects[i].Meta.StandsIn != config.StandsInForNothing {
				objects[i] = o
				continue
			}
			problems = append(problems, config.At(&objects[i].Meta, "", config.Warning, "DefinedTwice",
				"is defined again at %s:%d, which comes later and counts, as with kubectl apply: remove one of the two",
				o.Meta.File, o.Meta.Line))
			objects[i] = o
		}
	}
	config.SortProblems(problems)
	return objects, problems
}
