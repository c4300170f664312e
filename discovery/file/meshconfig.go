package file

import (
	"encoding/base64"

	"go.yaml.in/yaml/v3"
	meshconfig "istio.io/api/mesh/v1alpha1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// meshConfig is the ConfigMap that holds the MeshConfig as text.
var meshConfig = config.Key{Kind: "ConfigMap", Namespace: "istio-system", Name: "istio"}

// meshConfig checks the text in the ConfigMap istio, so that mistakes in it
// are found on their own lines, which it returns. What is unknown there has no
// effect.
func (b *body) meshConfig() config.Lines {
	const path = "data.mesh"
	n, line := b.at("data", "mesh")
	if n == nil {
		return nil
	}
	in := *b
	in.problems = nil
	if n.Style&yaml.LiteralStyle != 0 {
		in.offset += n.Line // the text starts on the line after the bar
	} else {
		in.offset += n.Line - 1
	}
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(n.Value), &root); err != nil {
		at, msg := syntaxFault([]byte(n.Value), err)
		b.report(config.Error, fault{place{path, in.offset + at}, "MalformedYAML", msg})
		return nil
	}
	lines := config.Lines{path: line}
	if len(root.Content) == 1 && target(root.Content[0]).Kind == yaml.MappingNode {
		in.decodeProto(path, root.Content[0], &meshconfig.MeshConfig{}, lines, config.Warning)
	} else if len(root.Content) == 1 && root.Content[0].ShortTag() != "!!null" {
		b.report(config.Error, fault{place{path, in.offset + 1}, "InvalidValue", "want a mapping of MeshConfig's fields"})
	}
	b.problems, b.failed = append(b.problems, in.problems...), b.failed || in.failed
	return lines
}

// at is the value of nested fields and the file's line of the last one; nil if
// there is none.
func (b *body) at(steps ...string) (n *yaml.Node, line int) {
	n = b.node
	for _, step := range steps {
		var next *yaml.Node
		for _, kv := range fields(&encoder{}, n) {
			if kv.key.Value == step {
				next, line = target(kv.value), kv.key.Line+b.offset
			}
		}
		if next == nil {
			return nil, 0
		}
		n = next
	}
	return n, line
}

// secretData checks what a decoder would report without saying where.
func (b *body) secretData() {
	data, _ := b.at("data")
	if data == nil {
		return
	}
	for _, kv := range fields(&encoder{}, data) {
		if _, err := base64.StdEncoding.DecodeString(text(kv.value)); err != nil {
			b.report(config.Error, fault{
				place{join("data", kv.key.Value), kv.key.Line + b.offset}, "InvalidValue",
				"not base64: encode the value, or move it to stringData",
			})
		}
	}
}
