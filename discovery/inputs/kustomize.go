package inputs

import (
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// hasKustomization reports whether a folder is a kustomize overlay or base.
func hasKustomization(exists func(name string) bool) bool {
	return slices.ContainsFunc(konfig.RecognizedKustomizationFileNames(), exists)
}

func diskFiles() filesys.FileSystem { return filesys.MakeFsOnDisk() }

// kustomize renders an overlay, as kubectl kustomize does.
func kustomize(files filesys.FileSystem, path string) ([]byte, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, path)
	if err != nil {
		return nil, fmt.Errorf("kustomize %s: %s", path, strings.TrimSpace(err.Error()))
	}
	return resources.AsYaml()
}
