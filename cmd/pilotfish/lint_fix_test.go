package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What is mended keeps comments and layout, does so once, and shows as a diff
// that is the same change.
func TestLintFixesOldForms(t *testing.T) {
	const before, after = "testdata/fix/before.yaml", "testdata/fix/after.yaml"
	want, err := os.ReadFile(after)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(before)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Chdir(dir)
	write := func() {
		if err := os.WriteFile("mesh.yaml", text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	now := func() string {
		b, err := os.ReadFile("mesh.yaml")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	write()
	_, _, diff := run("lint", "--fix", "--dry-run")
	if now() != string(text) {
		t.Error("a dry run changes the file")
	}
	if code, stdout, stderr := run("lint", "--fix"); code != exitOK || now() != string(want) {
		t.Errorf("exit code %d: %s%s\nthe file is\n%s", code, stdout, stderr, now())
	}
	if _, _, stderr := run("lint", "--fix"); stderr != "" || now() != string(want) {
		t.Errorf("it is mended again: %s", stderr)
	}
	// The diff is one that git applies.
	write()
	if err := os.WriteFile(filepath.Join(dir, "fix.patch"), []byte(strings.ReplaceAll(strings.ReplaceAll(diff, "--- ", "--- a/"), "+++ ", "+++ b/")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("git", "apply", "--unidiff-zero", "fix.patch").CombinedOutput(); err != nil || now() != string(want) {
		t.Errorf("%v %s\n%s\nthe file is\n%s", err, out, diff, now())
	}
	if code, _, stderr := run("lint", "--dry-run"); code != exitUsage || !strings.Contains(stderr, "--dry-run: it is for --fix") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
