// Package envoytest runs real Envoys for tests.
//
// It finds the pinned Envoy that tools/envoy.sh obtained, and starts and stops
// single ones. Tests of every package may import it; nothing else does.
package envoytest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// The Envoys that tools/envoy.sh pins: the one that everything runs on, and an
// old one.
const (
	version    = "1.40.0"
	oldVersion = "1.36.4"
)

// Binary returns the path of an Envoy: $ENVOY, or the pinned one. Without any
// the test fails in CI and is skipped elsewhere.
func Binary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("ENVOY"); path != "" {
		if _, err := exec.LookPath(path); err != nil {
			t.Fatalf("ENVOY: %v", err)
		}
		return path
	}
	return pinned(t, version)
}

// Old returns the path of an Envoy of an older release, 1.36.4, as Binary does.
func Old(t testing.TB) string {
	t.Helper()
	return pinned(t, oldVersion)
}

func pinned(t testing.TB, version string) string {
	t.Helper()
	path, err := cached(version)
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("needs Envoy %s: %v", version, err)
	default:
		t.Skipf("needs Envoy %s: %v", version, err)
	}
	return path
}

func cached(version string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no go.mod above the working directory; set ENVOY=/path/to/envoy")
		}
		dir = up
	}
	path := filepath.Join(dir, ".cache", "envoy", version, "envoy")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("run tools/envoy.sh %s (%w)", version, err)
	}
	return path, nil
}

// Envoy is one running Envoy. Its admin interface listens where the
// bootstrap says.
type Envoy struct {
	log    string
	pid    int
	exited chan struct{}
	err    error // valid after exited
}

// Start runs an Envoy with a bootstrap (JSON) until the test ends. Its log is
// shown if the test fails.
func Start(t testing.TB, bootstrap []byte, args ...string) *Envoy {
	t.Helper()
	binary := Binary(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "bootstrap.json")
	if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
		t.Fatal(err)
	}
	e := &Envoy{log: filepath.Join(dir, "envoy.log"), exited: make(chan struct{})}
	args = append([]string{
		"-c", file, "--disable-hot-restart", "--concurrency", "1", "--log-path", e.log, "--log-level", "info",
	}, args...)
	started := make(chan error)
	go func() {
		// The kernel ends the child when the thread that forked it ends.
		runtime.LockOSThread()
		cmd := exec.Command(binary, args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
		err := cmd.Start()
		if err == nil {
			e.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			e.err = cmd.Wait()
			close(e.exited)
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.Stop()
		if t.Failed() {
			t.Logf("Envoy's log:\n%s", e.Log())
		}
	})
	return e
}

// Stop ends the process and waits for its end. It may be called again.
func (e *Envoy) Stop() {
	select {
	case <-e.exited:
		return
	default:
	}
	_ = syscall.Kill(e.pid, syscall.SIGTERM)
	select {
	case <-e.exited:
	case <-time.After(5 * time.Second):
		_ = syscall.Kill(e.pid, syscall.SIGKILL)
		<-e.exited
	}
}

// Exited is closed when the process has ended.
func (e *Envoy) Exited() <-chan struct{} { return e.exited }

// Log is what the Envoy has logged so far.
func (e *Envoy) Log() string {
	b, err := os.ReadFile(e.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Admin returns a client of an admin interface on a Unix socket; the host in
// its URLs is ignored.
func Admin(t testing.TB, socket string) *http.Client {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 5 * time.Second}
}

// Get reads one page of the admin interface.
func Get(c *http.Client, path string) (status int, body string, err error) {
	resp, err := c.Get("http://admin" + path)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// Eventually calls check until it returns "" and fails with its last answer
// after within.
func Eventually(t testing.TB, within time.Duration, check func() string) {
	t.Helper()
	deadline := time.After(within)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		msg := check()
		if msg == "" {
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("after %v: %s", within, msg)
		}
	}
}

// FreePort is a port of loopback that nobody listened on a moment ago.
func FreePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}
