package mesh

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// commandsOf are the indented blocks of a document's section, as they
// are, up to the next heading.
func (w *world) commandsOf(t *testing.T, document, heading string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(w.root, document))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n"+heading+"\n")
	if !ok {
		t.Fatalf("%s has no heading %q", document, heading)
	}
	section, _, _ = strings.Cut(section, "\n#") // no command begins a line
	var out strings.Builder
	for line := range strings.Lines(section) {
		if code, ok := strings.CutPrefix(line, "    "); ok {
			out.WriteString(code)
		}
	}
	if out.Len() == 0 {
		t.Fatalf("section %q of %s has no commands", heading, document)
	}
	return out.String()
}

// terminal is the environment of a reader who has the cluster, its tools, and
// pilotfish.
func (w *world) terminal() []string {
	return []string{"KUBECONFIG=" + w.kubeconfig, "PATH=" + w.bin + ":" + w.tools() + ":" + os.Getenv("PATH")}
}

// shellEnvironment is what a user's shell has: this process's environment without
// what make gives to those that it runs, which changes what make prints.
func shellEnvironment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == "MAKELEVEL" || name == "MAKEFLAGS" || name == "MFLAGS"
	})
}

// follow types commands into one shell in the repository's root, as a reader
// does, until one fails. It returns what the terminal shows.
func (w *world) follow(t *testing.T, commands string, environment ...string) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte(commands), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-veu", "-o", "pipefail", script)
	cmd.Dir, cmd.Env = w.root, append(shellEnvironment(), environment...)
	// What it leaves in the background ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var terminal bytes.Buffer
	file, err := os.CreateTemp(t.TempDir(), "terminal-") // a pipe would be held open by the background
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	cmd.Stdout, cmd.Stderr = file, file
	err = cmd.Run()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if _, seek := file.Seek(0, 0); seek != nil {
		t.Fatal(seek)
	}
	if _, read := terminal.ReadFrom(file); read != nil {
		t.Fatal(read)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, terminal.String())
	}
	return terminal.String()
}

// after is what the terminal shows after the nth time that a line was typed,
// until anything else that was.
func after(t *testing.T, terminal, line string, n int) string {
	t.Helper()
	for range n {
		_, rest, ok := strings.Cut(terminal, "\n"+line+"\n")
		if !ok {
			t.Fatalf("%q was not typed %d times:\n%s", line, n, terminal)
		}
		terminal = rest
	}
	return terminal
}

// freePort replaces a port of the documents that somebody has here.
func freePort(t *testing.T, commands, port string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		_, free, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		commands = regexp.MustCompile(`\b`+port+`\b`).ReplaceAllString(commands, free)
	}
	_ = l.Close()
	return commands
}

// counted are the lines of uniq -c at the beginning of a text.
func countedLines(text string) map[string]int {
	out := map[string]int{}
	for line := range strings.Lines(text) {
		var n int
		var what string
		if k, _ := fmt.Sscanf(line, "%d %s", &n, &what); k < 2 {
			break
		}
		out[what] = n
	}
	return out
}
