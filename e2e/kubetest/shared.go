package kubetest

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

var shared struct {
	sync.Mutex
	server *Server
	err    error
	inMain bool
}

// Main runs a package's tests, for its TestMain, and then ends the Server that
// they shared.
func Main(m *testing.M) { os.Exit(Tests{m}.Run()) }

// Tests are a package's tests, for a TestMain that does more than Main.
type Tests struct{ *testing.M }

// Run runs the tests and ends the Server that they shared.
func (t Tests) Run() int {
	shared.inMain = true
	code := t.M.Run()
	if shared.server != nil {
		shared.server.end()
	}
	return code
}

// Shared returns the Server of this package's tests, which the first caller
// starts. The package's TestMain must call Main, or run Tests.
func Shared(t testing.TB) *Server {
	t.Helper()
	bin := requireBinaries(t)
	shared.Lock()
	defer shared.Unlock()
	if !shared.inMain {
		t.Fatal("kubetest.Shared needs TestMain to run kubetest.Tests")
	}
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = start(bin)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	s := shared.server
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.logs())
		}
	})
	return s
}

// requireBinaries returns the folder of the Server's binaries.
func requireBinaries(t testing.TB) string {
	t.Helper()
	Binary(t, "etcd")
	return filepath.Dir(Binary(t, "kube-apiserver"))
}

// Binary is the path of a binary that tools/build.sh made. Without it the test
// fails in CI and is skipped elsewhere.
func Binary(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("KUBE_BIN_DIR")
	if dir == "" {
		dir = filepath.Join(moduleRoot(t), ".cache", "bin")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		reason := fmt.Sprintf("no %s in %s: run tools/build.sh %s, or set KUBE_BIN_DIR", name, dir, name)
		if os.Getenv("CI") == "true" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	return path
}

// moduleRoot is the nearest folder with a go.mod, from that of the tested
// package upwards.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("the tests do not run inside a Go module")
		}
	}
}

// stopOnSignal ends the Server before an interrupted test binary dies: nothing
// else would remove its folder.
func (s *Server) stopOnSignal() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	go func() {
		defer signal.Stop(c)
		select {
		case <-s.gone:
			return
		case sig := <-c:
			s.end()
			signal.Stop(c)
			if p, err := os.FindProcess(os.Getpid()); err == nil {
				_ = p.Signal(sig)
			}
		}
	}()
}
