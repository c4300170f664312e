package file

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// plain reads the part of YAML that most documents are written in: block
// mappings and lists, flow collections and quoted values on one line, literal
// blocks, comments, ASCII. What it makes of a document is what yaml.Unmarshal
// makes of it, but for comments (FuzzPlain), at a fraction of the cost. Anything
// else, and everything that is wrong, it leaves to the library: it never
// decides that a document is invalid.
//
// The nodes of a document are valid until the next one is read.
type plain struct {
	text  string
	pos   int
	line  int // of pos, from 1
	begin int // where that line begins
	depth int

	nodes    []yaml.Node  // room for nodes; what is in use does not move
	lists    []*yaml.Node // room for the nodes' contents
	children []*yaml.Node // of the collections that are being read
}

// Bounds of what is read here. The library gives up on longer keys and deeper
// nesting only later.
const (
	maxPlainDepth = 100
	maxPlainKey   = 1000
)

// document is the root of a document, nil if the library has to read it.
func (p *plain) document(text []byte) *yaml.Node {
	for _, c := range text {
		if c < ' ' && c != '\n' || c > '~' {
			return nil
		}
	}
	*p = plain{text: string(text), line: 1, nodes: p.nodes[:0], lists: p.lists[:0], children: p.children[:0]}
	if strings.HasPrefix(p.text, "---") {
		p.pos = len("---")
		if !p.endLine() {
			return nil
		}
	}
	col := p.token()
	if col < 0 {
		return nil
	}
	root := p.block(col)
	if root == nil || p.pos < len(p.text) {
		return nil
	}
	return root
}

// node is a new one at the current position.
func (p *plain) node(kind yaml.Kind, style yaml.Style, tag, value string) *yaml.Node {
	if len(p.nodes) == cap(p.nodes) {
		p.nodes = make([]yaml.Node, 0, max(64, 2*cap(p.nodes)))
	}
	p.nodes = append(p.nodes, yaml.Node{Kind: kind, Style: style, Tag: tag, Value: value, Line: p.line, Column: p.column() + 1})
	return &p.nodes[len(p.nodes)-1]
}

// contents are the children that were read since there were n.
func (p *plain) contents(n int) []*yaml.Node {
	list := p.children[n:]
	p.children = p.children[:n]
	if len(list) == 0 {
		return nil
	}
	if len(p.lists)+len(list) > cap(p.lists) {
		p.lists = make([]*yaml.Node, 0, max(64, 2*cap(p.lists), len(list)))
	}
	at := len(p.lists)
	p.lists = append(p.lists, list...)
	return p.lists[at:len(p.lists):len(p.lists)]
}

func (p *plain) column() int { return p.pos - p.begin }

// is reports whether the next byte is one of some.
func (p *plain) is(some string) bool {
	return p.pos < len(p.text) && strings.IndexByte(some, p.text[p.pos]) >= 0
}

func (p *plain) spaces() {
	for p.pos < len(p.text) && p.text[p.pos] == ' ' {
		p.pos++
	}
}

// endLine goes to the next line; false if more than a comment is left of this
// one.
func (p *plain) endLine() bool {
	from := p.pos
	p.spaces()
	if p.pos == len(p.text) {
		return true
	}
	if p.text[p.pos] == '#' && (p.pos > from || p.column() == 0) {
		end := strings.IndexByte(p.text[p.pos:], '\n')
		if end < 0 {
			p.pos = len(p.text)
			return true
		}
		p.pos += end
	}
	if p.text[p.pos] != '\n' {
		return false
	}
	p.pos++
	p.line++
	p.begin = p.pos
	return true
}

// token goes from the beginning of a line, or from the token itself, to the
// next token and returns its column, -1 at the end.
func (p *plain) token() int {
	for p.pos < len(p.text) {
		at := p.pos
		if !p.endLine() {
			return p.column()
		}
		if p.pos == at {
			break
		}
	}
	return -1
}

// dash reports whether an item of a block list begins here.
func (p *plain) dash() bool { return p.is("-") && p.endsAt(p.pos+1) }

// endsAt reports whether a blank, or the end, is at a position.
func (p *plain) endsAt(pos int) bool {
	return pos >= len(p.text) || p.text[pos] == ' ' || p.text[pos] == '\n'
}

// block reads a block mapping or list whose first token, at col, is next.
func (p *plain) block(col int) *yaml.Node {
	if p.depth++; p.depth > maxPlainDepth {
		return nil
	}
	defer func() { p.depth-- }()
	if p.dash() {
		return p.sequence(col)
	}
	return p.mapping(col)
}

func (p *plain) mapping(col int) *yaml.Node {
	n := p.node(yaml.MappingNode, 0, "!!map", "")
	first := len(p.children)
	for {
		key := p.key()
		if key == nil {
			return nil
		}
		p.children = append(p.children, key)
		value := p.value(col, true)
		if value == nil {
			return nil
		}
		p.children = append(p.children, value)
		if at := p.token(); at < col {
			n.Content = p.contents(first)
			return n
		} else if at > col {
			return nil
		}
	}
}

func (p *plain) sequence(col int) *yaml.Node {
	n := p.node(yaml.SequenceNode, 0, "!!seq", "")
	first := len(p.children)
	for {
		p.pos++ // the dash
		item := p.value(col, false)
		if item == nil {
			return nil
		}
		p.children = append(p.children, item)
		switch at := p.token(); {
		case at > col:
			return nil
		case at < col || !p.dash():
			n.Content = p.contents(first)
			return n
		}
	}
}

// value reads what follows a colon or a dash in a collection at col. Below a key
// a list may stand at the key's own column; beside a dash a collection may
// begin on the same line.
func (p *plain) value(col int, ofKey bool) *yaml.Node {
	line, column := p.line, p.column()
	if !p.endLine() {
		if !ofKey && (p.dash() || p.keyAhead()) {
			return p.block(p.column())
		}
		return p.inline(col)
	}
	at := p.token()
	if at > col || at == col && ofKey && p.dash() {
		return p.block(at)
	}
	null := p.node(yaml.ScalarNode, 0, "!!null", "")
	null.Line, null.Column = line, column+1
	return null
}

// key reads a key and its colon.
func (p *plain) key() *yaml.Node {
	from := p.pos
	var n *yaml.Node
	if p.is(`"'`) {
		n = p.quoted()
	} else if p.pos < len(p.text) && keyBytes[p.text[p.pos]] && p.text[p.pos] != '-' {
		end := p.pos
		for end < len(p.text) && keyBytes[p.text[end]] {
			end++
		}
		n = p.word(end)
	}
	if n == nil || p.pos-from > maxPlainKey || !p.is(":") || !p.endsAt(p.pos+1) {
		return nil
	}
	p.pos++
	return n
}

// keyAhead reports whether key would find one here.
func (p *plain) keyAhead() bool {
	at, nodes := p.pos, len(p.nodes)
	found := p.key() != nil
	p.pos = at
	if len(p.nodes) > nodes {
		p.nodes = p.nodes[:nodes]
	}
	return found
}
