package file

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds of one document. Aliases of aliases grow exponentially, and an alias
// may stand inside of its target: maxAliased bounds the values that aliases and
// merge keys stand for.
const (
	maxAliased = 1 << 16
	maxDepth   = 1000
)

// place is where in the YAML a line of the JSON comes from.
type place struct {
	path string
	line int
}

// encoder turns YAML nodes into JSON as kubectl does. Every key and every
// list element starts a line of its own in the JSON, so that a JSON decoder's
// position leads back to the YAML: places[n] is the place of JSON line n+1.
type encoder struct {
	out    []byte
	places []place
	offset int // added to the nodes' line numbers
	depth  int
	// aliased counts the values reached through aliases; inAlias is how many
	// of these the current one stands in.
	aliased, inAlias int
	tooLarge         bool // the result is not complete
	faults           []fault
	// without are values that are left out, with their keys; nodes[n] is the
	// one of places[n].
	without map[*yaml.Node]bool
	nodes   []*yaml.Node
}

// fault is something wrong at a place.
type fault struct {
	place
	code, message string
}

func (e *encoder) faultf(p place, code, format string, args ...any) {
	e.faults = append(e.faults, fault{p, code, fmt.Sprintf(format, args...)})
}

// at starts a JSON line for a value at path, which begins at n.
func (e *encoder) at(path string, n, value *yaml.Node) {
	e.out = append(e.out, '\n')
	e.places = append(e.places, place{path, n.Line + e.offset})
	e.nodes = append(e.nodes, target(value))
}

func (e *encoder) value(path string, n *yaml.Node) {
	e.depth++
	defer func() { e.depth-- }()
	if e.inAlias > 0 {
		e.aliased++
	}
	if e.aliased > maxAliased || e.depth > maxDepth {
		e.tooLarge = true
	}
	if e.tooLarge {
		return
	}
	switch n.Kind {
	case yaml.AliasNode:
		e.inAlias++
		e.value(path, n.Alias)
		e.inAlias--
	case yaml.MappingNode:
		e.mapping(path, n)
	case yaml.SequenceNode:
		e.out = append(e.out, '[')
		for i, item := range n.Content {
			if i > 0 {
				e.out = append(e.out, ',')
			}
			p := path + "[" + strconv.Itoa(i) + "]"
			e.at(p, item, item)
			if e.without[target(item)] {
				e.empty(item)
				continue
			}
			e.value(p, item)
		}
		e.out = append(e.out, ']')
	case yaml.ScalarNode:
		e.scalar(n)
	default:
		e.out = append(e.out, "null"...)
	}
}

func (e *encoder) mapping(path string, n *yaml.Node) {
	e.out = append(e.out, '{')
	first := true
	for _, kv := range e.entries(path, n, 0) {
		if e.without[target(kv.value)] {
			continue
		}
		if !first {
			e.out = append(e.out, ',')
		}
		first = false
		p := join(path, kv.key.Value)
		e.at(p, kv.key, kv.value)
		e.str(kv.key.Value)
		e.out = append(e.out, ':')
		e.value(p, kv.value)
	}
	e.out = append(e.out, '}')
}

// empty stands in for a list's element that is left out: the others keep their
// places.
func (e *encoder) empty(n *yaml.Node) {
	if target(n).Kind == yaml.MappingNode {
		e.out = append(e.out, "{}"...)
	} else {
		e.out = append(e.out, `""`...)
	}
}

// join appends a key to a path; keys that are no identifiers (labels) stand in
// brackets.
func join(path, key string) string {
	for _, r := range key {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-' {
			return path + "[" + key + "]"
		}
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

type entry struct{ key, value *yaml.Node }

// maxMergeDepth bounds "<<" chains, which can form cycles through aliases.
const maxMergeDepth = 16

// entries are a mapping's pairs with merge keys ("<<") resolved: what the
// mapping itself says goes before what it merges.
func (e *encoder) entries(path string, n *yaml.Node, depth int) []entry {
	var out, merged []entry
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Tag == "!!merge" && depth < maxMergeDepth {
			merged = append(merged, e.merged(path, v, depth+1)...)
			continue
		}
		p := place{join(path, k.Value), k.Line + e.offset}
		if k.Kind != yaml.ScalarNode {
			e.faultf(p, "InvalidKey", "a key must be a plain value, not a list or a mapping")
			continue
		}
		if first, ok := seen[k.Value]; ok {
			e.faultf(p, "DuplicateKey", "key %q is already set on line %d: remove one of them", k.Value, first)
			continue
		}
		seen[k.Value] = p.line
		out = append(out, entry{k, v})
	}
	for _, m := range merged {
		if _, ok := seen[m.key.Value]; !ok {
			seen[m.key.Value] = 0
			out = append(out, m)
		}
	}
	return out
}

func (e *encoder) merged(path string, v *yaml.Node, depth int) []entry {
	if e.aliased++; e.aliased > maxAliased {
		e.tooLarge = true
	}
	if e.tooLarge {
		return nil
	}
	switch v.Kind {
	case yaml.AliasNode:
		return e.merged(path, v.Alias, depth)
	case yaml.MappingNode:
		return e.entries(path, v, depth)
	case yaml.SequenceNode:
		var out []entry
		for _, item := range v.Content {
			if item.Kind != yaml.SequenceNode {
				out = append(out, e.merged(path, item, depth)...)
			}
		}
		return out
	}
	e.faultf(place{path, v.Line + e.offset}, "InvalidMerge", `"<<" merges a mapping or a list of mappings, not %q`, v.Value)
	return nil
}

func (e *encoder) scalar(n *yaml.Node) {
	switch tag := n.ShortTag(); tag {
	case "!!null":
		e.out = append(e.out, "null"...)
	case "!!bool", "!!int", "!!float":
		var v any
		if err := n.Decode(&v); err == nil {
			if b, err := json.Marshal(v); err == nil {
				e.out = append(e.out, b...)
				return
			}
		}
		e.str(n.Value) // .inf and .nan have no JSON form
	default:
		if b, ok := oldBool(n); ok {
			e.out = strconv.AppendBool(e.out, b)
			return
		}
		e.str(n.Value)
	}
}

// oldBool reads YAML 1.1's truth values, which kubectl still takes for such.
func oldBool(n *yaml.Node) (value, ok bool) {
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) != 0 {
		return false, false
	}
	switch n.Value {
	case "yes", "Yes", "YES", "on", "On", "ON":
		return true, true
	case "no", "No", "NO", "off", "Off", "OFF":
		return false, true
	}
	return false, false
}

func (e *encoder) str(s string) {
	b, err := json.Marshal(strings.ToValidUTF8(s, "\ufffd"))
	if err != nil {
		b = []byte(`""`)
	}
	e.out = append(e.out, b...)
}

// atLine is the place of a 1-based line of the JSON.
func (e *encoder) atLine(line int) place {
	// The first line holds the opening bracket alone.
	if i := line - 2; i >= 0 && i < len(e.places) {
		return e.places[i]
	}
	if len(e.places) > 0 {
		return place{"", e.places[0].line}
	}
	return place{"", e.offset + 1}
}

// nodeAt is the value of a 1-based line of the JSON, nil if there is none.
func (e *encoder) nodeAt(line int) *yaml.Node {
	if i := line - 2; i >= 0 && i < len(e.nodes) {
		return e.nodes[i]
	}
	return nil
}

// atOffset is the place of a byte offset in the JSON.
func (e *encoder) atOffset(offset int) place {
	line := 1
	for _, c := range e.out[:min(max(offset, 0), len(e.out))] {
		if c == '\n' {
			line++
		}
	}
	return e.atLine(line)
}

// lineOf is the line of a path, or of the nearest field around it.
func (e *encoder) lineOf(path string) int {
	byPath := make(map[string]int, len(e.places))
	for _, p := range e.places {
		if _, ok := byPath[p.path]; !ok {
			byPath[p.path] = p.line
		}
	}
	for {
		if l, ok := byPath[path]; ok {
			return l
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return e.atLine(1).line
		}
		path = path[:i]
	}
}
