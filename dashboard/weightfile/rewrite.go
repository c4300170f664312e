package weightfile

import (
	"bytes"
	"cmp"
	"reflect"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// patch replaces src[from:to] by text.
type patch struct {
	from, to int
	text     string
}

// rewrite returns src with the edit made. It is pure; src is not modified.
func rewrite(src []byte, e *Edit) ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	doc, object, err := findObject(src, e)
	if err != nil {
		return nil, err
	}
	route, err := findRoute(doc, object, e)
	if err != nil {
		return nil, err
	}
	var patches []patch
	for i, entry := range route.Content {
		if e.Weights[i] == e.Seen[i].Weight && mappingValue(entry, "weight") != nil {
			continue
		}
		p, err := weightPatch(doc, entry, e, i)
		if err != nil {
			return nil, err
		}
		patches = append(patches, p)
	}
	out := apply(doc.text, patches)
	if err := checkOutcome(doc, object, out, e); err != nil {
		return nil, err
	}
	return slices.Concat(src[:doc.start], out, src[doc.start+len(doc.text):]), nil
}

func apply(src []byte, patches []patch) []byte {
	slices.SortFunc(patches, func(a, b patch) int { return cmp.Compare(a.from, b.from) })
	var out bytes.Buffer
	at := 0
	for _, p := range patches {
		out.Write(src[at:p.from])
		out.WriteString(p.text)
		at = p.to
	}
	out.Write(src[at:])
	return out.Bytes()
}

// weightPatch is the change that gives destination i of a route its new
// weight.
func weightPatch(doc document, entry *yaml.Node, e *Edit, i int) (patch, error) {
	text := strconv.Itoa(int(e.Weights[i]))
	value := mappingValue(entry, "weight")
	if value == nil {
		return insertion(doc, entry, text, e)
	}
	from := doc.offset(value.Line, value.Column)
	raw := value.Value
	switch value.Style {
	case yaml.DoubleQuotedStyle:
		raw, text = `"`+raw+`"`, `"`+text+`"`
	case yaml.SingleQuotedStyle:
		raw, text = `'`+raw+`'`, `'`+text+`'`
	}
	if from < 0 || !bytes.HasPrefix(doc.text[from:], []byte(raw)) || raw == "" {
		return patch{}, e.refuse(doc.fileLine(value), CodeNotEditable,
			"the weight is not written as a plain number: write it as %s, or edit the file by hand", text)
	}
	return patch{from, from + len(raw), text}, nil
}

// insertion adds a weight to an entry that has none, behind its destination,
// in the entry's own style.
func insertion(doc document, entry *yaml.Node, text string, e *Edit) (patch, error) {
	key, value := mappingPair(entry, "destination")
	cannot := e.refuse(doc.fileLine(entry), CodeNotEditable,
		"the destination has no weight and its form leaves no safe place for one: add weight: %s by hand", text)
	if key == nil {
		return patch{}, cannot
	}
	end := doc.end(value)
	if end < 0 {
		return patch{}, cannot
	}
	name := "weight: "
	if key.Style == yaml.DoubleQuotedStyle {
		name = `"weight": `
	}
	first := doc.offset(entry.Content[0].Line, entry.Content[0].Column)
	indent := doc.text[doc.lineStart(first):first]
	if entry.Style&yaml.FlowStyle == 0 {
		// A block mapping's keys stand in one column; the first may follow
		// dashes, which are as wide as the spaces of the others.
		at, newline := doc.lineEnd(end)
		return patch{at, at, newline + string(bytes.Repeat([]byte(" "), len(indent))) + name + text}, nil
	}
	if len(bytes.TrimLeft(indent, " \t")) == 0 {
		_, newline := doc.lineEnd(first)
		return patch{end, end, "," + newline + string(indent) + name + text}, nil
	}
	return patch{end, end, ", " + name + text}, nil
}

// checkOutcome reads the changed document back: it must say exactly what the
// old one said, with the new weights. This is what makes byte edits safe.
func checkOutcome(doc document, object *yaml.Node, out []byte, e *Edit) error {
	cannot := e.refuse(doc.fileLine(object), CodeNotEditable,
		"the weights cannot be changed in place in this form of YAML: edit the file by hand")
	var want, got any
	if yaml.Unmarshal(doc.text, &want) != nil || yaml.Unmarshal(out, &got) != nil {
		return cannot
	}
	if !setWeights(want, e, doc.item) || !reflect.DeepEqual(normal(want), normal(got)) {
		return cannot
	}
	return nil
}

// setWeights changes the decoded document.
func setWeights(v any, e *Edit, item int) bool {
	if item >= 0 {
		items, ok := child(v, "items").([]any)
		if !ok || item >= len(items) {
			return false
		}
		v = items[item]
	}
	steps, ok := parseField(e.Field)
	if !ok {
		return false
	}
	for _, s := range steps {
		if v = child(v, s.key); s.index >= 0 {
			list, ok := v.([]any)
			if !ok || s.index >= len(list) {
				return false
			}
			v = list[s.index]
		}
	}
	list, ok := v.([]any)
	if !ok || len(list) != len(e.Weights) {
		return false
	}
	for i := range list {
		entry, ok := list[i].(map[string]any)
		if !ok {
			return false
		}
		entry["weight"] = int(e.Weights[i])
	}
	return true
}

func child(v any, key string) any {
	m, _ := v.(map[string]any)
	return m[key]
}

// normal makes a weight that is written as a string equal to its number; the
// API reads both alike.
func normal(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if s, ok := e.(string); ok && k == "weight" {
				if n, err := strconv.Atoi(s); err == nil {
					v[k] = n
					continue
				}
			}
			v[k] = normal(e)
		}
	case []any:
		for i := range v {
			v[i] = normal(v[i])
		}
	}
	return v
}
