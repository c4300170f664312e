package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A transcript is a file of commands with what each prints and how it ends:
//
//	# Any prose.
//	$ pilotfish ask --from web.shop http://reviews/
//	what it prints, stdout before stderr
//	[exit code 0]
//
// The commands run one after the other in a folder with copies of testdata's
// meshes and of examples/bookstore. "pilotfish ..." runs in this process; what
// needs a shell (a pipe, a variable, another command) is given to one. -update
// writes the outputs. Readers of a pipe must read to its end (sed -n 1p, not
// head): what writes to one that has ended is killed, or not.
type transcript struct {
	name  string
	steps []step
}

type step struct {
	prose   string // before the command, with the line breaks
	command string
	output  string
	code    int
}

const endOfOutput = "[exit code "

func readTranscript(t *testing.T, file string) *transcript {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tr := &transcript{name: strings.TrimSuffix(filepath.Base(file), ".txt")}
	var s step
	for line := range strings.Lines(string(text)) {
		command, is := strings.CutPrefix(line, "$ ")
		switch {
		case is && s.command != "": // the one before has no output yet: this is prose
			tr.steps = append(tr.steps, step{prose: s.prose, command: s.command})
			s = step{prose: s.output, command: strings.TrimSpace(command)}
		case is:
			s.command = strings.TrimSpace(command)
		case s.command == "":
			s.prose += line
		case strings.HasPrefix(line, endOfOutput):
			if _, err := fmt.Sscanf(line, endOfOutput+"%d]", &s.code); err != nil {
				t.Fatalf("%s: %q: %v", file, line, err)
			}
			tr.steps = append(tr.steps, s)
			s = step{}
		default:
			s.output += line
		}
	}
	if s.command != "" {
		tr.steps = append(tr.steps, s)
	} else if strings.TrimSpace(s.prose) != "" {
		t.Fatalf("%s: text after the last command", file)
	}
	return tr
}

func (tr *transcript) String() string {
	var b strings.Builder
	for _, s := range tr.steps {
		fmt.Fprintf(&b, "%s$ %s\n%s%s%d]\n", s.prose, s.command, s.output, endOfOutput, s.code)
	}
	return b.String()
}

func transcripts(t *testing.T) []*transcript {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(testFolder, "testdata/cli/*.txt"))
	if err != nil || len(files) < 8 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	var out []*transcript
	for _, f := range files {
		out = append(out, readTranscript(t, f))
	}
	return out
}

func TestTranscripts(t *testing.T) {
	for _, tr := range transcripts(t) {
		t.Run(tr.name, tr.run)
	}
}

// What commands say of themselves needs no world, so that its -update is quick.
func TestHelp(t *testing.T) {
	for _, tr := range transcripts(t) {
		got := &transcript{name: tr.name}
		for _, s := range tr.steps {
			if strings.HasSuffix(s.command, "--help") {
				s.output, s.code = runLine(t, s.command)
			}
			got.steps = append(got.steps, s)
		}
		tr.compare(t, got)
	}
}

func (tr *transcript) run(t *testing.T) {
	dir := t.TempDir()
	for _, from := range []string{"shop", "tests", "tests-broken", "validator", "validator-wrong", "annotate", "lint", "lint-envoy", "lint-envoys", "fix", "bad-input"} {
		if err := os.CopyFS(filepath.Join(dir, filepath.Base(from)), os.DirFS(filepath.Join(testFolder, "testdata", from))); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"../../examples/bookstore": "bookstore", "testdata/cli/files": "."} {
		if err := os.CopyFS(filepath.Join(dir, to), os.DirFS(filepath.Join(testFolder, from))); err != nil {
			t.Fatal(err)
		}
	}
	said := []string{dir, "/mesh"}
	for _, v := range []string{"ENVOY", "KUBECONFIG", "HOME"} {
		t.Setenv(v, "")
	}
	if world := worlds[tr.name]; world != nil {
		for name, value := range world(t) {
			t.Setenv(name, value)
			if value != "" {
				said = append(said, value, "$"+name)
			}
		}
	}
	bin := t.TempDir()
	if err := os.Symlink(testBinary(t), filepath.Join(bin, "pilotfish")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Chdir(dir)
	got := &transcript{name: tr.name}
	for _, s := range tr.steps {
		s.output, s.code = runLine(t, s.command)
		s.output = repeatable(strings.NewReplacer(said...).Replace(s.output))
		got.steps = append(got.steps, s)
	}
	tr.compare(t, got)
}

func (tr *transcript) compare(t *testing.T, got *transcript) {
	t.Helper()
	file := filepath.Join(testFolder, "testdata/cli", tr.name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(tr.String(), got.String()); diff != "" {
		t.Errorf("%s (go test -run Transcripts -update writes it anew):\n%s", file, diff)
	}
}

func testBinary(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return self
}

// forShell are characters that a shell reads as other than text.
const forShell = "|<>;&*"

// runLine runs a line of a transcript.
func runLine(t *testing.T, line string) (output string, code int) {
	t.Helper()
	if args, ok := strings.CutPrefix(line, "pilotfish "); ok && !strings.ContainsAny(args, forShell) {
		code, stdout, stderr := run(words(os.ExpandEnv(args))...)
		return stdout + stderr, code
	}
	cmd := exec.Command("bash", "-o", "pipefail", "-c", line)
	cmd.Env = append(os.Environ(), asCommand+"=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// words splits a command line at spaces outside of single quotes.
func words(line string) []string {
	var out []string
	quoted, started := false, false
	for _, r := range line {
		switch {
		case r == '\'':
			quoted = !quoted
			if quoted && !started {
				out, started = append(out, ""), true
			}
		case r == ' ' && !quoted:
			started = false
		default:
			if !started {
				out, started = append(out, ""), true
			}
			out[len(out)-1] += string(r)
		}
	}
	return out
}

var varies = []struct {
	what *regexp.Regexp
	is   string
}{
	{regexp.MustCompile(` time="[0-9.]+"`), ` time="0"`},
	{regexp.MustCompile(` applied \([0-9.]+m?s\)`), " applied (0s)"},
	{regexp.MustCompile(`Go 1\.[0-9.]+, \w+/\w+`), "Go 1.X, OS/ARCH"},
	{regexp.MustCompile(`("?go"?: "?)1\.[0-9.]+`), "${1}1.X"},
	{regexp.MustCompile(`("?platform"?: "?)\w+/\w+`), "${1}OS/ARCH"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "2006-01-02T15:04:05Z"},
}

// repeatable leaves out what differs from run to run.
func repeatable(output string) string {
	for _, v := range varies {
		output = v.what.ReplaceAllString(output, v.is)
	}
	return output
}

// use is one way in which a command can be used: with a format, or to an end.
type use struct{ command, way string }

// elsewhere are uses that need more than a transcript: by the test that reads
// what the command says then.
var elsewhere = map[use]string{
	{"pilotfish ca status", "-o json"}:   "TestShowCA",
	{"pilotfish ca status", "-o yaml"}:   "TestShowCA",
	{"pilotfish rollout", "-o json"}:     "TestRollout",
	{"pilotfish rollout", "-o yaml"}:     "TestRollout",
	{"pilotfish rollout", "exit code 1"}: "TestRollout",
	{"pilotfish rollout", "exit code 3"}: "TestRollout",
}

// Every command is in a transcript, with each of its formats and exit codes.
func TestEveryCommandHasTranscripts(t *testing.T) {
	used := map[use]bool{}
	root := newRoot()
	for _, tr := range transcripts(t) {
		for _, s := range tr.steps {
			for _, u := range usesOf(t, root, s) {
				used[u] = true
			}
		}
	}
	walkCommands(root, func(c *cobra.Command) {
		for _, way := range waysOf(c) {
			u := use{c.CommandPath(), way}
			switch test := elsewhere[u]; {
			case used[u] && test != "":
				t.Errorf("%s with %s is in a transcript: it need not be in %s", u.command, u.way, test)
			case !used[u] && test == "":
				t.Errorf("no transcript has %s with %s", u.command, u.way)
			case test != "" && !hasTest(t, test):
				t.Errorf("%s with %s: there is no %s", u.command, u.way, test)
			}
		}
	})
}

// walkCommands visits what can be run.
func walkCommands(c *cobra.Command, visit func(*cobra.Command)) {
	c.InitDefaultHelpCmd()
	if c.Runnable() && c.Name() != "help" {
		visit(c)
	}
	for _, sub := range c.Commands() {
		walkCommands(sub, visit)
	}
}

var saidCodes = regexp.MustCompile(`(?s)Exit codes:(.*?)\n\n`)

// waysOf are the formats of a command and the codes that it says it ends with,
// or else success and a wrong command line.
func waysOf(c *cobra.Command) []string {
	ways := []string{"--help"}
	if o := c.Flags().Lookup("output"); o != nil {
		for format := range strings.SplitSeq(o.Usage, ", ") {
			ways = append(ways, "-o "+format)
		}
	}
	codes := []string{"0", "2"}
	if m := saidCodes.FindStringSubmatch(c.Long + "\n\n"); m != nil {
		codes = regexp.MustCompile(`\b\d\b`).FindAllString(m[1], -1)
	}
	for _, code := range codes {
		ways = append(ways, "exit code "+code)
	}
	return ways
}

var ofPilotfish = regexp.MustCompile(`(?:^|[|;&] *)pilotfish ([^|;&<>]*)`)

// usesOf are those of the pilotfish commands in one step.
func usesOf(t *testing.T, root *cobra.Command, s step) []use {
	t.Helper()
	var out []use
	for _, m := range ofPilotfish.FindAllStringSubmatch(s.command, -1) {
		args := words(m[1])
		c, rest, err := root.Find(args)
		if err != nil {
			continue // of no command
		}
		path := c.CommandPath()
		out = append(out, use{path, fmt.Sprintf("exit code %d", s.code)})
		if slices.Contains(args, "--help") {
			out = append(out, use{path, "--help"})
			continue
		}
		if o := c.Flags().Lookup("output"); o != nil {
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			flags.ParseErrorsAllowlist.UnknownFlags = true
			format := flags.StringP("output", "o", o.DefValue, "")
			if err := flags.Parse(rest); err == nil {
				out = append(out, use{path, "-o " + *format})
			}
			if slices.Contains(rest, "--markdown") {
				out = append(out, use{path, "-o markdown"})
			}
		}
	}
	return out
}

// hasTest reports whether the tests of this package have one of this name.
func hasTest(t *testing.T, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(testFolder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(text), "\nfunc "+name+"(t *testing.T)")
	})
}

var testFolder = func() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err) // no folder to be in
	}
	return dir
}()
