package main

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
	"github.com/pilotfish-mesh/pilotfish/up"
)

var update = flag.Bool("update", false, "write the golden files anew")

// asCommand makes this test binary behave as the command.
const asCommand = "PILOTFISH_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if code, is := up.RunRole(os.Args); is {
		os.Exit(code)
	}
	if os.Getenv(asCommand) != "" {
		main()
	}
	kubetest.Main(m)
}

// run executes a command line in this process.
func run(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = execute(args, &out, &err)
	return code, out.String(), err.String()
}

// command is the command as a process of its own.
type command struct {
	cmd    *exec.Cmd
	exited chan struct{}

	mu  sync.Mutex
	out bytes.Buffer // both outputs
}

func (c *command) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(b)
}

func (c *command) output() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

func startCommand(t *testing.T, env []string, args ...string) *command {
	t.Helper()
	c := &command{cmd: exec.Command(os.Args[0], args...), exited: make(chan struct{})}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.start(t, env)
	return c
}

func (c *command) start(t *testing.T, env []string) {
	t.Helper()
	c.cmd.Env = append(append(os.Environ(), asCommand+"=1"), env...)
	c.cmd.Stdout, c.cmd.Stderr = c, c
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = c.cmd.Wait()
		close(c.exited)
	}()
	t.Cleanup(func() {
		select {
		case <-c.exited:
		default:
			_ = c.cmd.Process.Kill()
			<-c.exited
		}
		if t.Failed() {
			t.Logf("the command said:\n%s", c.output())
		}
	})
}

// wait returns the exit code.
func (c *command) wait(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case <-c.exited:
		return c.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		t.Fatalf("still running after %v", within)
		return 0
	}
}

// golden compares with a file below testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (go test -update writes it anew):\n%s", path, diff)
	}
}

func TestHelp(t *testing.T) {
	for _, name := range []string{"", "ask", "test", "lint", "diff", "replay", "rollout", "wait", "serve", "up", "inject", "version", "completion"} {
		args := append(strings.Fields(name), "--help")
		code, stdout, stderr := run(args...)
		if code != exitOK || stderr != "" {
			t.Errorf("%v: exit code %d, said %s", args, code, stderr)
		}
		file := name
		if file == "" {
			file = "pilotfish"
		}
		golden(t, "help/"+file+".txt", stdout)
	}
}

// What a user gets wrong is one clear line; what the command line itself gets
// wrong exits with 2.
func TestMistakes(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	other := filepath.Join(t.TempDir(), "other") // a program that is no Envoy
	if err := os.WriteFile(other, []byte("#!/bin/sh\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"serv"}, exitUsage, `pilotfish: unknown command "serv" for "pilotfish"`},
		{[]string{"serve", "--bogus"}, exitUsage, "pilotfish: unknown flag: --bogus"},
		{[]string{"serve", "extra"}, exitUsage, `pilotfish: unknown command "extra" for "pilotfish serve"`},
		{[]string{"serve", "--log-level", "loud"}, exitUsage, `pilotfish: --log-level "loud": want debug, info, warn or error`},
		{[]string{"serve", "--log-format", "xml"}, exitUsage, `pilotfish: --log-format "xml": want json or console`},
		{[]string{"serve"}, exitFailure, "pilotfish: nothing to read: give --config PATH or --kubeconfig FILE, or run in a pod"},
		{[]string{"serve", "--config", missing}, exitFailure, "pilotfish: --config: stat " + missing + ": no such file or directory"},
		{[]string{"serve", "--config", ".", "--tls-cert", "x"}, exitFailure, "pilotfish: --tls-cert and --tls-key belong together: give both or none"},
		{[]string{"serve", "--config", ".", "--tls-client-ca", missing}, exitFailure, "pilotfish: --tls-client-ca: open " + missing + ": no such file or directory"},
		{[]string{"up"}, exitUsage, "pilotfish: requires at least 1 arg(s), only received 0"},
		{[]string{"up", ".", "--mode", "magic"}, exitUsage, `pilotfish: --mode "magic": want auto, netns or loopback`},
		{[]string{"up", ".", "--ads", "rest"}, exitUsage, `pilotfish: --ads "rest": want delta or sotw`},
		{[]string{"up", ".", "--load=-1"}, exitUsage, "pilotfish: --load -1: want 0 to 10000 requests a second"},
		{[]string{"up", missing}, exitFailure, "pilotfish: stat " + missing + ": no such file or directory"},
		{[]string{"up", ".", "--envoy", missing}, exitFailure, "pilotfish: no Envoy at " + missing + ": no such file or directory"},
		{[]string{"up", ".", "--envoy", other}, exitFailure, "pilotfish: " + other + " does not run as an Envoy: --version: exit status 3"},
		{[]string{"version", "-o", "xml"}, exitUsage, `pilotfish: --output "xml": want text or json`},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			code, stdout, stderr := run(c.args...)
			line, _, _ := strings.Cut(stderr, "\n")
			if code != c.code || line != c.says || stdout != "" {
				t.Errorf("exit code %d, said %q, want %d, %q\n%s", code, line, c.code, c.says, stdout)
			}
			if lines := strings.Count(stderr, "\n"); c.code == exitFailure && lines != 1 {
				t.Errorf("said %d lines, want one:\n%s", lines, stderr)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	code, stdout, _ := run("version")
	if code != exitOK || !strings.HasPrefix(stdout, "pilotfish unknown (Go 1.") {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	if _, stdout, _ = run("version", "-o", "json"); !strings.HasPrefix(stdout, `{"version":"unknown","go":"1.`) {
		t.Errorf("json: %s", stdout)
	}
}
