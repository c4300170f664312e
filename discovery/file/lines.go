package file

import (
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// kubeLines adds the lines of what problems about Kubernetes kinds name:
// annotations and labels, also those of pod templates, and a Service's ports.
func (b *body) kubeLines(lines config.Lines) config.Lines {
	if lines == nil {
		lines = config.Lines{}
	}
	b.metadataLines("metadata", b.field("metadata"), lines)
	path, n := "spec", b.field("spec")
	if b.key.Kind == "CronJob" {
		path, n = path+".jobTemplate.spec", fieldOf(fieldOf(n, "jobTemplate"), "spec")
	}
	if t := fieldOf(n, "template"); t != nil {
		b.metadataLines(path+".template.metadata", fieldOf(t, "metadata"), lines)
		b.podLines(path+".template.spec", fieldOf(t, "spec"), lines)
	}
	if b.key.Kind == "Pod" {
		b.podLines(path, n, lines)
	}
	if ports := fieldOf(n, "ports"); b.key.Kind == "Service" && ports != nil && target(ports).Kind == yaml.SequenceNode {
		for i, p := range target(ports).Content {
			lines["spec.ports["+strconv.Itoa(i)+"]"] = p.Line + b.offset
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return lines
}

func (b *body) podLines(path string, spec *yaml.Node, lines config.Lines) {
	at := func(path string, n *yaml.Node) {
		if n != nil {
			lines[path] = n.Line + b.offset
		}
	}
	at(path+".securityContext.runAsUser", fieldOf(fieldOf(spec, "securityContext"), "runAsUser"))
	list := fieldOf(spec, "containers")
	if list == nil || target(list).Kind != yaml.SequenceNode {
		return
	}
	for i, c := range target(list).Content {
		container := path + ".containers[" + strconv.Itoa(i) + "]"
		at(container+".image", fieldOf(c, "image"))
		at(container+".securityContext.runAsUser", fieldOf(fieldOf(c, "securityContext"), "runAsUser"))
	}
}

func (b *body) metadataLines(path string, n *yaml.Node, lines config.Lines) {
	for _, of := range []string{"annotations", "labels"} {
		v := fieldOf(n, of)
		if v == nil {
			continue
		}
		for _, kv := range fields(&encoder{}, target(v)) {
			lines[path+"."+of+"["+kv.key.Value+"]"] = kv.key.Line + b.offset
		}
	}
}

// fieldOf is the value of a field of a mapping, or nil.
func fieldOf(n *yaml.Node, name string) *yaml.Node {
	if n == nil {
		return nil
	}
	n = target(n)
	if n.Kind != yaml.MappingNode {
		return nil
	}
	merges := false
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := target(n.Content[i])
		if k.Tag == "!!merge" {
			merges = true
		} else if k.Kind == yaml.ScalarNode && k.Value == name {
			return n.Content[i+1]
		}
	}
	if merges {
		for _, kv := range fields(&encoder{}, n) {
			if kv.key.Value == name {
				return kv.value
			}
		}
	}
	return nil
}
