// Package weightfile changes the weights of a route in the YAML or JSON file
// that holds it.
//
// It consumes an Edit and a file on disk and produces the same file with other
// numbers in it: comments, order, quoting, indentation and line ends stay,
// because only the bytes of the weights are replaced. What cannot be changed
// that way is refused with a config.Problem and the file stays as it is. It
// imports config only; package dashboard and cmd/pilotfish may import it.
package weightfile

import (
	"fmt"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Total is what a route's weights must sum to after an edit.
const Total = 100

// Destination is one weighted destination as the caller last saw it.
type Destination struct {
	Host   string
	Subset string
	Weight int32 // 0 also where the field is absent
}

// Edit names one route of one object and what its weights shall become.
type Edit struct {
	// File is the path of the file to change, not of a link's copy: links are
	// followed.
	File string
	// Object is the object to change. A document without a namespace matches
	// any.
	Object config.Key
	// Line is the document's first line as last read. It tells documents of
	// one name apart; 0 means that there is only one.
	Line int
	// Field is the path of the list of destinations: spec.http[0].route.
	Field string
	// Seen are the destinations as last read. An edit of anything else is
	// refused: someone changed the file in the meantime.
	Seen []Destination
	// Weights are the new weights, one for each destination, 0 to 100 and 100
	// in sum.
	Weights []int32
}

// The codes of refusals.
const (
	CodeBadWeights  = "BadWeights"       // the new weights are not 0..100 with sum 100
	CodeFileChanged = "FileChanged"      // the file no longer says what the caller saw
	CodeUnreadable  = "FileUnreadable"   // the file cannot be read or parsed, or is no file
	CodeUnwritable  = "FileUnwritable"   // the file or its folder cannot be written
	CodeNotFound    = "RouteNotFound"    // the file has no such object or route
	CodeNotEditable = "WeightNotInPlace" // an anchor, alias or form that bytes cannot be replaced in
)

// Refusal is an edit that was not made, as a problem of the file or of the
// request. The file is unchanged.
type Refusal struct{ config.Problem }

// Error is the problem's one line.
func (r *Refusal) Error() string { return r.String() }

func (e *Edit) refuse(line int, code, format string, args ...any) *Refusal {
	return &Refusal{config.Problem{
		Object: e.Object, Field: e.Field, Severity: config.Error, Code: code,
		Message: fmt.Sprintf(format, args...), File: e.File, Line: line,
	}}
}

// check tests the request by itself.
func (e *Edit) check() error {
	if len(e.Weights) != len(e.Seen) || len(e.Weights) < 2 {
		return e.refuse(e.Line, CodeBadWeights, "%d weights for %d destinations: give one for each of at least two",
			len(e.Weights), len(e.Seen))
	}
	sum := int64(0)
	for i, w := range e.Weights {
		if w < 0 || w > Total {
			return e.refuse(e.Line, CodeBadWeights, "weight %d of destination %d is not between 0 and %d", w, i, Total)
		}
		sum += int64(w)
	}
	if sum != Total {
		return e.refuse(e.Line, CodeBadWeights, "the weights %v sum to %d: they must sum to %d", e.Weights, sum, Total)
	}
	return nil
}
