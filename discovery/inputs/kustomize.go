package inputs

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
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

// kustomize renders an overlay, as kubectl kustomize does.
func kustomize(files filesys.FileSystem, path string) ([]byte, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, path)
	if err != nil {
		return nil, fmt.Errorf("kustomize %s: %s", path, cause(err.Error()))
	}
	return resources.AsYaml()
}

// cause is the last of a chain of causes that kustomize tells, some of them
// twice: a resource is tried as a file, and then as a folder.
func cause(text string) string {
	text = strings.TrimPrefix(strings.TrimSpace(text), "accumulating resources: ")
	tried := accumulation.FindStringSubmatch(text)
	if tried == nil {
		return text
	}
	name, asFile, asFolder := tried[1], tried[2], tried[3]
	if inner := recursion.FindStringSubmatch(asFolder); inner != nil {
		return name + ": " + cause(inner[1])
	}
	if i := strings.LastIndex(asFile, ": "); strings.HasPrefix(asFile, "evalsymlink failure") && i > 0 {
		asFile = asFile[i+2:]
	}
	return name + ": " + asFile
}

var (
	accumulation = regexp.MustCompile(`(?s)^accumulation err='accumulating resources from '([^']*)': (.*?)': (.*)$`)
	recursion    = regexp.MustCompile(`(?s)^recursed accumulation of path '[^']*': (.*)$`)
)
