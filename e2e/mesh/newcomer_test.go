package mesh

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/cluster"
)

// newcomer is a machine with a checkout of this repository and no cluster. The
// node that its commands start ends with the test.
func newcomer(t *testing.T) (w *world, dir string) {
	t.Helper()
	if os.Getenv("KUBECONFIG") != "" {
		t.Skip("KUBECONFIG names a cluster: nothing is started here")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	top, err := os.MkdirTemp("", "pf-") // the path of a Unix socket is short
	if err != nil {
		t.Fatal(err)
	}
	toEnd.Lock()
	toEnd.folders = append(toEnd.folders, top)
	toEnd.Unlock()
	dir = filepath.Join(top, "cluster")
	w = &world{root: root, kubeconfig: filepath.Join(dir, "kubeconfig")}
	node, err := cluster.New(dir, w.tools())
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Missing(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	endsWithTests(node)
	t.Cleanup(func() {
		if err := node.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return w, dir
}

// TestNewUser follows the README's section on clusters, each command as it
// stands there, from the first, which starts a cluster, to the last, which ends
// it and leaves no trace.
func TestNewUser(t *testing.T) {
	w, dir := newcomer(t)
	before := tracesOfNodes(t)
	commands := freePort(t, w.commandsOf(t, "README.md", "## In a cluster: a canary in ten minutes"), "8080")
	began := time.Now()
	terminal := w.follow(t, commands, "CLUSTER_DIR="+dir)
	t.Logf("all of it took %v", time.Since(began).Round(time.Second))
	for i, v2 := range []float64{0.3, 0.5, 1} {
		const n = 200
		got := countedLines(after(t, terminal, "answers", i+1))
		v1, other := got[`"version":"v1"`], got[`"version":"v2"`]
		if v1+other != n || math.Abs(float64(other)-n*v2) > 3.9*math.Sqrt(n*v2*(1-v2)) {
			t.Errorf("answers, with %v of v2: %v", v2, got)
		}
	}
	if n := strings.Count(terminal, "\npilotfish works in this cluster.\n"); n != 2 {
		t.Errorf("install and verify gave %d good verdicts, want 2", n)
	}
	if t.Failed() {
		t.Log(terminal)
	}
	if all := left(t, before, dir); len(all) > 0 {
		t.Errorf("left behind: %v", all)
	}
}

// TestInterruptedCluster: whenever make cluster is interrupted or killed, what is
// left goes with make cluster-down, which may also be said when nothing is there.
func TestInterruptedCluster(t *testing.T) {
	w, dir := newcomer(t)
	before := tracesOfNodes(t)
	down := func() {
		t.Helper()
		w.follow(t, "make cluster-down\n", "CLUSTER_DIR="+dir)
		if all := left(t, before, dir); len(all) > 0 {
			t.Errorf("left behind: %v", all)
		}
	}
	down()
	for _, c := range []struct {
		when   string // what it says then
		signal syscall.Signal
	}{
		{"starting the node's processes", syscall.SIGINT},
		{"loading images", syscall.SIGKILL},
	} {
		said := w.interrupt(t, dir, c.when, c.signal)
		// Interrupted, it cleans up itself; killed, it cannot.
		if all := left(t, before, dir); (len(all) > 0) != (c.signal == syscall.SIGKILL) {
			t.Errorf("before make cluster-down there is %v", all)
		}
		down()
		if t.Failed() {
			t.Fatalf("%v when it said %q:\n%s", c.signal, c.when, said)
		}
	}
}

// TestClusterAgain: make cluster makes a whole node of the remains of one that
// was killed, and leaves one that runs as it is.
func TestClusterAgain(t *testing.T) {
	w, dir := newcomer(t)
	before := tracesOfNodes(t)
	w.interrupt(t, dir, "starting the node's processes", syscall.SIGKILL)
	terminal := w.follow(t, `eval "$(make cluster)"
kubectl create namespace kept
eval "$(make cluster)"
kubectl get namespace kept
make cluster-down
`, "CLUSTER_DIR="+dir, "PATH="+w.tools()+":"+os.Getenv("PATH"))
	if n := strings.Count(terminal, "the node is up already"); n != 1 {
		t.Errorf("it was up already %d times, want 1:\n%s", n, terminal)
	}
	if all := left(t, before, dir); len(all) > 0 {
		t.Errorf("left behind: %v", all)
	}
}

// interrupt runs make cluster, sends its processes a signal as a terminal does
// when it says something, and returns what it said.
func (w *world) interrupt(t *testing.T, dir, when string, with syscall.Signal) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "make", "cluster")
	cmd.Dir, cmd.Env = w.root, append(shellEnvironment(), "CLUSTER_DIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	sent := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Fprintln(&said, lines.Text())
		if strings.Contains(lines.Text(), when) {
			sent = true
			_ = syscall.Kill(-cmd.Process.Pid, with)
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !sent || !errors.As(err, &exit) {
		t.Fatalf("sent %v: %v, ended with %v:\n%s", with, sent, err, said.String())
	}
	return said.String()
}

// tracesOfNodes is what nodes have on a machine outside of their folder: network
// devices, cgroups, and rules of kube-proxy.
func tracesOfNodes(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	devices, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range devices {
		out["network device "+d.Name] = strings.HasPrefix(d.Name, "pf-")
	}
	for _, pattern := range []string{"/sys/fs/cgroup/*pilotfish-*", "/sys/fs/cgroup/*/*pilotfish-*", "/run/netns/cni-*", "/var/run/containerd/io.containerd*", "/var/lib/kubelet/*", "/var/log/pods/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			out[f] = true
		}
	}
	rules, err := exec.Command("iptables-save").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(rules)) {
		if strings.Contains(line, "KUBE-") || strings.Contains(line, "CNI-") {
			out["rule "+strings.TrimSpace(line)] = true
		}
	}
	return out
}

// left is what nodes have on the machine that was not there before, and what
// knows the folder of one: itself, a process, or a mount.
func left(t *testing.T, before map[string]bool, dir string) []string {
	t.Helper()
	var out []string
	for trace, nodes := range tracesOfNodes(t) {
		if nodes && !before[trace] {
			out = append(out, trace)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		out = append(out, dir)
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if filepath.Base(p) == fmt.Sprint(os.Getpid()) {
			continue
		}
		for _, file := range []string{"cmdline", "mountinfo"} {
			if text, err := os.ReadFile(filepath.Join(p, file)); err == nil && strings.Contains(string(text), dir) {
				out = append(out, fmt.Sprintf("process %s, by its %s", filepath.Base(p), file))
			}
		}
	}
	return out
}
