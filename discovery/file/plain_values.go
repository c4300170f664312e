package file

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// keyBytes are what keys without quotes consist of here; wordStart is what
// other values without quotes may begin with, none of which has a meaning
// there.
var keyBytes, wordStart = func() (key, start [256]bool) {
	for c := range 256 {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		key[c] = letter || strings.IndexByte("_./-", byte(c)) >= 0
		start[c] = letter || strings.IndexByte("_./-+~$^(=;\\", byte(c)) >= 0
	}
	return key, start
}()

// inline reads a value up to the end of its line, or a literal block, in a
// block collection at col.
func (p *plain) inline(col int) *yaml.Node {
	var n *yaml.Node
	switch {
	case p.is("|"):
		return p.literal(col)
	case p.is("[{"):
		n = p.flow()
	case p.is(`"'`):
		n = p.quoted()
	default:
		n = p.words("\n")
	}
	if n == nil || !p.endLine() {
		return nil
	}
	return n
}

// words reads a value without quotes that ends before a byte of ends, or a
// comment.
func (p *plain) words(ends string) *yaml.Node {
	if p.pos == len(p.text) || !wordStart[p.text[p.pos]] || p.dash() {
		return nil
	}
	end, last := p.pos, p.pos // last is where the last word ends
	for ; end < len(p.text) && strings.IndexByte(ends, p.text[end]) < 0; end++ {
		switch c := p.text[end]; {
		case c == ' ':
			continue
		case c == ':' && p.endsAt(end+1):
			return nil
		case c == '#' && p.text[end-1] == ' ':
			return p.word(last)
		}
		last = end + 1
	}
	return p.word(last)
}

// word is the scalar without quotes up to end.
func (p *plain) word(end int) *yaml.Node {
	value := p.text[p.pos:end]
	n := p.node(yaml.ScalarNode, 0, "", value)
	p.pos = end
	if strings.IndexByte("yYnNtTfFoO~.+-0123456789", value[0]) >= 0 {
		n.Tag = n.ShortTag()
	} else {
		n.Tag = "!!str" // what begins like this has no other meaning
	}
	return n
}

// quoted reads a quoted value on one line that has no escapes.
func (p *plain) quoted() *yaml.Node {
	quote, style := p.text[p.pos], yaml.DoubleQuotedStyle
	if quote == '\'' {
		style = yaml.SingleQuotedStyle
	}
	end := p.pos + 1
	for end < len(p.text) && p.text[end] != quote {
		if p.text[end] == '\n' || p.text[end] == '\\' && quote == '"' {
			return nil
		}
		end++
	}
	if end == len(p.text) || strings.HasPrefix(p.text[end:], "''") {
		return nil
	}
	n := p.node(yaml.ScalarNode, style, "!!str", p.text[p.pos+1:end])
	p.pos = end + 1
	return n
}

// flow reads a value inside of brackets or braces, all on one line.
func (p *plain) flow() *yaml.Node {
	if p.depth++; p.depth > maxPlainDepth {
		return nil
	}
	defer func() { p.depth-- }()
	switch {
	case p.is("["):
		return p.flowCollection(yaml.SequenceNode, "!!seq", "]")
	case p.is("{"):
		return p.flowCollection(yaml.MappingNode, "!!map", "}")
	case p.is(`"'`):
		return p.quoted()
	}
	n := p.words(",[]{}?\n")
	if n == nil || strings.HasSuffix(n.Value, ":") {
		return nil
	}
	return n
}

func (p *plain) flowCollection(kind yaml.Kind, tag, closing string) *yaml.Node {
	n := p.node(kind, yaml.FlowStyle, tag, "")
	first := len(p.children)
	for {
		p.pos++ // the bracket or comma
		p.spaces()
		if p.is(closing) && len(p.children) == first {
			break
		}
		if kind == yaml.MappingNode {
			key := p.key()
			if key == nil {
				return nil
			}
			p.children = append(p.children, key)
			p.spaces()
		}
		value := p.flow()
		if value == nil {
			return nil
		}
		p.children = append(p.children, value)
		p.spaces()
		if p.is(closing) {
			break
		}
		if !p.is(",") {
			return nil
		}
	}
	p.pos++
	n.Content = p.contents(first)
	return n
}

// literal reads the lines of a block after a bar, in a collection at col. It
// has to begin with a line that is not empty.
func (p *plain) literal(col int) *yaml.Node {
	n := p.node(yaml.ScalarNode, yaml.LiteralStyle, "!!str", "")
	p.pos++
	strip := p.is("-")
	if strip {
		p.pos++
	}
	p.spaces()
	if !p.is("\n") || !p.endLine() {
		return nil
	}
	p.spaces()
	indent := p.column()
	if indent <= col || p.pos == len(p.text) || p.is("\n") {
		return nil
	}
	p.pos = p.begin
	var lines []string
	for p.pos < len(p.text) {
		end := strings.IndexByte(p.text[p.pos:], '\n')
		if end < 0 {
			return nil
		}
		line := p.text[p.pos : p.pos+end]
		switch blanks := len(line) - len(strings.TrimLeft(line, " ")); {
		case blanks >= indent:
			lines = append(lines, line[indent:])
		case blanks < len(line):
			end = -1
		default:
			lines = append(lines, "")
		}
		if end < 0 {
			break
		}
		p.pos += end + 1
		p.line++
		p.begin = p.pos
	}
	for lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	n.Value = strings.Join(lines, "\n")
	if !strip {
		n.Value += "\n"
	}
	return n
}
