// Commandbench measures whole commands on a mesh of 1,000 services: how long each
// takes from its start to its end and how much memory it has at most, with what
// other tools take for the same beside them, in one table.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/wide"
)

// rounds is how often each command runs; the middle one counts.
const rounds = 3

// cases is how many tests there are.
const cases = 10_000

// command is one that is measured.
type command struct {
	name string
	args []string
	// want is in what it says if it did what it was to do, and code how it ends.
	want string
	code int
}

type measured struct {
	took   time.Duration
	memory int64 // bytes
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "commandbench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	pilotfish := flag.String("pilotfish", "bin/pilotfish", "path of the command")
	istioctl := flag.String("istioctl", "", "path of istioctl; without, it is left out")
	validator := flag.String("validator", "", "path of istio-config-validator; without, it is left out")
	out := flag.String("out", "", "file that gets the table as well")
	flag.Parse()

	dir, err := os.MkdirTemp("", "commandbench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	commands, err := prepare(dir, *pilotfish, *istioctl, *validator)
	if err != nil {
		return err
	}
	var table bytes.Buffer
	fmt.Fprintf(&table, "%d services, %d documents, %d CPUs; the middle of %d runs\n\n| command | time | memory |\n|---|---|---|\n",
		wide.Services, 4*wide.Services, runtime.NumCPU(), rounds)
	for _, c := range commands {
		m, err := measure(ctx, c)
		if err != nil {
			return err
		}
		fmt.Fprintf(&table, "| %s | %.2f s | %d MB |\n", c.name, m.took.Seconds(), m.memory>>20)
	}
	if *out != "" {
		if err := os.WriteFile(*out, table.Bytes(), 0o600); err != nil {
			return err
		}
	}
	_, err = io.Copy(os.Stdout, &table)
	return err
}

// prepare writes the meshes and the tests below a folder, and says what runs
// on them.
func prepare(dir, pilotfish, istioctl, validator string) ([]command, error) {
	mesh, changed := filepath.Join(dir, "mesh"), filepath.Join(dir, "changed")
	for d, timeout := range map[string]string{mesh: "3s", changed: "2s"} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, err
		}
		if err := wide.Write(d, timeout); err != nil {
			return nil, err
		}
	}
	ours, theirs := filepath.Join(dir, "ours_test.yaml"), filepath.Join(dir, "theirs_test.yaml")
	if err := errors.Join(os.WriteFile(ours, tests(ourTest, "tests"), 0o600), os.WriteFile(theirs, tests(theirTest, "testCases"), 0o600)); err != nil {
		return nil, err
	}
	passed := fmt.Sprintf("%d passed", cases)
	list := []command{
		{"`pilotfish ask`", []string{pilotfish, "ask", "--config", mesh, "--from", "s1-1.ns-1", "http://s7.ns-7/"}, "s7.ns-7", 0},
		{"`pilotfish test`, 10,000 cases", []string{pilotfish, "test", ours, "--config", mesh}, passed, 0},
		{"`pilotfish test`, 10,000 cases of istio-config-validator", []string{pilotfish, "test", theirs, "--config", mesh}, passed, 0},
		{"`pilotfish diff` of a change of one line", []string{pilotfish, "diff", mesh, changed}, "s500", 1},
		{"`pilotfish lint`", []string{pilotfish, "lint", mesh}, "nothing found", 0},
	}
	if istioctl != "" {
		list = append(list, command{"`istioctl analyze`", []string{istioctl, "analyze", "-A", "--use-kube=false", mesh}, "No validation issues found", 0})
	}
	if validator != "" {
		list = append(list, command{"`istio-config-validator`, 10,000 cases", []string{validator, "-s", "-t", theirs, mesh}, fmt.Sprintf("%d testcases", cases), 0})
	}
	return list, nil
}

// tests are 10,000 cases, each of a service that follows from its number.
func tests(one func(i, service int, user, route string) string, key string) []byte {
	var b bytes.Buffer
	b.WriteString(key + ":\n")
	for i := range cases {
		user, route := "jo", "all"
		if i%2 == 1 {
			user, route = "qa", "qa"
		}
		b.WriteString(one(i, i%wide.Services, user, route))
	}
	return b.Bytes()
}

func ourTest(i, service int, user, route string) string {
	from := i * 7 % wide.Services
	return fmt.Sprintf("- {name: t%d, from: {workload: %s-1, namespace: %s}, request: {url: 'http://%s.%s/', headers: {x-user: %s}}, expect: {route: %s, status: 200}}\n",
		i, wide.Name(from), wide.Namespace(from), wide.Name(service), wide.Namespace(service), user, route)
}

func theirTest(i, service int, user, route string) string {
	to := "host: " + wide.Name(service)
	if route == "qa" {
		to += ", subset: v1"
	}
	return fmt.Sprintf("- {description: t%d, wantMatch: true, request: {authority: [%s], method: [GET], uri: [/], headers: {x-user: %s}}, route: [{destination: {%s}}]}\n",
		i, wide.Name(service), user, to)
}

// measure is the middle of some runs of a command that does what it is to do.
func measure(ctx context.Context, c command) (measured, error) {
	var all []measured
	for range rounds {
		cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...) //nolint:gosec // the flags name it
		began := time.Now()
		said, err := cmd.CombinedOutput()
		took := time.Since(began)
		if ctx.Err() != nil {
			return measured{}, ctx.Err()
		}
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return measured{}, err
		}
		if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(said), c.want) {
			return measured{}, fmt.Errorf("%s ends with %d and does not say %q: %.2000s", c.name, code, c.want, said)
		}
		all = append(all, measured{took, peak(cmd.ProcessState)})
	}
	slices.SortFunc(all, func(a, b measured) int { return cmp.Compare(a.took, b.took) })
	return all[rounds/2], nil
}

// peak is the memory that a process had at most. On Linux it is at least what
// this process had when it started the other, which is little.
func peak(p *os.ProcessState) int64 {
	usage, ok := p.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return usage.Maxrss
	}
	return usage.Maxrss << 10
}
