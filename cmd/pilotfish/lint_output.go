package main

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/dashboard/report"
	"github.com/pilotfish-mesh/pilotfish/meshtest"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

func writeFindings(to io.Writer, format string, list []meshtest.Finding, w *simulate.World) error {
	switch format {
	case "json", "yaml":
		return writeData(to, format, map[string]any{"findings": append([]meshtest.Finding{}, list...)})
	case "html":
		return (&report.Page{Title: "lint", Findings: &report.Findings{List: list}, Calls: report.CallsOf(w)}).Write(to)
	case "sarif":
		return writeSARIF(to, list)
	case "junit":
		return writeLintJUnit(to, list)
	}
	var b strings.Builder
	for i := range list {
		f := &list[i]
		switch format {
		case "github":
			annotate(&b, &f.Problem, f.Code, findingText(f))
		case "markdown":
			fmt.Fprintf(&b, "* **%s** `%s:%d` %s %s (%s)\n", f.Severity, f.File, f.Line, f.Object, findingText(f), codes(f))
		default:
			fmt.Fprintln(&b, strings.TrimSuffix(f.String(), "("+f.Code+")")+"("+codes(f)+")")
			if f.Witness != "" {
				fmt.Fprintf(&b, "    for example: pilotfish ask %s\n", f.Witness)
			}
			if f.Ignored != "" {
				fmt.Fprintf(&b, "    ignored: %s\n", f.Ignored)
			}
		}
	}
	if format != "github" {
		fmt.Fprintf(&b, "%s\n", countFindings(list))
	}
	_, err := io.WriteString(to, b.String())
	return err
}

// findingText is field and message.
func findingText(f *meshtest.Finding) string {
	text := f.Message
	if f.Field != "" {
		text = f.Field + ": " + text
	}
	if f.Witness != "" {
		text += ", for example: pilotfish ask " + f.Witness
	}
	return text
}

func codes(f *meshtest.Finding) string {
	return strings.Join(append([]string{f.Code}, f.Aliases...), ", ")
}

func countFindings(list []meshtest.Finding) string {
	n := map[config.Severity]int{}
	for i := range list {
		if list[i].Ignored == "" {
			n[list[i].Severity]++
		}
	}
	if len(n) == 0 {
		return "nothing found"
	}
	var parts []string
	for _, s := range []config.Severity{config.Error, config.Warning, config.Info} {
		if n[s] > 0 {
			plural := ""
			if n[s] > 1 && s != config.Info {
				plural = "s"
			}
			parts = append(parts, fmt.Sprintf("%d %s%s", n[s], s, plural))
		}
	}
	return strings.Join(parts, ", ")
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

func writeSARIF(to io.Writer, list []meshtest.Finding) error {
	run := sarifRun{Results: []sarifResult{}}
	run.Tool.Driver = sarifDriver{Name: "pilotfish lint", InformationURI: "https://github.com/pilotfish-mesh/pilotfish", Version: version, Rules: []sarifRule{}}
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
		r := sarifResult{RuleID: f.Code, Level: sarifLevels[f.Severity], Message: sarifText{strings.TrimSpace(f.Object.String() + ": " + findingText(f))}}
		if f.File != "" {
			at := sarifLocation{}
			at.Physical.Artifact.URI = filepath.ToSlash(f.File)
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

func writeLintJUnit(to io.Writer, list []meshtest.Finding) error {
	s := junitSuite{Name: "pilotfish lint", Time: "0", Tests: len(list)}
	for i := range list {
		f := &list[i]
		c := junitCase{Name: f.Code + " " + f.Object.String(), Class: f.File, File: f.File, Line: f.Line, Time: "0"}
		if f.Ignored == "" && f.Severity > config.Info {
			c.Failure = &junitDetail{Message: findingText(f)}
			s.Failures++
		}
		s.Cases = append(s.Cases, c)
	}
	if _, err := io.WriteString(to, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(to)
	e.Indent("", "  ")
	if err := e.Encode(junitSuites{Tests: s.Tests, Failures: s.Failures, Suites: []junitSuite{s}}); err != nil {
		return err
	}
	_, err := io.WriteString(to, "\n")
	return err
}
