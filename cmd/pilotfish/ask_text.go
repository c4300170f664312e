package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/dashboard/report"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

const labelWidth = 14

// writeAnswer writes an Answer as text.
func writeAnswer(to io.Writer, a *simulate.Answer, explain bool) error {
	v := report.AnswerOf(a, explain)
	var b strings.Builder
	fmt.Fprintf(&b, "%s from %s\n", v.Request, v.From)
	if v.Connects != "" {
		fmt.Fprintf(&b, "connects to %s\n", v.Connects)
	}
	for _, h := range v.Hops {
		fmt.Fprintf(&b, "\n%s\n", h.Title)
		writeLines(&b, h.Lines)
	}
	b.WriteString("\nresult\n")
	writeLines(&b, v.Results)
	_, err := io.WriteString(to, b.String())
	return err
}

// writeLines writes each fact with the object that made it.
func writeLines(b *strings.Builder, lines []report.Line) {
	for _, l := range lines {
		fmt.Fprintf(b, "  %-*s%s", labelWidth, l.Label+" ", l.Text)
		if l.Source != nil {
			fmt.Fprintf(b, "  <- %s", l.Source)
		}
		b.WriteString("\n")
	}
}
