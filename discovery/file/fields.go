package file

import (
	"strconv"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// fieldWalk compares a YAML mapping with the message it is meant for: it finds
// the fields that the message does not have, and on which line each stands.
// Paths are in the API's JSON names, with map keys in brackets.
type fieldWalk struct {
	enc    *encoder // resolves merge keys; its faults are not looked at
	lines  config.Lines
	faults []fault
}

func (w *fieldWalk) message(path string, n *yaml.Node, md protoreflect.MessageDescriptor) {
	n = target(n)
	if n.Kind != yaml.MappingNode || md.FullName().Parent() == "google.protobuf" {
		return
	}
	for _, kv := range w.enc.entries(path, n, 0) {
		line := kv.key.Line + w.enc.offset
		name := kv.key.Value
		fd := md.Fields().ByJSONName(name)
		if fd == nil {
			fd = md.Fields().ByName(protoreflect.Name(name))
		}
		if fd == nil {
			p := place{path + "." + name, line}
			w.faults = append(w.faults, unknownField(p, name, fieldNames(md)))
			continue
		}
		p := path + "." + fd.JSONName()
		w.lines[p] = line
		w.field(p, kv.value, fd)
	}
}

func (w *fieldWalk) field(path string, n *yaml.Node, fd protoreflect.FieldDescriptor) {
	n = target(n)
	switch {
	case fd.IsMap() && n.Kind == yaml.MappingNode:
		for _, kv := range w.enc.entries(path, n, 0) {
			p := path + "[" + kv.key.Value + "]"
			w.lines[p] = kv.key.Line + w.enc.offset
			if v := fd.MapValue(); v.Message() != nil {
				w.message(p, kv.value, v.Message())
			}
		}
	case fd.IsList() && n.Kind == yaml.SequenceNode:
		for i, item := range n.Content {
			p := path + "[" + strconv.Itoa(i) + "]"
			w.lines[p] = item.Line + w.enc.offset
			if fd.Message() != nil {
				w.message(p, item, fd.Message())
			}
		}
	case fd.Message() != nil && !fd.IsMap() && !fd.IsList():
		w.message(path, n, fd.Message())
	}
}

func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func fieldNames(md protoreflect.MessageDescriptor) []string {
	out := make([]string, md.Fields().Len())
	for i := range out {
		out[i] = md.Fields().Get(i).JSONName()
	}
	return out
}

func unknownField(p place, name string, known []string) fault {
	msg := "unknown field " + strconv.Quote(name)
	if near := nearest(name, known); near != "" {
		msg += ": did you mean " + strconv.Quote(near) + "?"
	} else {
		msg += ": remove it"
	}
	return fault{p, "UnknownField", msg}
}
