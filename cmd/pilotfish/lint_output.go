package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/dashboard/report"
	"github.com/pilotfish-mesh/pilotfish/meshtest"
)

func (f *lintFlags) write(to io.Writer, list []meshtest.Finding) error {
	switch f.out.value {
	case "json", "yaml":
		return writeData(to, f.out.value, map[string]any{"findings": append([]meshtest.Finding{}, list...)})
	case "html":
		return (&report.Page{Title: "lint", Findings: &report.Findings{List: list}, Calls: report.CallsOf(f.world)}).Write(to)
	case "sarif":
		return writeSARIF(to, "lint", f.config.marked(list))
	case "junit":
		return writeFindingsJUnit(to, "lint", f.config.marked(list))
	case "github":
		return writeAnnotations(to, f.config.marked(list))
	}
	var b strings.Builder
	for i := range list {
		x := &list[i]
		switch f.out.value {
		case "markdown":
			fmt.Fprintf(&b, "* **%s** `%s:%d` %s %s (%s)\n", x.Severity, x.File, x.Line, x.Object, findingText(x), codes(x))
		default:
			fmt.Fprintln(&b, strings.TrimSuffix(x.String(), "("+x.Code+")")+"("+codes(x)+")")
			if x.Witness != "" {
				fmt.Fprintf(&b, "    for example: pilotfish ask %s\n", x.Witness)
			}
			if x.Ignored != "" {
				fmt.Fprintf(&b, "    ignored: %s\n", x.Ignored)
			}
		}
	}
	fmt.Fprintf(&b, "%s\n", countFindings(list))
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
