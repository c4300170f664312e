package meshtest

import (
	"fmt"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	kubeyaml "sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Written gives what can be covered a file with lines where it has none, as the
// objects of a live cluster: the YAML that kubectl would show of it. It returns
// the texts by the name of the file, cluster/NAMESPACE/KIND/NAME.yaml.
func Written(m *config.Mesh) (*config.Mesh, map[string]string, error) {
	b, texts := config.NewBuilder(m), map[string]string{}
	for vs := range m.VirtualServices.All() {
		meta, err := written(&vs.Meta, vs.Spec, texts)
		if err != nil {
			return nil, nil, err
		}
		config.Put(b, func(m *config.Mesh) *config.Index[*config.VirtualService] { return &m.VirtualServices },
			&config.VirtualService{Meta: meta, Spec: vs.Spec})
	}
	for p := range m.AuthorizationPolicies.All() {
		meta, err := written(&p.Meta, p.Spec, texts)
		if err != nil {
			return nil, nil, err
		}
		config.Put(b, func(m *config.Mesh) *config.Index[*config.AuthorizationPolicy] { return &m.AuthorizationPolicies },
			&config.AuthorizationPolicy{Meta: meta, Spec: p.Spec})
	}
	if len(texts) == 0 {
		return m, nil, nil
	}
	return b.Mesh(), texts, nil
}

func written(of *config.Meta, spec proto.Message, texts map[string]string) (config.Meta, error) {
	meta := *of
	if meta.File != "" {
		return meta, nil
	}
	js, err := protojson.Marshal(spec)
	if err != nil {
		return meta, fmt.Errorf("%s: %w", of.Key, err)
	}
	body, err := kubeyaml.JSONToYAML([]byte(fmt.Sprintf(`{"spec":%s}`, js)))
	if err != nil {
		return meta, fmt.Errorf("%s: %w", of.Key, err)
	}
	text := fmt.Sprintf("apiVersion: %s/%s\nkind: %s\nmetadata:\n  name: %s\n  namespace: %s\n%s", of.Group, of.Version, of.Kind, of.Name, of.Namespace, body)
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return meta, fmt.Errorf("%s: %w", of.Key, err)
	}
	meta.File, meta.Line, meta.Lines = fmt.Sprintf("cluster/%s/%s/%s.yaml", of.Namespace, of.Kind, of.Name), 1, config.Lines{}
	linesOf(doc.Content[0], "", meta.Lines)
	texts[meta.File] = text
	return meta, nil
}

// linesOf notes where each field is, by its path.
func linesOf(n *yaml.Node, path string, lines config.Lines) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			field := n.Content[i].Value
			if path != "" {
				field = path + "." + field
			}
			lines[field] = n.Content[i].Line
			linesOf(n.Content[i+1], field, lines)
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			lines[at] = item.Line
			linesOf(item, at, lines)
		}
	}
}
