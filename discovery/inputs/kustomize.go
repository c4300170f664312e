package inputs

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// overlay ends the name of what kustomize renders of a folder.
const overlay = " (kustomize)"

// kustomization is the name of the recipe of a folder that is a kustomize
// overlay or base, empty for others.
func kustomization(exists func(name string) bool) string {
	names := konfig.RecognizedKustomizationFileNames()
	if i := slices.IndexFunc(names, exists); i >= 0 {
		return names[i]
	}
	return ""
}

// kustomize renders the overlay at root, as kubectl kustomize does, but from
// what is there alone: nothing is downloaded. name is how a file is called that
// is at a path relative to root; reads is that of Options.
func kustomize(files filesys.FileSystem, root string, reads func(path string), name func(path string) string) ([]byte, error) {
	local := &localFiles{FileSystem: files, reads: reads}
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(local, root)
	if err == nil {
		return resources.AsYaml()
	}
	dir, _, cleanErr := files.CleanedAbs(root)
	if cleanErr != nil {
		return nil, cleanErr
	}
	f := failure{files: files}
	if local.refused != nil {
		f = *local.refused
	} else {
		f.explain(dir.String(), err.Error())
	}
	p := config.Problem{Severity: config.Error, Code: failedCode, Line: f.line, Column: f.column}
	p.Message = fmt.Sprintf("kustomize %s: %s", name("."), f.message)
	if rel, err := filepath.Rel(dir.String(), f.file); err == nil && f.file != "" {
		p.File = name(rel)
	}
	return nil, mistake{p}
}

// localFiles are files whose recipes name nothing that would be downloaded:
// kustomize reads each recipe before what it names.
type localFiles struct {
	filesys.FileSystem
	reads   func(path string) // may be nil
	refused *failure          // the first recipe that is not read; kustomize tells it as a missing file
}

// ReadFile is that of filesys.FileSystem.
func (l *localFiles) ReadFile(path string) ([]byte, error) {
	if l.reads != nil {
		l.reads(path)
	}
	data, err := l.FileSystem.ReadFile(path)
	if !slices.Contains(konfig.RecognizedKustomizationFileNames(), filepath.Base(path)) {
		return data, err
	}
	if errors.Is(err, fs.ErrPermission) && l.refused == nil { // which kustomize takes for a missing one
		l.refused = &failure{file: path, message: "cannot be read: permission denied"}
	}
	if err != nil {
		return nil, err
	}
	n := remoteIn(parseRecipe(data))
	if n == nil {
		return data, nil
	}
	if l.refused == nil {
		l.refused = &failure{file: path, line: n.Line, column: n.Column, message: fmt.Sprintf(
			`%q is elsewhere, and nothing is downloaded: vendor it, as "kustomize localize" does, or pipe what "kustomize build" prints into --config -`, n.Value)}
	}
	return nil, errors.New("names something elsewhere")
}

// mistake is an error that has a place.
type mistake struct{ config.Problem }

// Error is the place and the message.
func (m mistake) Error() string {
	switch {
	case m.File == "":
		return m.Message
	case m.Line == 0:
		return fmt.Sprintf("%s: %s", m.File, m.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", m.File, m.Line, m.Column, m.Message)
}
