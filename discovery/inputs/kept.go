package inputs

import (
	"slices"

	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

// Kept are texts that are in no file of their name, by the name: what was read
// of overlays, standard input and revisions. A nil one keeps nothing.
type Kept map[string]*Source

// Source is what texts of one name come from.
type Source struct {
	Texts []file.Text
	// Path is the file that a report which points at files has for it: that of
	// the revision, the recipe of an overlay, the template of a chart. Empty: there is none.
	Path string
	// Exact: the lines are those of the file at Path, too.
	Exact bool
}

func (k Kept) add(t file.Text, path string, exact bool) {
	if k == nil {
		return
	}
	if k[t.Name] == nil {
		k[t.Name] = &Source{Path: path, Exact: exact}
	}
	s := k[t.Name]
	s.Texts = append(slices.DeleteFunc(s.Texts, func(had file.Text) bool { return had.Above == t.Above }), t)
}
