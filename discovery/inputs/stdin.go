package inputs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

// stdinTexts reads standard input.
func stdinTexts(ctx context.Context, o *Options) ([]file.Text, []config.Problem, error) {
	if o.Stdin == nil {
		return nil, nil, errors.New("standard input is not available")
	}
	data, err := untilDone(ctx, o.Stdin)
	if err != nil {
		return nil, nil, err
	}
	return outputOf(o.Kept, "<stdin>", data, "standard input")
}

// pipeTexts reads a named pipe, as a shell makes of <(helm template ...), or a
// device that hands out characters.
func pipeTexts(ctx context.Context, o *Options, path string, mode fs.FileMode) ([]file.Text, []config.Problem, error) {
	if mode&(fs.ModeNamedPipe|fs.ModeCharDevice) == 0 {
		return nil, nil, fmt.Errorf("%s cannot be read: %w", path, file.NotAFile(mode))
	}
	data, err := untilDone(ctx, func() ([]byte, error) {
		f, err := os.Open(path) //nolint:gosec // the user names it
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		return io.ReadAll(io.LimitReader(f, file.MaxSize+1))
	})
	switch {
	case err != nil:
		return nil, nil, err
	case len(data) > file.MaxSize:
		return nil, nil, fmt.Errorf("%s is larger than %d MiB", path, file.MaxSize>>20)
	}
	if mode&fs.ModeCharDevice != 0 && len(bytes.TrimSpace(data)) == 0 {
		return nil, nil, fmt.Errorf("%s is empty: name what holds objects, or an empty folder for a configuration without any", path)
	}
	return outputOf(o.Kept, path, data, path)
}

// untilDone reads what may never come, until ctx ends. What is still waited for
// then is left to wait.
func untilDone(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		data, err := read()
		done <- result{data, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-done:
		return r.data, r.err
	}
}

// outputOf is what a program has printed. What Helm prints comes apart by the
// templates that it is of.
func outputOf(kept Kept, name string, data []byte, what string) ([]file.Text, []config.Problem, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil, fmt.Errorf("%s is empty: did the command before the pipe fail?", what)
	}
	var out []file.Text
	add := func(template string, above int, data []byte) {
		t := file.Text{Name: name, Data: data, Above: above, Strict: true}
		if template != "" {
			t.Name += " (" + template + ")"
		}
		kept.add(t, template, false)
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
