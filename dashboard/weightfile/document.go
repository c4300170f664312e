package weightfile

import (
	"bytes"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// document is one YAML document of a file. Node positions count from its first
// byte.
type document struct {
	start int // offset in the file
	line  int // 0-based line in the file
	text  []byte
	lines []int // offset in text of each line
	item  int   // index of the object among the items of a List, or -1
}

var utf8Mark = []byte("\xef\xbb\xbf")

// split cuts a file at its document markers. By YAML 1.2 section 9.1.2 a line
// that starts with "---" is always a marker, in block scalars and quotes too,
// so that a malformed document does not hide the ones after it.
func split(src []byte) []document {
	var docs []document
	starts := lineStarts(src)
	begin, beginLine := 0, 0
	if bytes.HasPrefix(src, utf8Mark) {
		begin = len(utf8Mark)
	}
	cut := func(end, endLine int) {
		text := src[begin:end]
		if len(bytes.TrimSpace(text)) > 0 {
			docs = append(docs, document{start: begin, line: beginLine, text: text, lines: lineStarts(text), item: -1})
		}
		begin, beginLine = end, endLine
	}
	for i, at := range starts {
		if i > 0 && isMarker(src[at:]) {
			cut(at, i)
		}
	}
	cut(len(src), len(starts))
	return docs
}

func isMarker(line []byte) bool {
	if !bytes.HasPrefix(line, []byte("---")) {
		return false
	}
	return len(line) == 3 || bytes.IndexByte([]byte(" \t\r\n"), line[3]) >= 0
}

// breakLen is the length of the line break at the start of b, or 0. The set is
// the YAML parser's.
func breakLen(b []byte) int {
	switch {
	case len(b) == 0:
		return 0
	case bytes.HasPrefix(b, []byte("\r\n")), bytes.HasPrefix(b, []byte("\u0085")):
		return 2
	case b[0] == '\n', b[0] == '\r':
		return 1
	case bytes.HasPrefix(b, []byte("\u2028")), bytes.HasPrefix(b, []byte("\u2029")):
		return 3
	}
	return 0
}

func lineStarts(b []byte) []int {
	starts := []int{0}
	for i := 0; i < len(b); {
		if n := breakLen(b[i:]); n > 0 {
			i += n
			starts = append(starts, i)
			continue
		}
		i++
	}
	return starts
}

// offset returns the byte offset of a node's 1-based line and column (columns
// count characters), or -1.
func (d document) offset(line, column int) int {
	if line < 1 || line > len(d.lines) {
		return -1
	}
	at := d.lines[line-1]
	for ; column > 1 && at < len(d.text); column-- {
		_, n := utf8.DecodeRune(d.text[at:])
		at += n
	}
	return at
}

// fileLine is a node's 1-based line in the file.
func (d document) fileLine(n *yaml.Node) int { return d.line + n.Line }

// lastLine is the 1-based line in the file of the document's last line.
func (d document) lastLine() int {
	n := len(d.lines)
	if d.lines[n-1] == len(d.text) {
		n-- // the text ends with a break
	}
	return d.line + n
}

// lineStart returns the offset of the line that holds at.
func (d document) lineStart(at int) int {
	start := 0
	for _, s := range d.lines {
		if s > at {
			break
		}
		start = s
	}
	return start
}

// lineEnd returns the offset of the break that ends the line that holds at,
// and that break, or the file's usual one on a last line without.
func (d document) lineEnd(at int) (int, string) {
	for ; at < len(d.text); at++ {
		if n := breakLen(d.text[at:]); n > 0 {
			return at, string(d.text[at : at+n])
		}
	}
	if i := bytes.IndexByte(d.text, '\n'); i > 0 && d.text[i-1] == '\r' {
		return at, "\r\n"
	}
	return at, "\n"
}

// end returns the offset behind a node's last byte, or -1 where the parser's
// positions do not tell.
func (d document) end(n *yaml.Node) int {
	at := d.offset(n.Line, n.Column)
	if at < 0 || n.Anchor != "" || n.Kind == yaml.AliasNode {
		return -1
	}
	switch {
	case n.Kind == yaml.ScalarNode:
		return d.scalarEnd(n, at)
	case n.Style&yaml.FlowStyle != 0:
		return flowEnd(d.text, at)
	case len(n.Content) == 0:
		return -1
	}
	return d.end(n.Content[len(n.Content)-1])
}

func (d document) scalarEnd(n *yaml.Node, at int) int {
	raw := n.Value
	switch n.Style {
	case yaml.DoubleQuotedStyle:
		raw = `"` + raw + `"`
	case yaml.SingleQuotedStyle:
		raw = `'` + raw + `'`
	case 0:
	default:
		return -1
	}
	if !bytes.HasPrefix(d.text[at:], []byte(raw)) {
		return -1
	}
	return at + len(raw)
}

// flowEnd returns the offset behind the flow collection that starts at at, or
// -1. Quotes and comments are stepped over.
func flowEnd(b []byte, at int) int {
	depth := 0
	for i := at; i < len(b); i++ {
		switch c := b[i]; c {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		case '"', '\'':
			if i = quoteEnd(b, i); i < 0 {
				return -1
			}
		case '#':
			if b[i-1] == ' ' || b[i-1] == '\t' || b[i-1] == '\n' {
				for i+1 < len(b) && breakLen(b[i+1:]) == 0 {
					i++
				}
			}
		}
	}
	return -1
}

// quoteEnd returns the offset of the quote that closes the one at at, or -1.
// A quote inside a plain word closes nothing, and is then taken as open: the
// edit is refused rather than misplaced.
func quoteEnd(b []byte, at int) int {
	for i := at + 1; i < len(b); i++ {
		switch {
		case b[at] == '"' && b[i] == '\\':
			i++
		case b[i] == b[at]:
			return i // '' is two strings to this scan, which does no harm
		}
	}
	return -1
}
