package meshtest

import (
	"regexp"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Fix changes one line and nothing beside it: comments and layout stay. There
// are fixes only where what works goes on as it is: mistyped fields of objects
// that have no effect because of them, and old forms that have an exact new one.
// Rules that are never reached are not taken out: it is likelier that they are
// in the wrong place.
type Fix struct {
	// Old is the key that becomes New. With Value it is the value, and with
	// Percentage the key's number goes below the new one's value.
	Old        string `json:"old"`
	New        string `json:"new"`
	Value      bool   `json:"value,omitempty"`
	Percentage bool   `json:"percentage,omitempty"`
}

var (
	didYouMean = regexp.MustCompile(`^unknown field "([^"]+)": did you mean "([^"]+)"\?`)
	oldGateway = regexp.MustCompile(`^is "([^"]+)", the old form; write "([^"]+)"`)
	oldPercent = regexp.MustCompile(`^is the old field; write (\w+): \{value: \d+\}`)
)

func fixOf(p *config.Problem) *Fix {
	if p.File == "" || p.Line == 0 {
		return nil
	}
	if m := didYouMean.FindStringSubmatch(p.Message); m != nil {
		return &Fix{Old: m[1], New: m[2]}
	}
	if p.Code != "Deprecated" {
		return nil
	}
	key := p.Field[strings.LastIndexByte(p.Field, '.')+1:]
	switch m := oldPercent.FindStringSubmatch(p.Message); {
	case m != nil:
		return &Fix{Old: key, New: m[1], Percentage: true}
	case key == "simple" && strings.HasPrefix(p.Message, "is LEAST_CONN,"):
		return &Fix{Old: "LEAST_CONN", New: "LEAST_REQUEST", Value: true}
	}
	if m := oldGateway.FindStringSubmatch(p.Message); m != nil {
		return &Fix{Old: m[1], New: m[2], Value: true}
	}
	return nil
}

const (
	wordBegins = `(^|[\s{\[,"'])`
	wordEnds   = `($|[\s}\],"'])`
)

// Apply mends one line; ok is false where the line does not hold the text as
// a word of its own, or more than once.
func (f *Fix) Apply(line string) (fixed string, ok bool) {
	pattern, with := wordBegins+regexp.QuoteMeta(f.Old)+`(["']?\s*:)`, "${1}"+dollars(f.New)+"${2}"
	switch {
	case f.Value:
		pattern, with = wordBegins+regexp.QuoteMeta(f.Old)+wordEnds, "${1}"+dollars(f.New)+"${2}"
	case f.Percentage:
		pattern, with = wordBegins+regexp.QuoteMeta(f.Old)+`:[ \t]+(\d+)`+wordEnds, "${1}"+dollars(f.New)+": {value: ${2}}${3}"
	}
	code, comment := line, ""
	if i := strings.Index(line, " #"); i >= 0 {
		code, comment = line[:i], line[i:]
	}
	r := regexp.MustCompile(pattern)
	if len(r.FindAllStringIndex(code, 2)) != 1 {
		return line, false
	}
	return r.ReplaceAllString(code, with) + comment, true
}

func dollars(s string) string { return strings.ReplaceAll(s, "$", "$$") }
