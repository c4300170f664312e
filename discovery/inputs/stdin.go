package inputs

import (
	"bytes"
	"errors"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

// stdin is the name of standard input.
const stdin = "<stdin>"

// stdinTexts reads standard input. What Helm prints comes apart by the
// templates that it is of.
func stdinTexts(o *Options) ([]file.Text, []config.Problem, error) {
	if o.Stdin == nil {
		return nil, nil, errors.New("standard input is not available")
	}
	data, err := o.Stdin()
	if err != nil {
		return nil, nil, err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil, errors.New("standard input is empty: did the command before the pipe fail?")
	}
	var out []file.Text
	add := func(template string, above int, data []byte) {
		t := file.Text{Name: stdin, Data: data, Above: above, Strict: true}
		if template != "" {
			t.Name += " (" + template + ")"
		}
		o.Kept.add(t, template, false)
		out = append(out, t)
	}
	template, begin, above := "", 0, 0 // of the text that is not added yet
	at, line := 0, 0
	for l := range bytes.Lines(data) {
		if bytes.Equal(bytes.TrimSpace(l), []byte("---")) {
			if next := templateOf(data[at+len(l):]); next != template {
				if at > begin {
					add(template, above, data[begin:at])
				}
				template, begin, above = next, at, line
			}
		}
		at, line = at+len(l), line+1
	}
	add(template, above, data[begin:])
	return out, nil, nil
}

// templateOf is the template that a document is of, by the comment that Helm
// begins it with; empty for what comes from elsewhere.
func templateOf(document []byte) string {
	rest, ok := bytes.CutPrefix(document, []byte("# Source: "))
	if !ok {
		return ""
	}
	name, _, _ := bytes.Cut(rest, []byte("\n"))
	return string(bytes.TrimSpace(name))
}
