package pod_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/agent/pod"
	"github.com/pilotfish-mesh/pilotfish/ca"
)

// commandFile is what command built, in a directory of its own.
var commandFile string

// command is the agent's own program, built once.
var command = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "pilotfish-agent")
	commandFile = file
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", file, "../../cmd/pilotfish-agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return file, nil
})

// startCommand runs the agent as a process of its own.
func (w *world) startCommand(o pod.Options) (pid int, stop func()) {
	w.t.Helper()
	file, err := command()
	if err != nil {
		w.t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(file, "proxy", o.Type, "--domain", o.Domain, "--root", w.root, "--proxyLogLevel=warning", "--log_output_level=default:info")
	cmd.Env = o.Environ
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			w.t.Errorf("the agent ended with %v", err)
		}
		if w.t.Failed() {
			w.t.Logf("the agent's log:\n%s", &log)
		}
	})
	w.t.Cleanup(stop)
	return cmd.Process.Pid, stop
}

// resident is a process's resident memory, bytes.
func resident(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// mostMemory is what an agent may take: a mesh runs one beside every pod.
const mostMemory = 25 << 20

func TestAgentStaysSmall(t *testing.T) {
	w := newWorld(t, ca.Options{})
	pid, _ := w.startCommand(w.options(nil))
	w.awaitReady(nil)
	for range 20 {
		if _, _, err := get("http://127.0.0.1:15020/stats/prometheus"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := get(readyURL); err != nil {
			t.Fatal(err)
		}
	}
	rss := resident(t, pid)
	t.Logf("%.1f MB resident", float64(rss)/(1<<20))
	if rss > mostMemory {
		t.Errorf("%d bytes resident, want at most %d", rss, mostMemory)
	}
}
