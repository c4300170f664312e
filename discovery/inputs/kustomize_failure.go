package inputs

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

// failure is why an overlay cannot be rendered, and where.
type failure struct {
	files        filesys.FileSystem
	file         string
	line, column int
	message      string
}

// What kustomize says.
var (
	// A resource is tried as a file, and then as a folder.
	accumulation = regexp.MustCompile(`(?s)^accumulation err='(?:accumulating|merging) resources from '([^']*)': (.*?)': (.*)$`)
	recursion    = regexp.MustCompile(`(?s)^(?:recursed accumulation of|couldn't make target for) path '([^']*)': (.*)$`)
	malformed    = regexp.MustCompile(`(?s)^accumulating resources from '([^']*)': (MalformedYAMLError: .*)$`)
	builtin      = regexp.MustCompile("(?s)^trouble configuring builtin (\\w+) with config: `\n(.*)\n`: (.*)$")
	invalid      = regexp.MustCompile(`(?s)^invalid Kustomization: (.*)$`)
	unknownField = regexp.MustCompile(`^json: unknown field "([^"]*)"$`)
)

// explain finds in the recipe of a folder what kustomize says of it. What an
// error of another folder is about is found there.
func (f *failure) explain(dir, text string) {
	text = strings.TrimPrefix(strings.TrimSpace(text), "accumulating resources: ")
	if m := accumulation.FindStringSubmatch(text); m != nil {
		f.resource(dir, m[1], m[2], m[3])
		return
	}
	f.message = strings.Join(strings.Fields(text), " ")
	f.inRecipe(dir, "")
	if m := malformed.FindStringSubmatch(text); m != nil {
		f.message = m[1] + ": " + m[2]
		f.inYAML(filepath.Join(dir, m[1]))
		return
	}
	if m := invalid.FindStringSubmatch(text); m != nil {
		f.message = m[1]
		if field := unknownField.FindStringSubmatch(m[1]); field != nil {
			f.message = "unknown field \"" + field[1] + "\""
			f.inRecipe(dir, field[1])
		} else {
			f.inYAML(f.file)
		}
		return
	}
	if m := builtin.FindStringSubmatch(text); m != nil {
		f.plugin(dir, m[1], parseRecipe([]byte(m[2])), m[3])
	}
}

// resource explains what is wrong with one that a recipe names.
func (f *failure) resource(dir, name, asFile, asFolder string) {
	if inner := recursion.FindStringSubmatch(asFolder); inner != nil {
		f.explain(inner[1], inner[2])
		f.message = name + ": " + f.message
		return
	}
	f.inRecipe(dir, name)
	f.message = name + ": " + plainly(asFile)
	if strings.HasPrefix(asFolder, "cycle detected") {
		f.message = name + ": is a cycle: its recipe leads back to this one"
	}
}

// plugin explains what is wrong with a patch, or another thing that a recipe
// has a field for.
func (f *failure) plugin(dir, kind string, written *yaml.Node, cause string) {
	cause = plainly(cause)
	f.message = cause
	if kind == "HelmChartInflationGenerator" {
		f.inRecipe(dir, "helmCharts")
		f.message = `Helm charts are not rendered: pipe what "kustomize build --enable-helm" prints into --config -`
		return
	}
	for _, key := range []string{"path", "patch"} {
		n := valueOf(written, key)
		if n == nil {
			continue
		}
		f.inRecipe(dir, n.Value)
		if key == "path" {
			f.message = n.Value + ": " + cause
			f.inYAML(filepath.Join(dir, n.Value))
		} else {
			f.message, _, _ = strings.Cut(cause, " from [")
		}
		return
	}
}

// plainly says that a file is missing as the system does, whatever tries it.
func plainly(cause string) string {
	const missing = "no such file or directory"
	if strings.HasSuffix(cause, missing) || strings.HasSuffix(cause, "doesn't exist") {
		return missing
	}
	return cause
}

// inRecipe places the failure at a text in the recipe of a folder; empty is the
// whole.
func (f *failure) inRecipe(dir, text string) {
	name := kustomization(func(name string) bool { return f.files.Exists(filepath.Join(dir, name)) })
	if name == "" {
		return
	}
	f.file, f.line, f.column = filepath.Join(dir, name), 0, 0
	data, err := f.files.ReadFile(f.file)
	if err != nil || text == "" {
		return
	}
	if n := find(parseRecipe(data), func(n *yaml.Node) bool { return n.Value == text }); n != nil {
		f.line, f.column = n.Line, n.Column
	}
}

// inYAML places the failure in a file that is not valid YAML.
func (f *failure) inYAML(path string) {
	data, err := f.files.ReadFile(path)
	if err != nil {
		return
	}
	_, problems := file.Parse(path, data)
	for _, p := range problems {
		if p.Code == "MalformedYAML" {
			f.file, f.line, f.column, f.message = path, p.Line, 1, p.Message
			return
		}
	}
}

func parseRecipe(data []byte) *yaml.Node {
	var root yaml.Node
	if yaml.Unmarshal(data, &root) != nil || len(root.Content) == 0 {
		return nil // whoever reads it tells
	}
	return root.Content[0]
}

// find is the first scalar below a node that is sought.
func find(n *yaml.Node, sought func(*yaml.Node) bool) *yaml.Node {
	if n == nil {
		return nil
	}
	if n.Kind == yaml.ScalarNode && sought(n) {
		return n
	}
	for _, c := range n.Content {
		if found := find(c, sought); found != nil {
			return found
		}
	}
	return nil
}

func valueOf(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// elsewhere are references that kustomize would fetch: by HTTP, or by Git from
// another host. Of generators a name may come before.
var elsewhere = regexp.MustCompile(`(?i)^([\w.-]+=)?(git::|gh:|https?://|ssh://|[a-z][\w-]*@[\w.-]+[:/]|github\.com[/:])\S*$`)

// references are the fields of recipes that name files and folders.
var references = []string{
	"resources", "bases", "components", "generators", "transformers", "validators", "configurations", "crds",
	"patches", "patchesStrategicMerge", "patchesJson6902", "replacements", "openapi", "configMapGenerator", "secretGenerator",
}

// remoteIn is the first reference of a recipe to something elsewhere, or nil.
func remoteIn(recipe *yaml.Node) *yaml.Node {
	if recipe == nil || recipe.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(recipe.Content); i += 2 {
		if !slices.Contains(references, recipe.Content[i].Value) {
			continue
		}
		if n := remoteBelow(recipe.Content[i+1]); n != nil {
			return n
		}
	}
	return nil
}

// notFiles are fields of references whose values are content.
var notFiles = []string{"literals", "name", "namespace", "options", "target", "source", "targets", "patch"}

func remoteBelow(n *yaml.Node) *yaml.Node {
	switch n.Kind {
	case yaml.ScalarNode:
		if elsewhere.MatchString(n.Value) {
			return n
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if slices.Contains(notFiles, n.Content[i].Value) {
				continue
			}
			if found := remoteBelow(n.Content[i+1]); found != nil {
				return found
			}
		}
	case yaml.SequenceNode:
		for _, c := range n.Content {
			if found := remoteBelow(c); found != nil {
				return found
			}
		}
	}
	return nil
}
