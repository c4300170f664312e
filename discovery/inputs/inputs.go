// Package inputs reads configuration once, for commands: folders and files of
// YAML, kustomize overlays, standard input, git revisions and a live cluster,
// in any mixture.
//
// It consumes paths and produces a config.Mesh, as a Source and a Store would
// publish it. Only commands and tests may import it: it starts git, and reads
// whatever it is told to.
package inputs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/proto"
	"k8s.io/client-go/rest"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/discovery/kube"
)

// Options say what is read.
type Options struct {
	// Paths are folders, files, kustomize overlays (folders with a
	// kustomization), "-" for standard input, and REVISION:PATH for git.
	Paths []string
	// Revision reads every path of files as it is at that git revision; empty
	// means the working tree.
	Revision string
	// Stdin is read for "-".
	Stdin io.Reader
	// Cluster is also read if it is not nil.
	Cluster *rest.Config
	// Validate keeps broken objects out of the mesh.
	Validate discovery.Validator
	// Memory, if it is not nil, has what other states of the configuration came
	// to; it checks with Validate, too.
	Memory *file.Memory
}

// objects are those that texts are of.
func (o *Options) objects(texts []file.Text) ([]discovery.Change, []config.Problem) {
	if o.Memory != nil {
		return o.Memory.Objects(texts, newAddresses().of)
	}
	return file.Objects(texts, newAddresses().of, o.Validate)
}

// Load reads everything. Mistakes in the configuration are the Mesh's
// Problems, and so is a path of several that cannot be read; the error is about
// the only path, and the cluster.
func Load(ctx context.Context, o Options) (*config.Mesh, error) {
	texts, problems, err := Texts(ctx, o)
	if err != nil {
		return nil, err
	}
	names := []string{file.Name}
	if o.Cluster != nil {
		names = append(names, kube.Name)
	}
	store := discovery.NewStore(o.Validate, names...)
	changes, more := o.objects(texts)
	store.Replace(file.Name, changes, append(problems, more...))
	store.Synced(file.Name)
	if o.Cluster != nil {
		if err := readCluster(ctx, o.Cluster, store); err != nil {
			return nil, err
		}
	}
	return store.Mesh(), nil
}

// readCluster reads a live cluster until its first complete view.
func readCluster(ctx context.Context, c *rest.Config, store *discovery.Store) error {
	source, err := kube.New(c, kube.Options{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- source.Run(ctx, store) }()
	select {
	case <-store.Changed():
		cancel()
		return <-ended // it was told to end
	case err := <-ended:
		if err == nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("reading the cluster: %w", err)
	}
}

// Texts reads the files of the paths, in order.
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
		texts = append(texts, t...)
		problems = append(problems, p...)
	}
	return texts, problems, nil
}

func textsOf(ctx context.Context, o *Options, path string) ([]file.Text, []config.Problem, error) {
	if path == "-" {
		if o.Stdin == nil {
			return nil, nil, errors.New("standard input is not available")
		}
		data, err := io.ReadAll(o.Stdin)
		if err == nil && len(bytes.TrimSpace(data)) == 0 {
			err = errors.New("standard input is empty: did the command before the pipe fail?")
		}
		return []file.Text{{Name: "<stdin>", Data: data, Strict: true}}, nil, err
	}
	if o.Revision != "" {
		return revisionTexts(ctx, o.Revision, path)
	}
	info, err := os.Stat(path)
	if err != nil {
		if rev, inside, ok := strings.Cut(path, ":"); ok && rev != "" {
			return revisionTexts(ctx, rev, inside)
		}
		return nil, nil, err
	}
	if info.IsDir() && hasKustomization(func(name string) bool {
		_, err := os.Stat(filepath.Join(path, name))
		return err == nil
	}) {
		data, err := kustomize(diskFiles(), path)
		if err != nil {
			return nil, nil, err
		}
		return []file.Text{{Name: path + " (kustomize)", Data: data}}, nil, nil
	}
	return file.ReadTexts(path)
}

// Place is where an object stands.
type Place struct {
	File string
	Line int
}

// LoadBare is Load without places: two states of a configuration then differ
// in nothing but content. The places are returned beside it. Workloads keep
// theirs, since no resource says where they stand.
func LoadBare(ctx context.Context, o Options) (*config.Mesh, map[config.Key]Place, error) {
	texts, problems, err := Texts(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	store := discovery.NewStore(o.Validate, file.Name)
	changes, more := o.objects(texts)
	places := map[config.Key]Place{}
	for i := range changes {
		object := &changes[i].Object
		places[object.Meta.Key] = Place{object.Meta.File, object.Meta.Line}
		if _, istio := object.Body.(proto.Message); istio || object.Meta.Kind == "Service" {
			object.Meta.File, object.Meta.Line, object.Meta.Lines = "", 0, nil
		}
	}
	store.Replace(file.Name, changes, append(problems, more...))
	store.Synced(file.Name)
	return store.Mesh(), places, nil
}

// Failed is a Problem that says why a configuration could not be read.
func Failed(err error) config.Problem {
	return config.Problem{Severity: config.Error, Code: "InputFailed", Message: err.Error()}
}
