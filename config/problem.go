package config

import (
	"fmt"
	"strings"
)

// Severity says what a Problem did to the configuration.
type Severity int

// The severities, mildest first.
const (
	// Info is a remark; everything is in effect.
	Info Severity = iota
	// Warning: the object is in effect, probably not as meant.
	Warning
	// Error: the object, or the named part of it, is not in effect.
	Error
)

// String is the lower-case name.
func (s Severity) String() string {
	switch s {
	case Info:
		return "info"
	case Warning:
		return "warning"
	default:
		return "error"
	}
}

// MarshalText makes the JSON form the name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the name.
func (s *Severity) UnmarshalText(b []byte) error {
	switch string(b) {
	case "info":
		*s = Info
	case "warning":
		*s = Warning
	case "error":
		*s = Error
	default:
		return fmt.Errorf("severity %q: want info, warning or error", b)
	}
	return nil
}

// Problem is a user's mistake, as a value. It is the same in translation,
// webhook, CLI and status.
type Problem struct {
	Object   Key      `json:"object,omitzero"`
	Field    string   `json:"field,omitempty"` // path such as spec.http[0].route[1].weight
	Severity Severity `json:"severity"`
	Code     string   `json:"code"` // stable, CamelCase: HostNotFound
	Message  string   `json:"message"`
	File     string   `json:"file,omitempty"`
	Line     int      `json:"line,omitempty"`
	Column   int      `json:"column,omitempty"` // in characters, from 1; 0 where it is not known
}

// At makes a Problem about a field of an object, with its file and line.
// Field is the path from "spec."; empty means the whole object.
func At(m *Meta, field string, s Severity, code, format string, args ...any) Problem {
	return Problem{
		Object: m.Key, Field: field, Severity: s, Code: code,
		Message: fmt.Sprintf(format, args...), File: m.File, Line: m.LineOf(field),
	}
}

// String is the one-line form: file:line:column: severity: object: field: message (code).
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File + ":")
		if p.Line > 0 { // otherwise it is about the whole file
			fmt.Fprintf(&b, "%d:", p.Line)
		}
		if p.Column > 0 {
			fmt.Fprintf(&b, "%d:", p.Column)
		}
		b.WriteByte(' ')
	}
	fmt.Fprintf(&b, "%s: ", p.Severity)
	if p.Object.Kind != "" {
		fmt.Fprintf(&b, "%s: ", p.Object)
	}
	if p.Field != "" {
		fmt.Fprintf(&b, "%s: ", p.Field)
	}
	fmt.Fprintf(&b, "%s (%s)", p.Message, p.Code)
	return b.String()
}
