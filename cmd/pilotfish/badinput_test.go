package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What cannot be read is told with its place, exits with 2, and leaves the
// rest reported, whatever the command.
func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/bad-input")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	var transcript strings.Builder
	for _, line := range []string{
		// Broken YAML in the middle of good documents.
		"lint broken",
		"lint broken -o github",
		"ask --config shop --config broken --from web.shop http://reviews/",
		"test shop --config shop --config broken",
		"diff shop broken",
		"replay access.log --old shop --new broken",
		// Paths, overlays and git.
		"lint nowhere",
		"lint broken nowhere",
		"lint overlay",
		"lint shop overlay",
		"ask --config shop --config nowhere --from web.shop http://reviews/",
		"diff nowhere shop",
		"diff main..HEAD",
		// Helm that failed before the pipe.
		"lint -",
		"lint shop -",
		// Names and requests.
		"ask --config shop --from wbe.shop http://reviews/",
		"ask --config shop --from web.shop http://revews/",
		"ask --config shop --from web.shop http://reviews.shp/",
		"ask --config shop --from web.shop http://reviews/ -X G;T",
		"ask --config shop --from web.shop http://reviews/ -H b@d:x",
		"ask --config shop --from web.shop http://reviews:99999/",
		// Two definitions of one object.
		"lint shop again",
		"ask --config shop --config again --from web.shop http://reviews/",
		// Test files.
		"test wrong",
	} {
		code, stdout, stderr := run(strings.Fields(line)...)
		transcript.WriteString("$ pilotfish " + line + "\n" + tail(stdout, 5) + stderr)
		transcript.WriteString("[exit code " + string(rune('0'+code)) + "]\n\n")
	}
	t.Chdir(testFolder)
	golden(t, "bad-input.txt", strings.ReplaceAll(transcript.String(), filepath.ToSlash(dir), "/mesh"))
}

var testFolder = func() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err) // no folder to be in
	}
	return dir
}()

func tail(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	if len(lines) <= n+1 {
		return text
	}
	return "...\n" + strings.Join(lines[len(lines)-n-1:], "")
}
