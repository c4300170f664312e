package meshtest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// shape reports where a value of YAML is not of a type: each value of another
// kind, keys that stand twice, and, if strict, keys that no field has. What it
// finds nothing in can be decoded.
type shape struct {
	*parser
	strict bool
}

var sharesType = reflect.TypeFor[Shares]()

func (s shape) check(path string, n *yaml.Node, t reflect.Type) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
	case t == sharesType && n.Kind == yaml.ScalarNode: // see Shares.UnmarshalYAML
	case t.Kind() == reflect.Struct, t.Kind() == reflect.Map:
		if n.Kind != yaml.MappingNode {
			s.wrong(path, n, t)
			return
		}
		s.mapping(path, n, t)
	case t.Kind() == reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			s.wrong(path, n, t)
			return
		}
		for i, item := range n.Content {
			s.check(fmt.Sprintf("%s[%d]", path, i), item, t.Elem())
		}
	case isWhole(t.Kind()) && n.ShortTag() != "!!int", // YAML's reader would cut off the rest
		n.Decode(reflect.New(t).Interface()) != nil:
		if t.Kind() == reflect.Interface { // which takes everything else
			s.faultAt(n, path, "contains itself")
			return
		}
		s.wrong(path, n, t)
	}
}

func (s shape) mapping(path string, n *yaml.Node, t reflect.Type) {
	var names []string
	types := map[string]reflect.Type{}
	if t.Kind() == reflect.Struct {
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() {
				name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
				names, types[name] = append(names, name), f.Type
			}
		}
		if s.strict {
			s.unknownKeys(n, prefixOf(path), names...)
		}
	}
	s.twice(n, path)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := prefixOf(path) + key.Value
		switch field, known := types[key.Value]; {
		case known:
			s.check(at, value, field)
		case t.Kind() == reflect.Map:
			s.check(at, value, t.Elem())
		}
	}
}

func isWhole(k reflect.Kind) bool { return reflect.Int <= k && k <= reflect.Uint64 }

// twice reports keys of an object that stand in it more than once.
func (p *parser) twice(n *yaml.Node, path string) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if first := seen[key.Value]; first > 0 {
			p.faultAt(key, prefixOf(path)+key.Value, "stands twice, first on line %d", first)
			continue
		}
		seen[key.Value] = key.Line
	}
}

func prefixOf(path string) string {
	if path == "" {
		return ""
	}
	return path + "."
}

func (s shape) wrong(path string, n *yaml.Node, t reflect.Type) {
	s.faultAt(n, path, "is %s: want %s", nodeWords(n), typeWords(t))
}

// faultAt reports a fault of a field, at a node.
func (p *parser) faultAt(n *yaml.Node, field, format string, args ...any) {
	p.problems = append(p.problems, config.Problem{
		Severity: config.Error, Code: "InvalidTest", Field: field, Message: fmt.Sprintf(format, args...),
		File: p.file.Name, Line: n.Line, Column: n.Column,
	})
}

// nodeWords say what a value is.
func nodeWords(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "an object"
	case yaml.SequenceNode:
		if len(n.Content) == 0 {
			return "an empty list"
		}
		return "a list"
	}
	if n.ShortTag() == "!!null" {
		return "empty"
	}
	if n.ShortTag() == "!!str" {
		return fmt.Sprintf("the text %q", n.Value)
	}
	return n.Value
}

// typeWords say what values a type has.
func typeWords(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct:
		var names []string
		for i := range t.NumField() {
			if name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ","); name != "" {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return "an object with " + strings.Join(names, ", ")
	case reflect.Map:
		switch t.Elem().Kind() {
		case reflect.Float64:
			return "an object of percentages by name"
		case reflect.Interface:
			return "an object"
		}
		return "an object of text by name"
	case reflect.Slice:
		return "a list"
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return "a whole number"
}
