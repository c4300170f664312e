package weightfile

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// findObject returns the document that holds the edit's object, and the
// object's node in it.
func findObject(src []byte, e *Edit) (document, *yaml.Node, error) {
	type hit struct {
		doc    document
		object *yaml.Node
	}
	var hits, here []hit
	for _, doc := range split(src) {
		var root yaml.Node
		if yaml.Unmarshal(doc.text, &root) != nil || len(root.Content) == 0 {
			continue // a malformed neighbour is none of this edit's business
		}
		for item, object := range objects(root.Content[0]) {
			if !isObject(object, e) {
				continue
			}
			d := doc
			d.item = item
			hits = append(hits, hit{d, object})
			if e.Line > doc.line && e.Line <= doc.lastLine() {
				here = append(here, hit{d, object})
			}
		}
	}
	if len(hits) > 1 && len(here) > 0 {
		hits = here
	}
	switch len(hits) {
	case 0:
		return document{}, nil, e.refuse(e.Line, CodeNotFound, "the file no longer holds %s: wait until it has been read again", e.Object)
	case 1:
		return hits[0].doc, hits[0].object, nil
	}
	return document{}, nil, e.refuse(hits[1].doc.fileLine(hits[1].object), CodeNotFound,
		"the file holds %s %d times: remove all but one", e.Object, len(hits))
}

// objects yields the object of a document under index -1, or the items of a
// List under theirs.
func objects(root *yaml.Node) map[int]*yaml.Node {
	if kind := mappingValue(root, "kind"); kind != nil && strings.HasSuffix(kind.Value, "List") {
		found := map[int]*yaml.Node{}
		if items := mappingValue(root, "items"); items != nil && items.Kind == yaml.SequenceNode {
			for i, n := range items.Content {
				found[i] = n
			}
		}
		return found
	}
	return map[int]*yaml.Node{-1: root}
}

func isObject(n *yaml.Node, e *Edit) bool {
	text := func(n *yaml.Node, key string) string {
		if v := mappingValue(n, key); v != nil {
			return v.Value
		}
		return ""
	}
	group, _, _ := strings.Cut(text(n, "apiVersion"), "/")
	meta := mappingValue(n, "metadata")
	if meta == nil || group != e.Object.Group || text(n, "kind") != e.Object.Kind || text(meta, "name") != e.Object.Name {
		return false
	}
	ns := text(meta, "namespace")
	return ns == "" || ns == e.Object.Namespace
}

// findRoute returns the list of destinations, after it has made sure that it
// is the one that the caller saw and that changing its bytes changes nothing
// else.
func findRoute(doc document, object *yaml.Node, e *Edit) (*yaml.Node, error) {
	steps, ok := parseField(e.Field)
	if !ok {
		return nil, e.refuse(e.Line, CodeNotFound, "%q is no field path", e.Field)
	}
	n := object
	for _, s := range steps {
		if err := plain(doc, n, e); err != nil {
			return nil, err
		}
		next := mappingValue(n, s.key)
		if next == nil {
			return nil, e.changed(doc, n, "the route is gone")
		}
		if n = next; s.index < 0 {
			continue
		}
		if err := plain(doc, n, e); err != nil {
			return nil, err
		}
		if n.Kind != yaml.SequenceNode || s.index >= len(n.Content) {
			return nil, e.changed(doc, n, "the route is gone")
		}
		n = n.Content[s.index]
	}
	if err := plain(doc, n, e); err != nil {
		return nil, err
	}
	if n.Kind != yaml.SequenceNode || len(n.Content) != len(e.Seen) {
		return nil, e.changed(doc, n, "the route has other destinations")
	}
	for i, entry := range n.Content {
		if err := checkEntry(doc, entry, e, i); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (e *Edit) changed(doc document, n *yaml.Node, what string) error {
	return e.refuse(doc.fileLine(n), CodeFileChanged, "%s: the file has changed since it was read; look again, then repeat", what)
}

// checkEntry compares one destination with what the caller saw.
func checkEntry(doc document, entry *yaml.Node, e *Edit, i int) error {
	seen := e.Seen[i]
	if err := plain(doc, entry, e); err != nil {
		return err
	}
	destination := mappingValue(entry, "destination")
	if destination == nil {
		return e.changed(doc, entry, "the route has other destinations")
	}
	if err := plain(doc, destination, e); err != nil {
		return err
	}
	for key, want := range map[string]string{"host": seen.Host, "subset": seen.Subset} {
		got := ""
		if v := mappingValue(destination, key); v != nil {
			if err := plain(doc, v, e); err != nil {
				return err
			}
			got = v.Value
		}
		if got != want {
			return e.changed(doc, destination, "the route has other destinations")
		}
	}
	weight := mappingValue(entry, "weight")
	if weight == nil {
		if seen.Weight != 0 {
			return e.changed(doc, entry, "the weights are different")
		}
		return nil
	}
	if err := plain(doc, weight, e); err != nil {
		return err
	}
	var got int32
	if n, err := strconv.ParseInt(weight.Value, 10, 32); err == nil {
		got = int32(n)
	} else if weight.Decode(&got) != nil {
		return e.refuse(doc.fileLine(weight), CodeNotEditable, "weight %q is no number: write it as %d", weight.Value, e.Weights[i])
	}
	if got != seen.Weight {
		return e.changed(doc, weight, "the weights are different")
	}
	return nil
}

// plain refuses a node whose bytes may count elsewhere, or whose value comes
// from elsewhere.
func plain(doc document, n *yaml.Node, e *Edit) error {
	what := ""
	switch {
	case n.Kind == yaml.AliasNode:
		what = "the alias *" + n.Value
	case n.Anchor != "":
		what = "the anchor &" + n.Anchor
	case n.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Tag == "!!merge" {
				what = "a merge key (<<)"
			}
			for j := 0; j < i; j += 2 {
				if n.Content[j].Value == n.Content[i].Value {
					what = "the repeated key " + n.Content[i].Value
				}
			}
		}
	}
	if what == "" {
		return nil
	}
	return e.refuse(doc.fileLine(n), CodeNotEditable,
		"the weights lie under %s, so that changing them could change something else: write them out, or edit the file by hand", what)
}

// step is one part of a field path: a key, and an index or -1.
type step struct {
	key   string
	index int
}

// parseField reads a path such as spec.http[0].route.
func parseField(path string) ([]step, bool) {
	var steps []step
	for part := range strings.SplitSeq(path, ".") {
		key, rest, indexed := strings.Cut(part, "[")
		s := step{key, -1}
		if indexed {
			n, err := strconv.Atoi(strings.TrimSuffix(rest, "]"))
			if err != nil || n < 0 || !strings.HasSuffix(rest, "]") {
				return nil, false
			}
			s.index = n
		}
		if key == "" {
			return nil, false
		}
		steps = append(steps, s)
	}
	return steps, true
}

func mappingPair(n *yaml.Node, key string) (k, v *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

func mappingValue(n *yaml.Node, key string) *yaml.Node {
	_, v := mappingPair(n, key)
	return v
}
