package main

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/meshtest"
)

// marked are findings for reports that mark lines of a repository's files. What
// is in no file of its name is at the file that it comes from; if the lines are
// not that file's, the message has the place.
func (f *configFlags) marked(list []meshtest.Finding) []meshtest.Finding {
	out := slices.Clone(list)
	for i := range out {
		p := &out[i].Problem
		from := f.kept[p.File]
		if from == nil {
			continue
		}
		if !from.Exact {
			p.Message += fmt.Sprintf(" (at %s:%d", p.File, p.Line)
			if p.Column > 0 {
				p.Message += fmt.Sprintf(":%d", p.Column)
			}
			p.Message += ")"
			p.Line, p.Column = 0, 0
		}
		p.File = from.Path
	}
	return out
}

// writeAnnotations writes findings as workflow commands of GitHub Actions,
// which mark the lines.
func writeAnnotations(to io.Writer, list []meshtest.Finding) error {
	var b strings.Builder
	for i := range list {
		annotate(&b, &list[i].Problem, list[i].Code, findingText(&list[i]))
	}
	_, err := io.WriteString(to, b.String())
	return err
}

func annotate(b *strings.Builder, at *config.Problem, title, message string) {
	escape := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	level := at.Severity.String()
	if level == "info" {
		level = "notice"
	}
	place := ""
	if at.File != "" {
		place = fmt.Sprintf("file=%s,line=%d,", property.Replace(at.File), max(at.Line, 1))
	}
	if at.Column > 0 {
		place += fmt.Sprintf("col=%d,", at.Column)
	}
	fmt.Fprintf(b, "::%s %stitle=%s::%s\n", level, place, property.Replace(title), escape.Replace(message))
}

// The parts of SARIF 2.1.0 (OASIS) that a report of findings needs.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool struct {
			Driver sarifDriver `json:"driver"`
		} `json:"tool"`
		Results []sarifResult `json:"results"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		InformationURI string      `json:"informationUri"`
		Version        string      `json:"version,omitempty"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID               string         `json:"id"`
		ShortDescription sarifText      `json:"shortDescription"`
		Properties       map[string]any `json:"properties,omitempty"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		Level        string             `json:"level"`
		Message      sarifText          `json:"message"`
		Locations    []sarifLocation    `json:"locations,omitempty"`
		Suppressions []sarifSuppression `json:"suppressions,omitempty"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Justification string `json:"justification"`
	}
	sarifLocation struct {
		Physical sarifPhysical `json:"physicalLocation"`
	}
	sarifPhysical struct {
		Artifact struct {
			URI string `json:"uri"`
		} `json:"artifactLocation"`
		Region struct {
			StartLine   int `json:"startLine"`
			StartColumn int `json:"startColumn,omitempty"`
		} `json:"region"`
	}
)

var sarifLevels = map[config.Severity]string{config.Info: "note", config.Warning: "warning", config.Error: "error"}

// writeSARIF writes what a command has found for code scanning.
func writeSARIF(to io.Writer, command string, list []meshtest.Finding) error {
	run := sarifRun{Results: []sarifResult{}}
	run.Tool.Driver = sarifDriver{Name: "pilotfish " + command, InformationURI: "https://github.com/pilotfish-mesh/pilotfish", Version: version, Rules: []sarifRule{}}
	seen := map[string]bool{}
	for i := range list {
		f := &list[i]
		if !seen[f.Code] {
			seen[f.Code] = true
			rule := sarifRule{ID: f.Code, ShortDescription: sarifText{f.Code}}
			if len(f.Aliases) > 0 {
				rule.Properties = map[string]any{"tags": f.Aliases}
			}
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, rule)
		}
		r := sarifResult{RuleID: f.Code, Level: sarifLevels[f.Severity], Message: sarifText{strings.TrimLeft(f.Object.String()+": "+findingText(f), " :")}}
		if f.File != "" {
			at := sarifLocation{}
			at.Physical.Artifact.URI = (&url.URL{Path: filepath.ToSlash(f.File)}).String()
			at.Physical.Region.StartLine, at.Physical.Region.StartColumn = max(f.Line, 1), f.Column
			r.Locations = []sarifLocation{at}
		}
		if f.Ignored != "" {
			r.Suppressions = []sarifSuppression{{"inSource", f.Ignored}}
		}
		run.Results = append(run.Results, r)
	}
	e := json.NewEncoder(to)
	e.SetIndent("", "  ")
	return e.Encode(sarifLog{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}})
}

// The elements of JUnit's report, as CI systems read them.
type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string       `xml:"name,attr"`
	Class   string       `xml:"classname,attr"`
	File    string       `xml:"file,attr,omitempty"`
	Line    int          `xml:"line,attr,omitempty"`
	Time    string       `xml:"time,attr"`
	Failure *junitDetail `xml:"failure"`
	Error   *junitDetail `xml:"error"`
}

type junitDetail struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

func encodeJUnit(to io.Writer, all *junitSuites) error {
	if _, err := io.WriteString(to, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(to)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(to, "\n")
	return err
}

// writeFindingsJUnit writes each finding as a case that failed. Without any
// there is one that passed, since some readers take none at all for a failure.
func writeFindingsJUnit(to io.Writer, command string, list []meshtest.Finding) error {
	s := junitSuite{Name: "pilotfish " + command, Time: "0"}
	for i := range list {
		f := &list[i]
		c := junitCase{Name: strings.TrimSpace(f.Code + " " + f.Object.String()), Class: orElse(f.File, command), File: f.File, Line: f.Line, Time: "0"}
		if f.Ignored == "" && f.Severity > config.Info {
			c.Failure = &junitDetail{Message: findingText(f)}
			s.Failures++
		}
		s.Cases = append(s.Cases, c)
	}
	if len(list) == 0 {
		s.Cases = []junitCase{{Name: "nothing found", Class: command, Time: "0"}}
	}
	s.Tests = len(s.Cases)
	return encodeJUnit(to, &junitSuites{Tests: s.Tests, Failures: s.Failures, Suites: []junitSuite{s}})
}
