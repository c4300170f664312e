package makerun

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/dashboard/browsertest"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

const weightOfV2 = `input[type=number][aria-label^="Weight of v2"]`

// TestMakeRun is the README's first command: it prints one URL, whose page
// moves the weight, writes the YAML and shows the traffic follow without an
// error; and Ctrl-C leaves nothing behind.
func TestMakeRun(t *testing.T) {
	envoy := envoytest.Binary(t)
	browser := browsertest.Start(t)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../examples/canary")); err != nil {
		t.Fatal(err)
	}
	run := start(t, envoy, dir)
	url := run.url(t)

	tab := browser.Open(t, url, browsertest.Desktop)
	tab.Until(`document.querySelector('` + weightOfV2 + `')?.value === "30"`)
	tab.Until(observedV2 + ` > 15 && ` + observedV2 + ` < 45`)
	tab.Type(weightOfV2, "80")
	tab.Until(`document.querySelector('` + weightOfV2 + `').value === "80"`)
	envoytest.Eventually(t, 10*time.Second, func() string {
		b, err := os.ReadFile(filepath.Join(dir, "myapp.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if text := string(b); !strings.Contains(text, "weight: 80") || !strings.Contains(text, "weight: 20") || !strings.Contains(text, "# The canary") {
			return "the file does not say 20 and 80, or lost its comment: " + text
		}
		return ""
	})
	tab.Until(observedV2 + ` > 65`)
	if errors := browsertest.Value[string](tab, `[...document.querySelectorAll(".numbers")].map(e => e.innerText).join(" ")`); !strings.Contains(errors, "0 errors") {
		t.Errorf("the page tells of errors: %s", errors)
	}

	run.interrupt(t)
	if left := holders(t, dir); len(left) > 0 {
		t.Errorf("processes left behind: %v", left)
	}
}

// observedV2 is the observed share of v2 in percent, as the page shows it.
const observedV2 = `parseFloat([...document.querySelectorAll(".numbers")][1]?.innerText)`

// process is a running `make run`.
type process struct {
	cmd    *exec.Cmd
	ended  chan error
	mu     sync.Mutex
	output strings.Builder
}

func start(t *testing.T, envoy, dir string) *process {
	t.Helper()
	p := &process{ended: make(chan error, 1)}
	p.cmd = exec.Command("make", "-s", "-C", "../..", "run", "CANARY="+dir)
	p.cmd.Env = append(os.Environ(), "ENVOY="+envoy)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	r, w := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(r); lines.Scan(); {
			p.mu.Lock()
			p.output.WriteString(lines.Text() + "\n")
			p.mu.Unlock()
		}
	}()
	go func() { p.ended <- p.cmd.Wait(); _ = w.Close() }()
	t.Cleanup(func() { _ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) })
	return p
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// url waits until everything is ready and returns the page's address: the one
// line that is nothing else.
func (p *process) url(t *testing.T) string {
	t.Helper()
	found := ""
	envoytest.Eventually(t, 5*time.Minute, func() string {
		select {
		case err := <-p.ended:
			t.Fatalf("make run ended: %v\n%s", err, p.text())
		default:
		}
		for line := range strings.Lines(p.text()) {
			if strings.HasPrefix(line, "http://127.0.0.1:") {
				found = strings.TrimSpace(line)
			}
		}
		if found == "" {
			return "no URL yet: " + p.text()
		}
		return ""
	})
	return found
}

// interrupt is Ctrl-C: the terminal signals the whole group.
func (p *process) interrupt(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-p.ended:
		t.Logf("make ended: %v", err) // interrupted itself, it says so
	case <-time.After(30 * time.Second):
		t.Fatalf("make run did not stop:\n%s", p.text())
	}
	if !strings.Contains(p.text(), "stopped") {
		t.Errorf("it did not say that it stopped:\n%s", p.text())
	}
}

// holders are the processes whose command line names dir.
func holders(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if b, err := os.ReadFile("/proc/" + e.Name() + "/cmdline"); err == nil && strings.Contains(string(b), dir) {
			out = append(out, strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return out
}
