package file

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// fieldWalk compares a YAML mapping with the message it is meant for: it finds
// the fields that the message does not have, values of the wrong shape, and on
// which line each field stands. Paths are in the API's JSON names, with map
// keys in brackets.
type fieldWalk struct {
	enc     *encoder // resolves merge keys; its faults are not looked at
	lines   config.Lines
	unknown []fault
	invalid []fault
	bad     map[*yaml.Node]bool // the values of invalid
}

func (w *fieldWalk) message(path string, n *yaml.Node, md protoreflect.MessageDescriptor) {
	n = target(n)
	if isNull(n) || md.FullName().Parent() == "google.protobuf" {
		return
	}
	if n.Kind != yaml.MappingNode {
		w.wrongShape(path, n, "a mapping")
		return
	}
	for _, kv := range w.enc.entries(root, n, 0) {
		line := kv.key.Line + w.enc.offset
		name := kv.key.Value
		fd := md.Fields().ByJSONName(name)
		if fd == nil {
			fd = md.Fields().ByName(protoreflect.Name(name))
		}
		if fd == nil {
			p := place{path + "." + name, line}
			w.unknown = append(w.unknown, unknownField(p, name, fieldNames(md)))
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
	case isNull(n):
	case fd.IsMap() && n.Kind != yaml.MappingNode:
		w.wrongShape(path, n, "a mapping")
	case fd.IsMap():
		for _, kv := range w.enc.entries(root, n, 0) {
			p := path + "[" + kv.key.Value + "]"
			w.lines[p] = kv.key.Line + w.enc.offset
			w.value(p, kv.value, fd.MapValue())
		}
	case fd.IsList() && n.Kind != yaml.SequenceNode:
		w.wrongShape(path, n, "a list")
	case fd.IsList():
		for i, item := range n.Content {
			p := path + "[" + strconv.Itoa(i) + "]"
			w.lines[p] = item.Line + w.enc.offset
			w.value(p, item, fd)
		}
	default:
		w.value(path, n, fd)
	}
}

// value checks one value: a field's, or an element's of a list or map.
func (w *fieldWalk) value(path string, n *yaml.Node, fd protoreflect.FieldDescriptor) {
	n = target(n)
	switch {
	case fd.Message() != nil:
		w.message(path, n, fd.Message())
	case isNull(n):
	case n.Kind != yaml.ScalarNode:
		w.wrongShape(path, n, "a single value")
	case fd.Enum() != nil:
		w.enum(path, n, fd.Enum())
	}
}

func (w *fieldWalk) enum(path string, n *yaml.Node, ed protoreflect.EnumDescriptor) {
	if _, err := strconv.Atoi(n.Value); err == nil || ed.Values().ByName(protoreflect.Name(n.Value)) != nil {
		return
	}
	names := make([]string, ed.Values().Len())
	for i := range names {
		names[i] = string(ed.Values().Get(i).Name())
	}
	msg := "unknown value " + strconv.Quote(n.Value)
	if near := config.Nearest(n.Value, names); near != "" {
		msg += ": did you mean " + near + "?"
	} else {
		msg += ": use " + strings.Join(names, ", ")
	}
	w.fail(path, n, msg)
}

func (w *fieldWalk) fail(path string, n *yaml.Node, msg string) {
	w.invalid = append(w.invalid, fault{place{path, n.Line + w.enc.offset}, "InvalidValue", msg})
	w.bad[n] = true
}

func (w *fieldWalk) wrongShape(path string, n *yaml.Node, want string) {
	got := map[yaml.Kind]string{yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list"}[n.Kind]
	if got == "" {
		got = strconv.Quote(n.Value)
	}
	w.fail(path, n, "got "+got+", want "+want)
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

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
	if near := config.Nearest(name, known); near != "" {
		msg += ": did you mean " + strconv.Quote(near) + "?"
	} else {
		msg += ": remove it"
	}
	return fault{p, "UnknownField", msg}
}
