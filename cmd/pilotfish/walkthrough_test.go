package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

var (
	consoleBlock = regexp.MustCompile("(?s)```console\n(.*?)```\n")
	// consoleCommand is a command, with the lines of it that follow after "> ".
	consoleCommand = regexp.MustCompile(`(?m)^\$ (.*\n(?:> .*\n)*)`)
)

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
	dir := filepath.Join(t.TempDir(), "examples") // so that .. is the page's, too
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
	envoy, envoys := envoytest.Binary(t), filepath.Dir(filepath.Dir(envoytest.Old(t)))
	t.Cleanup(func() { endUp(t, filepath.Join(dir, "../up.pid")) })
	sh := func(command string) string {
		cmd := exec.Command("sh", "-c", command)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), asCommand+"=1", "ENVOY="+envoy, "ENVOYS="+envoys, "PATH="+bin+":"+os.Getenv("PATH"),
			"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
		out, _ := cmd.CombinedOutput() // an exit code says what was found
		return string(out)
	}
	commands := 0
	got := consoleBlock.ReplaceAllStringFunc(string(text), func(block string) string {
		var b strings.Builder
		b.WriteString("```console\n")
		for _, m := range consoleCommand.FindAllStringSubmatch(block, -1) {
			commands++
			b.WriteString(m[0] + sh(strings.ReplaceAll(strings.TrimSpace(m[1]), "\n> ", "\n")))
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

// endUp waits for the end of the mesh that a page has run and ended, and ends
// it if the page did not come to that.
func endUp(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
	envoytest.Eventually(t, patience, func() string {
		if syscall.Kill(pid, 0) == nil {
			return "pilotfish up is still there"
		}
		return ""
	})
}

// The gate of the page is the workflow's: the pull request that breaks a test
// is stopped, the one that only changes what requests are answered passes with
// a summary, and one that cannot be read is stopped by each command.
func TestGate(t *testing.T) {
	b, err := os.ReadFile("../../examples/ci/.github/workflows/mesh-config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var flow struct {
		Jobs map[string]struct{ Steps []struct{ Run string } }
	}
	if err := yaml.Unmarshal(b, &flow); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/testing-mesh-config.md")
	if err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, s := range flow.Jobs["check"].Steps {
		if strings.HasPrefix(s.Run, "pilotfish ") {
			steps = append(steps, s.Run)
			if !strings.Contains(string(page), "      run: "+s.Run+"\n") {
				t.Errorf("the page does not have %q", s.Run)
			}
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "pilotfish")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		edit    string
		passes  []bool
		summary string
	}{
		"weights":        {"sed -i 's/weight: 90/weight: 50/; s/weight: 10/weight: 50/' routing.yaml", []bool{true, false, true}, "50 % shop/reviews-v2"},
		"a mistake":      {"sed -i 's/host: reviews, subset: v2/host: reviews, subset: v9/' routing.yaml", []bool{false, false, true}, "503"},
		"a comment":      {"sed -i '1i # a comment' routing.yaml", []bool{true, true, true}, "Nothing changes"},
		"agreed":         {"sed -i 's/timeout: 3s/timeout: 2s/' routing.yaml bookstore_test.yaml", []bool{true, true, true}, "within 2s"},
		"unreadable":     {"echo '  x: [' >> routing.yaml", []bool{false, false, false}, ""},
		"a broken test":  {"echo '- nme: x' >> bookstore_test.yaml", []bool{true, false, true}, "Nothing changes"},
		"without a test": {"rm bookstore_test.yaml", []bool{true, false, true}, "Nothing changes"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, summary := t.TempDir(), filepath.Join(t.TempDir(), "summary")
			if err := os.CopyFS(dir, os.DirFS("../../examples/bookstore")); err != nil {
				t.Fatal(err)
			}
			run := func(script string) (string, bool) {
				cmd := exec.Command("bash", "-e", "-c", script)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), asCommand+"=1", "PATH="+bin+":"+os.Getenv("PATH"), "GITHUB_BASE_REF=main", "GITHUB_STEP_SUMMARY="+summary,
					"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
				out, err := cmd.CombinedOutput()
				return string(out), err == nil
			}
			if out, ok := run("git init -q && git add . && git commit -q -m one && git update-ref refs/remotes/origin/main HEAD && " + c.edit + " && git commit -q -a -m two"); !ok {
				t.Fatal(out)
			}
			for i, s := range steps {
				if out, ok := run(s); ok != c.passes[i] {
					t.Errorf("%s: passes is %v, want %v: %s", s, ok, c.passes[i], out)
				}
			}
			if text, _ := os.ReadFile(summary); !strings.Contains(string(text), c.summary) {
				t.Errorf("the summary does not say %q: %s", c.summary, text)
			}
		})
	}
}
