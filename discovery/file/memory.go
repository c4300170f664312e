package file

import (
	"maps"
	"sync"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// Memory remembers what documents came to, so that one that several states of
// a configuration share is parsed once. Safe for concurrent use.
type Memory struct {
	check discovery.Validator

	mu        sync.Mutex // guards what follows
	documents map[string]remembered
}

// remembered is what a document came to where it stood first.
type remembered struct {
	line int
	came []document
}

// NewMemory remembers nothing yet; check is that of ParseChecked.
func NewMemory(check discovery.Validator) *Memory {
	return &Memory{check: check, documents: map[string]remembered{}}
}

// Given are the objects that texts define, in their order: a later definition
// of one counts.
func (m *Memory) Given(texts []Text) ([]*discovery.Object, []config.Problem) {
	return given(texts, m.check, m)
}

// of is what a document came to, as it would at this place.
func (m *Memory) of(c chunk, file string) ([]document, bool) {
	m.mu.Lock()
	had, ok := m.documents[string(c.text)]
	m.mu.Unlock()
	if !ok {
		return nil, false
	}
	out := make([]document, len(had.came))
	for i, d := range had.came {
		if d.object != nil {
			o := *d.object
			o.Meta.File, o.Meta.Line = file, o.Meta.Line+c.line-had.line
			o.Meta.Lines = shifted(o.Meta.Lines, c.line-had.line)
			d.object = &o
		}
		out[i] = d
	}
	return out, true
}

func shifted(lines config.Lines, by int) config.Lines {
	if by == 0 || lines == nil {
		return lines
	}
	out := maps.Clone(lines)
	for path := range out {
		out[path] += by
	}
	return out
}

// keep remembers a document. What is wrong with one is told of its place: it
// is read anew at another.
func (m *Memory) keep(c chunk, came []document) {
	for _, d := range came {
		if d.broken || len(d.problems) > 0 {
			return
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.documents[string(c.text)] = remembered{c.line, came}
}
