package main

import (
	"strings"
	"unicode/utf8"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

// columns finds where on its line a problem is: at the field that it names, or
// where the line begins.
type columns struct {
	texts func(name string) []file.Text
	known map[string][]lines
}

// lines are some of a file's.
type lines struct {
	above int
	text  []string
}

func (c *columns) of(p *config.Problem) int {
	parts, known := c.known[p.File]
	if !known {
		for _, t := range c.texts(p.File) {
			parts = append(parts, lines{t.Above, strings.Split(string(t.Data), "\n")})
		}
		if c.known == nil {
			c.known = map[string][]lines{}
		}
		c.known[p.File] = parts
	}
	for _, l := range parts {
		if i := p.Line - 1 - l.above; i >= 0 && i < len(l.text) {
			return columnOf(l.text[i], lastKey(p.Field))
		}
	}
	return 0
}

// set gives problems their columns.
func (c *columns) set(p *config.Problem) {
	if p.Column == 0 && p.File != "" {
		p.Column = c.of(p)
	}
}

// lastKey is the name at the end of a path such as spec.http[0].route[1].weight
// or metadata.labels[a.b/c].
func lastKey(field string) string {
	if rest, ok := strings.CutSuffix(field, "]"); ok {
		i := strings.LastIndexByte(rest, '[')
		if name := rest[i+1:]; strings.Trim(name, "0123456789") != "" {
			return name
		}
		return lastKey(rest[:max(i, 0)])
	}
	return field[strings.LastIndexByte(field, '.')+1:]
}

// columnOf is where a key stands on a line of YAML, in characters from 1; the
// line's first character if it is not there.
func columnOf(line, key string) int {
	begin := len(line) - len(strings.TrimLeft(line, " \t"))
	if rest := strings.TrimLeft(line[begin:], "- "); rest != "" && key != "" {
		begin = len(line) - len(rest)
	}
	for at := 0; key != ""; {
		i := strings.Index(line[at:], key)
		if i < 0 {
			break
		}
		i += at
		before, after := line[:i], strings.TrimLeft(line[i+len(key):], "\"' ")
		if (before == "" || strings.ContainsAny(before[len(before)-1:], " {,\"'\t")) && strings.HasPrefix(after, ":") {
			begin = i
			break
		}
		at = i + len(key)
	}
	return utf8.RuneCountInString(line[:begin]) + 1
}
