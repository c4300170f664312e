package kubetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// process is one running binary. The zero of its pointer is one that never
// started.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and was waited for
}

// launch starts a binary with its output in a log file of the Server.
func (s *Server) launch(name string, args ...string) (*process, error) {
	log, err := os.OpenFile(s.logFile(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = dieWithParent()

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return nil, errors.New("the server has ended")
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	if err := p.start(); err != nil {
		return nil, err
	}
	s.processes[name] = p
	return p, nil
}

// start starts the command on a thread that lives as long as it does: the
// death signal of dieWithParent follows the thread, not the whole parent.
func (p *process) start() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
		close(p.done)
		runtime.UnlockOSThread()
	}()
	return <-started
}

// stop kills the process and returns when it has gone. etcd and the API server
// are made to survive that, and tests that restart them shall see it.
func (p *process) stop() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// waitFor polls ready until it succeeds, the process ends, or startTimeout
// passes.
func (p *process) waitFor(ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %v", filepath.Base(p.cmd.Path), p.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after %v: %w", filepath.Base(p.cmd.Path), startTimeout, err)
		case <-tick.C:
		}
	}
}

func (s *Server) logFile(name string) string { return filepath.Join(s.dir, name+".log") }

// isUsual knows the lines of klog and etcd that every start writes.
func isUsual(line string) bool {
	return strings.HasPrefix(line, "I") || strings.HasPrefix(line, "W") || strings.HasPrefix(line, `{"level":"warn"`)
}

// logs returns the ends of the processes' logs.
func (s *Server) logs() string {
	const lines = 30
	var b strings.Builder
	for _, name := range []string{"etcd", "kube-apiserver"} {
		text, err := os.ReadFile(s.logFile(name))
		if err != nil {
			continue
		}
		all := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(text)), "\n"), isUsual)
		fmt.Fprintf(&b, "== %s, last errors\n%s\n", name, strings.Join(all[max(0, len(all)-lines):], "\n"))
	}
	return b.String()
}
