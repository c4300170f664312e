package examples

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
)

// once tries the next n lines of a text, each one time: what they show counts
// requests.
func (r *reader) once(n int) {
	r.t.Helper()
	for _, l := range r.lines[:n] {
		if wrong := r.wrong(l); wrong != "" {
			r.t.Error(wrong)
		}
	}
	r.lines = r.lines[n:]
}

func TestRateLimitingLocal(t *testing.T) {
	x := read(t, "rate-limiting-local", "limits.yaml", nil)
	x.once(len(x.lines))
}

// limiter is the rate limit service, of the limits of an example.
func limiter(t *testing.T, limits string) (port int, stop func()) {
	t.Helper()
	out, err := exec.Command("../../tools/build.sh", "ratelimit").Output()
	if err != nil {
		t.Fatalf("tools/build.sh ratelimit: %v", err)
	}
	port = envoytest.FreePort(t)
	var said bytes.Buffer
	cmd := exec.Command(strings.TrimSpace(string(out)))
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Env = append(os.Environ(), "RUNTIME_ROOT="+limits, "RUNTIME_SUBDIRECTORY=service", "RUNTIME_WATCH_ROOT=false", "USE_STATSD=false",
		"HOST=127.0.0.1", fmt.Sprint("PORT=", envoytest.FreePort(t)), "GRPC_HOST=127.0.0.1", fmt.Sprint("GRPC_PORT=", port),
		"DEBUG_HOST=127.0.0.1", fmt.Sprint("DEBUG_PORT=", envoytest.FreePort(t)))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	envoytest.Eventually(t, stage.Patience, func() string {
		c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return err.Error()
		}
		_ = c.Close()
		return ""
	})
	return port, stop
}

// TestRateLimitingGlobal: Envoy's rate limit service counts; without it one proxy
// refuses, and the other lets pass.
func TestRateLimitingGlobal(t *testing.T) {
	limits, err := filepath.Abs("../../examples/rate-limiting-global")
	if err != nil {
		t.Fatal(err)
	}
	port, stop := limiter(t, limits)
	x := read(t, "rate-limiting-global", "limits.yaml", func(dir string) {
		file := filepath.Join(dir, "limits.yaml")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		stage.Write(t, file, strings.Replace(string(text), "{grpc: 8081}", fmt.Sprintf("{grpc: %d}", port), 1))
	})
	x.once(9)
	stop()
	x.once(len(x.lines))
}
