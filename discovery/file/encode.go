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

// place is a field, or an element of a list, and the line on which it stands.
type place struct {
	path string
	line int
}

// spot is where a line of the JSON comes from. Its path is put together when
// it is asked for.
type spot struct {
	around int        // the spot whose value it is in, or root
	key    *yaml.Node // nil for an element of a list
	item   int        // of that list
	line   int
	value  *yaml.Node
}

// root stands for the value that an encoder is given.
const root = -1

// encoder turns YAML nodes into JSON as kubectl does. Every key and every
// list element starts a line of its own in the JSON, so that a JSON decoder's
// position leads back to the YAML: spots[n] is that of JSON line n+2, the first
// line being the opening bracket's.
type encoder struct {
	out    []byte
	spots  []spot
	path   string // of the root
	offset int    // added to the nodes' line numbers
	depth  int
	// aliased counts the values reached through aliases; inAlias is how many
	// of these the current one stands in.
	aliased, inAlias int
	tooLarge         bool // the result is not complete
	faults           []fault
	warnings         []fault // of what may be, but is hardly meant
	// without are values that are left out, with their keys.
	without map[*yaml.Node]bool
	pairs   []entry // room for entries
}

// fault is something wrong at a place.
type fault struct {
	place
	code, message string
}

func (e *encoder) faultf(p place, code, format string, args ...any) {
	e.faults = append(e.faults, fault{p, code, fmt.Sprintf(format, args...)})
}

// at starts a JSON line for what begins at n, and returns its spot.
func (e *encoder) at(s spot, n *yaml.Node) int {
	e.out = append(e.out, '\n')
	s.line = n.Line + e.offset
	e.spots = append(e.spots, s)
	return len(e.spots) - 1
}

// pathOf is the path of a spot.
func (e *encoder) pathOf(at int) string {
	if at == root {
		return e.path
	}
	s := &e.spots[at]
	if s.key == nil {
		return e.pathOf(s.around) + "[" + strconv.Itoa(s.item) + "]"
	}
	return join(e.pathOf(s.around), s.key.Value)
}

// value writes a node that stands at a spot.
func (e *encoder) value(at int, n *yaml.Node) {
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
		e.value(at, n.Alias)
		e.inAlias--
	case yaml.MappingNode:
		e.mapping(at, n)
	case yaml.SequenceNode:
		e.out = append(e.out, '[')
		for i, item := range n.Content {
			if i > 0 {
				e.out = append(e.out, ',')
			}
			in := e.at(spot{around: at, item: i, value: target(item)}, item)
			if e.without[target(item)] {
				e.empty(item)
				continue
			}
			e.value(in, item)
		}
		e.out = append(e.out, ']')
	case yaml.ScalarNode:
		e.scalar(n)
	default:
		e.out = append(e.out, "null"...)
	}
}

func (e *encoder) mapping(at int, n *yaml.Node) {
	e.out = append(e.out, '{')
	first := true
	for _, kv := range e.entries(at, n, 0) {
		if e.without[target(kv.value)] {
			continue
		}
		if !first {
			e.out = append(e.out, ',')
		}
		first = false
		in := e.at(spot{around: at, key: kv.key, value: target(kv.value)}, kv.key)
		e.key(in, kv.key)
		e.out = append(e.out, ':')
		e.value(in, kv.value)
	}
	e.out = append(e.out, '}')
}

// key writes a key. One that kubectl takes for a truth value is "true" or
// "false" in the cluster.
func (e *encoder) key(at int, n *yaml.Node) {
	b, ok := oldBool(n)
	if !ok {
		e.str(n.Value)
		return
	}
	name := strconv.FormatBool(b)
	e.str(name)
	e.warnings = append(e.warnings, fault{e.placeOf(at), "KeyNotText",
		fmt.Sprintf("key %s is a truth value to kubectl, which makes %q of it: put it in quotes", n.Value, name)})
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

// entries are the pairs of a mapping that stands at a spot, with merge keys
// ("<<") resolved: what the mapping itself says goes before what it merges.
func (e *encoder) entries(at int, n *yaml.Node, depth int) []entry {
	if out, ok := e.distinct(n); ok {
		return out
	}
	var out, merged []entry
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := target(n.Content[i]), n.Content[i+1]
		if k.Tag == "!!merge" && depth < maxMergeDepth {
			merged = append(merged, e.merged(at, v, depth+1)...)
			continue
		}
		p := place{join(e.pathOf(at), k.Value), k.Line + e.offset}
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

// distinct are the pairs of a mapping without merge keys and faults, as almost
// all are.
func (e *encoder) distinct(n *yaml.Node) ([]entry, bool) {
	from := len(e.pairs)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := target(n.Content[i])
		if k.Kind != yaml.ScalarNode || k.Tag == "!!merge" {
			e.pairs = e.pairs[:from]
			return nil, false
		}
		e.pairs = append(e.pairs, entry{k, n.Content[i+1]})
	}
	out := e.pairs[from:len(e.pairs):len(e.pairs)]
	if repeats(out) {
		e.pairs = e.pairs[:from]
		return nil, false
	}
	return out, true
}

// repeats reports whether two pairs have the same key.
func repeats(pairs []entry) bool {
	if len(pairs) > 16 {
		seen := make(map[string]bool, len(pairs))
		for _, kv := range pairs {
			seen[kv.key.Value] = true
		}
		return len(seen) < len(pairs)
	}
	for i := range pairs {
		for j := range i {
			if pairs[i].key.Value == pairs[j].key.Value {
				return true
			}
		}
	}
	return false
}

func (e *encoder) merged(at int, v *yaml.Node, depth int) []entry {
	if e.aliased++; e.aliased > maxAliased {
		e.tooLarge = true
	}
	if e.tooLarge {
		return nil
	}
	switch v.Kind {
	case yaml.AliasNode:
		return e.merged(at, v.Alias, depth)
	case yaml.MappingNode:
		return e.entries(at, v, depth)
	case yaml.SequenceNode:
		var out []entry
		for _, item := range v.Content {
			if item.Kind != yaml.SequenceNode {
				out = append(out, e.merged(at, item, depth)...)
			}
		}
		return out
	}
	e.faultf(place{e.pathOf(at), v.Line + e.offset}, "InvalidMerge", `"<<" merges a mapping or a list of mappings, not %q`, v.Value)
	return nil
}

func (e *encoder) scalar(n *yaml.Node) {
	switch tag := n.ShortTag(); tag {
	case "!!null":
		e.out = append(e.out, "null"...)
	case "!!bool", "!!int", "!!float":
		if isCanonical(tag, n.Value) {
			e.out = append(e.out, n.Value...)
			return
		}
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

// isCanonical reports whether a value is written in YAML as in JSON.
func isCanonical(tag, value string) bool {
	if tag == "!!bool" {
		return value == "true" || value == "false"
	}
	if value == "" || value[0] == '0' || len(value) > 15 {
		return value == "0"
	}
	return strings.Trim(value, "0123456789") == ""
}

// oldBool reads YAML 1.1's truth values, which kubectl still takes for such.
func oldBool(n *yaml.Node) (value, ok bool) {
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) != 0 {
		return false, false
	}
	switch n.Value {
	case "y", "Y", "yes", "Yes", "YES", "on", "On", "ON":
		return true, true
	case "n", "N", "no", "No", "NO", "off", "Off", "OFF":
		return false, true
	}
	return false, false
}

func (e *encoder) str(s string) {
	if !strings.ContainsFunc(s, escaped) {
		e.out = append(append(append(e.out, '"'), s...), '"')
		return
	}
	b, err := json.Marshal(strings.ToValidUTF8(s, "\ufffd"))
	if err != nil {
		b = []byte(`""`)
	}
	e.out = append(e.out, b...)
}

// escaped reports whether a character may look otherwise in JSON.
func escaped(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }

// atLine is the place of a 1-based line of the JSON.
func (e *encoder) atLine(line int) place {
	if i := line - 2; i >= 0 && i < len(e.spots) {
		return e.placeOf(i)
	}
	if len(e.spots) > 0 {
		return place{"", e.spots[0].line}
	}
	return place{"", e.offset + 1}
}

func (e *encoder) placeOf(at int) place { return place{e.pathOf(at), e.spots[at].line} }

// nodeAt is the value of a 1-based line of the JSON, nil if there is none.
func (e *encoder) nodeAt(line int) *yaml.Node {
	if i := line - 2; i >= 0 && i < len(e.spots) {
		return e.spots[i].value
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
	byPath := make(map[string]int, len(e.spots))
	for i := range e.spots {
		p := e.placeOf(i)
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
