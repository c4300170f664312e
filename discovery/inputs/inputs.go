// Package inputs reads configuration once, for commands: folders and files of
// YAML, kustomize overlays, standard input, git revisions and a live cluster,
// in any mixture.
//
// It consumes paths and produces a config.Mesh, as a Source and a Store would
// publish it. Only commands and tests may import it: it starts git, and reads
// whatever it is told to.
package inputs

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

// Options say what is read.
type Options struct {
	// Paths are folders, files, kustomize overlays (folders with a
	// kustomization), "-" for standard input, and REVISION:PATH for git.
	Paths []string
	// Revision reads every path of files as it is at that git revision; empty
	// means the working tree.
	Revision string
	// Stdin is all of standard input, for "-". It is called once for each.
	Stdin func() ([]byte, error)
	// Cluster is also read if it is not nil. The files have precedence over it.
	Cluster *Cluster
	// Validate keeps broken objects out of the mesh.
	Validate discovery.Validator
	// Kept, if it is not nil, gets what is in no file of its name, by the name.
	Kept Kept
	// Reads, if it is not nil, is told each path before it is read: a folder
	// stands for all in it, and the files of an overlay are told one by one.
	Reads func(path string)
	// Memory, if it is not nil, has what other states of the configuration came
	// to, for LoadBare; it checks with Validate, too.
	Memory *file.Memory
}

// Load reads everything. Mistakes in the configuration are the Mesh's
// Problems, and so is a path of several that cannot be read; the error is about
// the only path, and the cluster.
func Load(ctx context.Context, o Options) (*config.Mesh, error) {
	texts, problems, err := Texts(ctx, o)
	if err != nil {
		return nil, err
	}
	changes, more := file.Objects(texts, newAddresses().of, o.Validate)
	l, err := o.layer(ctx)
	if err != nil {
		return nil, err
	}
	return l.hold(changes, append(problems, more...)), nil
}

// layer is what files say, over the cluster if there is one; nothing as yet.
func (o *Options) layer(ctx context.Context) (*layer, error) {
	if o.Cluster != nil {
		return o.Cluster.layer(ctx, o.Validate)
	}
	store := discovery.NewStore(o.Validate, file.Name)
	store.Synced(file.Name)
	return &layer{store: store}, nil
}

// Texts reads the files of the paths, in order. What several paths lead to is
// read once, where the last of them has it.
func Texts(ctx context.Context, o Options) ([]file.Text, []config.Problem, error) {
	var texts []file.Text
	var problems []config.Problem
	for _, path := range o.Paths {
		t, p, err := textsOf(ctx, &o, path)
		if err != nil && (len(o.Paths) == 1 || ctx.Err() != nil) {
			return nil, nil, err
		}
		if err != nil { // the other paths are read all the same
			p = append(p, Failed(err))
		}
		texts = append(except(texts, t), t...)
		problems = append(slices.DeleteFunc(problems, func(had config.Problem) bool { return slices.Contains(p, had) }), p...)
	}
	return texts, problems, nil
}

// except leaves out of texts those that come again.
func except(texts, again []file.Text) []file.Text {
	if len(texts) == 0 {
		return nil
	}
	of := func(t *file.Text) string { return cmp.Or(t.Real, t.Name) }
	comes := map[string]bool{}
	for i := range again {
		comes[of(&again[i])] = true
	}
	return slices.DeleteFunc(texts, func(t file.Text) bool { return comes[of(&t)] })
}

func textsOf(ctx context.Context, o *Options, path string) ([]file.Text, []config.Problem, error) {
	if path == "-" {
		return stdinTexts(ctx, o)
	}
	if o.Reads != nil {
		o.Reads(path)
	}
	info, err := os.Stat(path)
	rev, inside, named := strings.Cut(path, ":")
	switch {
	case err != nil && named && rev != "":
		return revisionTexts(ctx, o.Kept, rev, inside)
	case o.Revision != "":
		return revisionTexts(ctx, o.Kept, o.Revision, path)
	case err != nil:
		return nil, nil, err
	case !info.IsDir() && !info.Mode().IsRegular():
		return pipeTexts(ctx, o, path, info.Mode())
	}
	if info.IsDir() {
		if recipe := kustomization(func(name string) bool {
			_, err := os.Stat(filepath.Join(path, name))
			return err == nil
		}); recipe != "" {
			path = filepath.Clean(path)
			data, err := kustomize(filesys.MakeFsOnDisk(), path, o.Reads, func(below string) string { return filepath.Join(path, below) })
			if err != nil {
				return nil, nil, err
			}
			t := file.Text{Name: path + overlay, Data: data}
			o.Kept.add(t, filepath.Join(path, recipe), false)
			return []file.Text{t}, nil, nil
		}
	}
	texts, problems, err := file.ReadTexts(path)
	if info.IsDir() && len(texts) == 0 && len(problems) == 0 && err == nil {
		problems = append(problems, config.Problem{Severity: config.Warning, Code: nothingCode, File: path, Message: "no YAML is in this folder"})
	}
	return texts, problems, err
}

// Failed is a Problem that says why a configuration could not be read.
func Failed(err error) config.Problem {
	if m := (mistake{}); errors.As(err, &m) {
		return m.Problem
	}
	return config.Problem{Severity: config.Error, Code: failedCode, Message: err.Error()}
}

const (
	failedCode  = "InputFailed"
	nothingCode = "NothingToRead"
)
