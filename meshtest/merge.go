package meshtest

import "go.yaml.in/yaml/v3"

// withoutMerges is a node with what its merge keys (<<) stand for in their place, and
// without aliases, so that what is looked up by a key is found. A key of the
// object's own goes before one that is merged in, and of several the first.
// Values that several places have in common stay shared; one that contains
// itself keeps the alias, which nothing can be read of.
func withoutMerges(n *yaml.Node) *yaml.Node {
	return (&merger{done: map[*yaml.Node]*yaml.Node{}}).of(n)
}

type merger struct{ done map[*yaml.Node]*yaml.Node } // nil: on the way

func (m *merger) of(n *yaml.Node) *yaml.Node {
	alias := n
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if had, known := m.done[n]; known && had == nil {
		return alias
	} else if known {
		return had
	}
	m.done[n] = nil
	out := m.copied(n)
	m.done[n] = out
	return out
}

func (m *merger) copied(n *yaml.Node) *yaml.Node {
	c := *n
	out := &c
	out.Content = nil
	if n.Kind != yaml.MappingNode {
		for _, c := range n.Content {
			out.Content = append(out.Content, m.of(c))
		}
		return out
	}
	var defaults []*yaml.Node
	own := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if from := mergedFrom(key, value); from != nil {
			defaults = append(defaults, from...)
			continue
		}
		own[key.Value] = true
		out.Content = append(out.Content, key, m.of(value))
	}
	for _, d := range defaults {
		d = m.of(d)
		for i := 0; i+1 < len(d.Content); i += 2 {
			if key := d.Content[i]; !own[key.Value] {
				own[key.Value] = true
				out.Content = append(out.Content, key, d.Content[i+1])
			}
		}
	}
	return out
}

// mergedFrom are the objects that a merge key takes its fields from; nil for
// another key, and for values that it cannot have, which are reported like any
// unknown key.
func mergedFrom(key, value *yaml.Node) []*yaml.Node {
	if key.ShortTag() != "!!merge" {
		return nil
	}
	for value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	list := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode {
		list = value.Content
	}
	for _, from := range list {
		for from.Kind == yaml.AliasNode {
			from = from.Alias
		}
		if from.Kind != yaml.MappingNode {
			return nil
		}
	}
	return list
}
