package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

var consoleBlock = regexp.MustCompile("(?s)```console\n(.*?)```\n")

// TestWalkthrough runs each command of a page in a copy of the folder that it
// is about and compares what it prints; -update writes it.
func TestWalkthrough(t *testing.T) {
	for _, p := range []struct {
		page, folder string
		commands     int // at least
	}{
		{"docs/testing-mesh-config.md", "bookstore", 8}, {"docs/policies.md", ".", 8}, {"README.md", "bookstore", 4},
	} {
		t.Run(filepath.Base(p.page), func(t *testing.T) { walk(t, p.page, p.folder, p.commands) })
	}
}

func walk(t *testing.T, page, folder string, atLeast int) {
	doc, err := filepath.Abs(filepath.Join("../..", page))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("../../examples", folder))); err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "pilotfish")); err != nil {
		t.Fatal(err)
	}
	envoy := envoytest.Binary(t)
	sh := func(command string) string {
		cmd := exec.Command("sh", "-c", command)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), asCommand+"=1", "ENVOY="+envoy, "PATH="+bin+":"+os.Getenv("PATH"),
			"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
		out, _ := cmd.CombinedOutput() // an exit code says what was found
		return string(out)
	}
	commands := 0
	got := consoleBlock.ReplaceAllStringFunc(string(text), func(block string) string {
		var b strings.Builder
		b.WriteString("```console\n")
		for line := range strings.Lines(consoleBlock.FindStringSubmatch(block)[1]) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				commands++
				b.WriteString(line + sh(strings.TrimSpace(command)))
			}
		}
		return b.String() + "```\n"
	})
	if commands < atLeast {
		t.Errorf("found %d commands", commands)
	}
	if *update {
		if err := os.WriteFile(doc, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != string(text) {
		want := filepath.Join(t.TempDir(), "want.md")
		_ = os.WriteFile(want, []byte(got), 0o600)
		out, _ := exec.Command("diff", "-u", doc, want).CombinedOutput()
		t.Errorf("the page and the commands say different things (-update writes the page anew):\n%s", out)
	}
}
