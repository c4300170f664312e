package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// server is one process under test, with the processes that it started.
type server struct {
	name    string
	address string
	// monitoring is where it may serve its profiles.
	monitoring string
	cmd        *exec.Cmd
	log        *os.File
	// command and kubeconfig are what it was started with.
	command, kubeconfig string
}

// start runs a shell command with KUBECONFIG, XDS_ADDRESS and MONITORING_ADDRESS
// set, and waits until the address accepts connections and the process is idle: it
// has then synced.
func start(ctx context.Context, name, command, kubeconfig, logFile string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	monitoring, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &server{
		name: name, address: "127.0.0.1:" + strconv.Itoa(port), monitoring: "127.0.0.1:" + strconv.Itoa(monitoring),
		command: command, kubeconfig: kubeconfig,
	}
	if s.log, err = os.Create(logFile); err != nil {
		return nil, err
	}
	if err := s.launch(ctx); err != nil {
		return nil, err
	}
	if err := s.ready(ctx); err != nil {
		s.stop()
		return nil, fmt.Errorf("%s (log: %s): %w", name, logFile, err)
	}
	return s, nil
}

// launch starts the process, and waits for nothing.
func (s *server) launch(ctx context.Context) error {
	s.cmd = exec.CommandContext(ctx, "/bin/sh", "-c", "exec "+s.command)
	s.cmd.Env = append(os.Environ(), "KUBECONFIG="+s.kubeconfig, "XDS_ADDRESS="+s.address, "MONITORING_ADDRESS="+s.monitoring)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return s.cmd.Start()
}

// kill ends the process as a crash would, without a word to its clients.
func (s *server) kill() {
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	_ = s.cmd.Wait()
}

func (s *server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		c, err := net.DialTimeout("tcp", s.address, time.Second)
		if err == nil {
			_ = c.Close()
			return s.idle(ctx)
		}
		if !pause(ctx, 100*time.Millisecond) {
			return fmt.Errorf("does not listen on %s: %w", s.address, err)
		}
	}
}

// idle waits until the process has used less than 5 % of a core for a second,
// twice.
func (s *server) idle(ctx context.Context) error {
	for calm := 0; calm < 2; {
		before, err := s.usage()
		if err != nil {
			return err
		}
		if !pause(ctx, time.Second) {
			return ctx.Err()
		}
		after, err := s.usage()
		if err != nil {
			return err
		}
		if after.cpu-before.cpu < 50*time.Millisecond {
			calm++
		} else {
			calm = 0
		}
	}
	return nil
}

// stop ends the process that start started, and its group.
func (s *server) stop() {
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM)
	ended := make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	}
	_ = s.log.Close()
}

// target is what the fleet connects to: one process, or several behind a
// balancer.
type target struct {
	name, address string
	servers       []*server
	balancer      *balancer // nil for one process
}

func (t *target) stop() {
	if t.balancer != nil {
		t.balancer.close()
	}
	for _, s := range t.servers {
		s.stop()
	}
}

// usage is that of all processes together.
func (t *target) usage() (usage, error) {
	var sum usage
	for _, s := range t.servers {
		u, err := s.usage()
		if err != nil {
			return sum, err
		}
		sum.cpu += u.cpu
		sum.rss += u.rss
		sum.peak += u.peak
	}
	return sum, nil
}

// usage is a process's CPU time and resident memory so far.
type usage struct {
	cpu       time.Duration
	rss, peak float64 // MB
}

func (s *server) usage() (usage, error) {
	var u usage
	pid := strconv.Itoa(s.cmd.Process.Pid)
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kb, _ := strconv.ParseFloat(f[1], 64)
		switch f[0] {
		case "VmRSS:":
			u.rss = kb / 1024
		case "VmHWM:":
			u.peak = kb / 1024
		}
	}
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return u, err
	}
	f := strings.Fields(string(stat)[strings.LastIndex(string(stat), ")")+2:])
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	u.cpu = time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on Linux
	return u, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// pause waits, and reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
