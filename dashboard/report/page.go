package report

import (
	"bytes"
	_ "embed" // the style and the template
	"fmt"
	"html/template"
	"io"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/meshtest"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// Page is a report. Parts that are nil are left out.
type Page struct {
	Title    string
	Form     *Form // the page of a running mesh
	Answer   *Answer
	Diff     *Diff
	Findings *Findings
	Tests    *Tests
	Calls    *Calls

	style template.CSS // in the file itself; or empty
}

// Form is a request that can be asked about, as it was filled in.
type Form struct {
	From, Method, URL, Headers, Claims string
	Clients                            []string // that can be chosen
	Explain                            bool
	Above                              bool   // see Live
	Fault                              string // why there is no answer
}

// Diff is what a change changes.
type Diff struct {
	*meshtest.Difference
	Note  string // what is compared, or that there is nothing to compare
	None  bool   // there is nothing to compare
	Order *meshtest.Order
}

// Findings are those of lint.
type Findings struct{ List []meshtest.Finding }

// Tests are the outcome of cases, and what they reach.
type Tests struct {
	Cases    []*meshtest.Case
	Results  []*meshtest.Result
	Problems []config.Problem
	Coverage *meshtest.Coverage
	Mutants  []*meshtest.Mutant // that no case notices
	Noticed  string             // how many are, of how many; empty if none was tried
	// Annotated are the files that hold what can be reached; may be empty.
	Annotated []Annotated
	Note      string // where the tests are, or why there are none
}

// Annotated is one file.
type Annotated struct {
	File  string
	Lines []meshtest.AnnotatedLine
}

//go:embed report.css
var style string

//go:embed report.html
var source string

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"percent": Percent,
	"place":   func(file string, line int) string { return fmt.Sprintf("%s:%d", file, line) },
	"at":      func(s *simulate.Source) string { return s.String() },
	"plural":  plural,
	"add":     func(a, b int) int { return a + b },
	"failed":  func(r *meshtest.Result) bool { return !r.Passed() },
}).Parse(source))

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Write writes the report as one file that needs no other.
func (p *Page) Write(to io.Writer) error {
	own := *p
	own.style = template.CSS(style) //nolint:gosec // this package's own
	return own.execute(to)
}

func (p *Page) execute(to io.Writer) error {
	var b bytes.Buffer // all or nothing
	if err := page.Execute(&b, p); err != nil {
		return err
	}
	_, err := to.Write(b.Bytes())
	return err
}

// Style is that of a single file, or empty where it is loaded.
func (p *Page) Style() template.CSS { return p.style }
