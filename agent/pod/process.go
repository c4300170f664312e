package pod

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/pilotfish-mesh/pilotfish/agent"
)

// An Envoy that ends by itself is started again after a pause that doubles
// from firstPause to lastPause and starts over once one has run for steady.
// After hopeless such ends before any Envoy was live the agent gives up, so
// that the pod shows what is wrong.
const (
	firstPause = 200 * time.Millisecond
	lastPause  = 15 * time.Second
	steady     = 30 * time.Second
	hopeless   = 5
)

// stopGrace is how long Envoy may take to end when asked to.
const stopGrace = 3 * time.Second

// process is one run of Envoy.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // valid after exited
}

// startProcess starts a child that the kernel ends if this process ends. It
// runs as this process's user, which redirection exempts.
func startProcess(binary string, args []string) (*process, error) {
	p := &process{cmd: exec.Command(binary, args...), exited: make(chan struct{})}
	p.cmd.Args[0] = "envoy"
	p.cmd.Stdout, p.cmd.Stderr = os.Stdout, os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	go func() {
		// The kernel's signal follows the thread that forked, so that thread
		// lives as long as the child.
		runtime.LockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.exited)
		}
	}()
	return p, <-started
}

func (p *process) stop(grace time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-p.exited:
	case <-t.C:
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// envoy keeps one Envoy running.
type envoy struct {
	settings *settings
	admin    *admin
	args     []string
	log      *zap.Logger
	signals  chan os.Signal // passed on
	started  func(pid int)  // told of each start; must not block
	restarts func()         // told of each restart; must not block
}

// keep runs Envoy until ctx ends; then stop is called to drain it, and may
// take as long as it likes, and Envoy is ended.
func (e *envoy) keep(ctx context.Context, drain func(ctx context.Context)) error {
	pause, failures, live := firstPause, 0, false
	for {
		started := time.Now()
		p, err := startProcess(e.settings.proxy.BinaryPath, e.args)
		if err != nil {
			return fmt.Errorf("start Envoy: %w", err)
		}
		e.started(p.cmd.Process.Pid)
		if e.watch(ctx, p, drain) {
			return nil
		}
		live = live || time.Since(started) > steady
		if time.Since(started) > steady {
			pause = firstPause
		}
		if failures++; failures >= hopeless && !live {
			return fmt.Errorf("the proxy ended %d times soon after its start, last with: %w", failures, ended(p))
		}
		e.log.Error("Envoy ended; starting it again", zap.Error(ended(p)), zap.Duration("after", pause))
		e.restarts()
		t := time.NewTimer(pause - rand.N(pause/4))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
		pause = min(2*pause, lastPause)
	}
}

// watch waits for the end of p or of ctx, and reports whether it was the latter.
func (e *envoy) watch(ctx context.Context, p *process, drain func(context.Context)) bool {
	for {
		select {
		case s := <-e.signals:
			_ = p.cmd.Process.Signal(s)
		case <-p.exited:
			return false
		case <-ctx.Done():
			alive, cancel := context.WithCancel(context.Background())
			go func() { <-p.exited; cancel() }()
			drain(alive)
			p.stop(stopGrace)
			return true
		}
	}
}

func ended(p *process) error {
	if p.err == nil {
		return errors.New("exit status 0")
	}
	return p.err
}

// envoyArgs is Envoy's command line.
func (s *settings) envoyArgs(bootstrap string) ([]string, error) {
	version := "v4"
	if v4, _ := s.families(); !v4 {
		version = "v6"
	}
	flush := "1000"
	if d := s.proxy.FileFlushInterval; d != nil {
		flush = fmt.Sprint(time.Duration(*d).Milliseconds())
	}
	args := []string{
		"-c", bootstrap,
		"--drain-time-s", fmt.Sprint(int(time.Duration(s.proxy.DrainDuration).Seconds())), "--drain-strategy", "immediate",
		"--local-address-ip-version", version, "--file-flush-interval-msec", flush,
		"--disable-hot-restart", "--allow-unknown-static-fields", "--skip-deprecated-logs",
		"--log-format", "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t",
	}
	if n := s.proxy.FileFlushMinSizeKb; n > 0 {
		args = append(args, "--file-flush-min-size-kb", fmt.Sprint(n))
	}
	level, components := splitLogLevel(s.LogLevel, s.ComponentLogLevel)
	if level != "" {
		args = append(args, "-l", level)
	}
	if components != "" {
		args = append(args, "--component-log-level", components)
	}
	override, err := s.bootstrapOverride()
	if err != nil {
		return nil, err
	}
	if override != "" {
		args = append(args, "--config-yaml", override)
	}
	if n := s.proxy.Concurrency; n != nil && *n > 0 {
		args = append(args, "--concurrency", fmt.Sprint(*n))
	}
	return args, nil
}

// bootstrap is what Envoy starts with.
func (s *settings) bootstrap(at *sockets) (*agent.Bootstrap, error) {
	discovery, err := parseAddress(s.proxy.DiscoveryAddress)
	if err != nil {
		return nil, fmt.Errorf("discoveryAddress: %w", err)
	}
	b := &agent.Bootstrap{
		Node: s.node, Discovery: discovery,
		Secrets: agent.Address{Path: at.secrets}, Telemetry: agent.Address{Path: at.logs}, Modules: agent.Address{Path: at.modules},
		Agent: agent.Address{Host: "127.0.0.1", Port: s.statusPort()}, OutlierLog: s.OutlierLog,
		Admin: agent.Address{Host: "127.0.0.1", Port: uint32(s.proxy.ProxyAdminPort)},
		Stats: s.statsMatcher(), CompressStats: s.proxy.StatsCompression == nil || *s.proxy.StatsCompression,
		FlushStats: s.statistics.flush, Buckets: s.statistics.buckets,
	}
	if err := s.reporting(b); err != nil {
		return nil, err
	}
	if s.secure() {
		b.DiscoveryName = discovery.Host
	}
	if _, v6 := s.families(); v6 {
		b.StaticHost = "::"
	}
	return b, nil
}
