package main

import (
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/dashboard/report"
	"github.com/pilotfish-mesh/pilotfish/meshtest"
)

func (f *testFlags) write(to io.Writer, r *testRun) error {
	switch f.out.value {
	case "json", "yaml":
		return writeData(to, f.out.value, dataOf(r))
	case "junit":
		return writeJUnit(to, r)
	case "html":
		return f.writeTestHTML(to, r)
	case "github":
		return f.writeTestAnnotations(to, r)
	case "sarif":
		return writeSARIF(to, "test", f.config.marked(failuresOf(r)))
	case "markdown":
		return writeTestMarkdown(to, r)
	}
	return f.writeText(to, r)
}

func (f *testFlags) writeText(to io.Writer, r *testRun) error {
	var b strings.Builder
	for _, p := range r.problems {
		fmt.Fprintln(&b, p)
	}
	for _, res := range r.results {
		c := res.Case
		switch {
		case res.Err != nil:
			fmt.Fprintf(&b, "ERROR %s (%s:%d)\n      %v\n", c.Name, c.File(), c.Line, res.Err)
		case !res.Passed():
			fmt.Fprintf(&b, "FAIL  %s (%s:%d)\n", c.Name, c.File(), c.Line)
			for _, line := range res.Failed {
				fmt.Fprintf(&b, "      %s\n", line)
			}
			if res.Counterexample != "" {
				fmt.Fprintf(&b, "      counterexample: pilotfish ask %s\n", res.Counterexample)
			}
		case f.verbose && c.Forall != nil:
			fmt.Fprintf(&b, "ok    %s (%d requests)\n", c.Name, res.Tried)
		case f.verbose:
			fmt.Fprintf(&b, "ok    %s\n", c.Name)
		}
		for _, u := range res.Unknown {
			fmt.Fprintf(&b, "      not certain: %s\n", u)
		}
	}
	coverageText(&b, r)
	if f.annotate {
		f.annotateFiles(&b, r.coverage)
	}
	mutantsText(&b, r)
	passed, failed, broken := r.counts()
	fmt.Fprintf(&b, "%d passed", passed)
	for _, part := range []struct {
		n    int
		what string
	}{{failed, "failed"}, {broken, "could not run"}} {
		if part.n > 0 {
			fmt.Fprintf(&b, ", %d %s", part.n, part.what)
		}
	}
	b.WriteString("\n")
	_, err := io.WriteString(to, b.String())
	return err
}

func (r *testRun) counts() (passed, failed, broken int) {
	for _, res := range r.results {
		switch {
		case res.Err != nil:
			broken++
		case res.Passed():
			passed++
		default:
			failed++
		}
	}
	return passed, failed, broken
}

func coverageText(b *strings.Builder, r *testRun) {
	if r.coverage == nil {
		return
	}
	for _, i := range r.coverage.Items {
		if i.Cases == 0 {
			fmt.Fprintf(b, "not reached: %s %s", i.Object, i.Field)
			if i.Name != "" {
				fmt.Fprintf(b, " %q", i.Name)
			}
			if i.File != "" {
				fmt.Fprintf(b, " (%s:%d)", i.File, i.Line)
			}
			b.WriteString("\n")
		}
	}
	fmt.Fprintf(b, "coverage: %.1f %% of %d matches, routes, policies and rules\n", r.coverage.Percent(), len(r.coverage.Items))
}

func (f *testFlags) writeTestHTML(to io.Writer, r *testRun) error {
	t := &report.Tests{Results: r.results, Problems: r.problems, Coverage: r.coverage}
	if r.mutants != nil {
		t.Mutants, t.Noticed = r.mutants.Survived, r.mutants.String()
	}
	if f.annotate {
		f.eachAnnotated(r.coverage, func(name string, lines []meshtest.AnnotatedLine) {
			t.Annotated = append(t.Annotated, report.Annotated{File: name, Lines: lines})
		})
	}
	page := &report.Page{Title: "test", Tests: t}
	if len(r.suites) == 1 { // of one mesh
		page.Calls = report.CallsOf(r.suites[0].world)
	}
	return page.Write(to)
}

// eachAnnotated visits the files that hold what can be reached.
func (f *testFlags) eachAnnotated(c *meshtest.Coverage, visit func(name string, lines []meshtest.AnnotatedLine)) {
	for _, name := range c.Files() {
		var lines []meshtest.AnnotatedLine
		for _, t := range f.config.texts(name) {
			lines = append(lines, c.Annotate(name, t.Above, string(t.Data))...)
		}
		if lines != nil {
			visit(name, lines)
		}
	}
}

// annotateFiles writes them with the number of cases before each line.
func (f *testFlags) annotateFiles(b *strings.Builder, c *meshtest.Coverage) {
	f.eachAnnotated(c, func(name string, lines []meshtest.AnnotatedLine) {
		fmt.Fprintf(b, "--- %s\n", name)
		for _, l := range lines {
			mark := "      "
			switch {
			case l.Cases == 0:
				mark = "!!!!! "
			case l.Cases > 0:
				mark = fmt.Sprintf("%5d ", l.Cases)
			}
			b.WriteString(mark + l.Text + "\n")
		}
	})
}

func mutantsText(b *strings.Builder, r *testRun) {
	if r.mutants == nil {
		return
	}
	for _, m := range r.mutants.Survived {
		fmt.Fprintf(b, "no case notices: %s %s: %s", m.Object, m.Field, m.What)
		if m.File != "" {
			fmt.Fprintf(b, " (%s:%d)", m.File, m.Line)
		}
		fmt.Fprintf(b, "\n    before   %s\n    after    %s\n    example  pilotfish ask %s\n", m.Before, m.After, m.Witness)
	}
	fmt.Fprintf(b, "mutants: %s\n", r.mutants)
}

// String is how many were noticed.
func (m *mutants) String() string {
	differ := m.Tried - m.Same
	text := fmt.Sprintf("%d of %d noticed", differ-len(m.Survived), differ)
	if m.Same > 0 {
		text += fmt.Sprintf("; %d more change no answer", m.Same)
	}
	return text
}

// testData is the form of -o json.
type testData struct {
	Passed   int              `json:"passed"`
	Failed   int              `json:"failed"`
	Broken   int              `json:"couldNotRun"`
	Cases    []caseData       `json:"cases"`
	Problems []config.Problem `json:"problems,omitempty"`
	Coverage *coverageData    `json:"coverage,omitempty"`
	Mutants  *mutants         `json:"mutants,omitempty"`
}

type coverageData struct {
	Percent float64            `json:"percent"`
	Items   []meshtest.Covered `json:"items"`
}

type caseData struct {
	Name           string   `json:"name"`
	File           string   `json:"file"`
	Line           int      `json:"line"`
	Outcome        string   `json:"outcome"`
	Failed         []string `json:"failed,omitempty"`
	Error          string   `json:"error,omitempty"`
	Counterexample string   `json:"counterexample,omitempty"`
	Requests       int      `json:"requests"`
	Unknown        []string `json:"unknown,omitempty"`
}

func dataOf(r *testRun) *testData {
	d := &testData{Problems: r.problems, Mutants: r.mutants, Cases: []caseData{}}
	d.Passed, d.Failed, d.Broken = r.counts()
	for _, res := range r.results {
		c := caseData{
			Name: res.Case.Name, File: res.Case.File(), Line: res.Case.Line, Outcome: "passed", Failed: res.Failed,
			Counterexample: res.Counterexample, Requests: res.Tried, Unknown: res.Unknown,
		}
		switch {
		case res.Err != nil:
			c.Outcome, c.Error = "error", res.Err.Error()
		case !res.Passed():
			c.Outcome = "failed"
		}
		d.Cases = append(d.Cases, c)
	}
	if r.coverage != nil {
		d.Coverage = &coverageData{math.Round(10*r.coverage.Percent()) / 10, r.coverage.Items}
	}
	return d
}

// failuresOf are what did not pass, as findings.
func failuresOf(r *testRun) []meshtest.Finding {
	var out []meshtest.Finding
	for _, p := range r.problems {
		out = append(out, meshtest.Finding{Problem: p})
	}
	for _, res := range r.results {
		p := config.Problem{Severity: config.Error, Code: "TestFailed", File: res.Case.File(), Line: res.Case.Line}
		switch {
		case res.Err != nil:
			p.Code, p.Message = "TestCouldNotRun", res.Case.Name+": "+res.Err.Error()
		case res.Passed():
			continue
		default:
			p.Message = res.Case.Name + ": " + failureText(res)
		}
		out = append(out, meshtest.Finding{Problem: p})
	}
	return out
}

// writeTestAnnotations marks the lines of failed cases for GitHub.
func (f *testFlags) writeTestAnnotations(to io.Writer, r *testRun) error {
	if err := writeAnnotations(to, f.config.marked(failuresOf(r))); err != nil {
		return err
	}
	passed, failed, broken := r.counts()
	_, err := fmt.Fprintf(to, "%d passed, %d failed, %d could not run\n", passed, failed, broken)
	return err
}

func writeTestMarkdown(to io.Writer, r *testRun) error {
	var b strings.Builder
	passed, failed, broken := r.counts()
	fmt.Fprintf(&b, "### Mesh tests: %d passed, %d failed, %d could not run\n\n", passed, failed, broken)
	for _, res := range r.results {
		if res.Passed() {
			continue
		}
		text := failureText(res)
		if res.Err != nil {
			text = res.Err.Error()
		}
		fmt.Fprintf(&b, "* **%s** (`%s:%d`)\n", res.Case.Name, res.Case.File(), res.Case.Line)
		for line := range strings.Lines(text) {
			fmt.Fprintf(&b, "  * %s\n", strings.TrimSpace(line))
		}
	}
	if r.coverage != nil {
		fmt.Fprintf(&b, "\nCoverage: %.1f %% of %d matches, routes, policies and rules.\n\n", r.coverage.Percent(), len(r.coverage.Items))
		for _, i := range r.coverage.Items {
			if i.Cases == 0 {
				fmt.Fprintf(&b, "* not reached: %s `%s` (`%s:%d`)\n", i.Object, i.Field, i.File, i.Line)
			}
		}
	}
	if r.mutants != nil {
		fmt.Fprintf(&b, "\nMutants: %s.\n\n", r.mutants)
		for _, m := range r.mutants.Survived {
			fmt.Fprintf(&b, "* no case notices: %s `%s`: %s\n  * before: `%s`\n  * after: `%s`\n  * example: `pilotfish ask %s`\n",
				m.Object, m.Field, m.What, m.Before, m.After, m.Witness)
		}
	}
	_, err := io.WriteString(to, b.String())
	return err
}

func writeJUnit(to io.Writer, r *testRun) error {
	all := junitSuites{}
	at := map[string]int{}
	for _, res := range r.results {
		file := res.Case.File()
		i, ok := at[file]
		if !ok {
			i = len(all.Suites)
			at[file] = i
			all.Suites = append(all.Suites, junitSuite{Name: file, Time: "0"})
		}
		s := &all.Suites[i]
		c := junitCase{Name: res.Case.Name, Class: file, File: file, Line: res.Case.Line, Time: fmt.Sprintf("%.6f", res.Duration.Seconds())}
		s.Tests++
		all.Tests++
		switch {
		case res.Err != nil:
			c.Error = &junitDetail{Message: res.Err.Error()}
			s.Errors++
			all.Errors++
		case !res.Passed():
			c.Failure = &junitDetail{Message: res.Failed[0], Text: failureText(res)}
			s.Failures++
			all.Failures++
		}
		s.Cases = append(s.Cases, c)
	}
	return encodeJUnit(to, &all)
}

func failureText(r *meshtest.Result) string {
	text := strings.Join(r.Failed, "\n")
	if r.Counterexample != "" {
		text += "\ncounterexample: pilotfish ask " + r.Counterexample
	}
	return text
}
