package up

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"
)

// A process that ends by itself is started again after a pause that doubles
// from firstPause to lastPause, and starts over once it has run for steady.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
	steady     = 30 * time.Second
)

// keeper keeps one process of a pod running until it is stopped.
type keeper struct {
	what string // "Envoy of default/myapp-v1", for people
	// command makes the command anew for each start; its output goes to log.
	command func() (*exec.Cmd, error)
	place   *place
	as      user
	log     tail
	note    func(string)

	cancel context.CancelFunc
	done   chan struct{}
	pid    atomic.Int64 // of the newest process
	// first receives how the first run ended, if it did.
	first chan error
}

func (k *keeper) start() (*process, error) {
	cmd, err := k.command()
	if err != nil {
		return nil, err
	}
	w, drained, err := k.log.pipe(k.as)
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.Close() }()
	cmd.Stdout, cmd.Stderr = w, w
	p, err := startProcess(cmd, k.place, k.as)
	if err != nil {
		return nil, err
	}
	p.drained = drained
	k.pid.Store(int64(p.cmd.Process.Pid))
	return p, nil
}

// run starts the process once, and on success keeps it running until stop.
func (k *keeper) run() error {
	p, err := k.start()
	if err != nil {
		return fmt.Errorf("%s does not start: %w", k.what, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel, k.done, k.first = cancel, make(chan struct{}), make(chan error, 1)
	go k.keep(ctx, p)
	return nil
}

func (k *keeper) keep(ctx context.Context, p *process) {
	defer close(k.done)
	pause := firstPause
	for {
		started := time.Now()
		select {
		case <-ctx.Done():
			p.stop(stopGrace)
			return
		case <-p.exited:
		}
		select {
		case k.first <- k.ended(p):
		default:
		}
		if time.Since(started) > steady {
			pause = firstPause
		}
		k.note(fmt.Sprintf("%s; starting it again in %v", k.ended(p), pause))
		for {
			if !wait(ctx, pause) {
				return
			}
			pause = min(2*pause, lastPause)
			var err error
			if p, err = k.start(); err == nil {
				break
			}
			k.note(fmt.Sprintf("%s does not start: %v; trying again in %v", k.what, err, pause))
		}
	}
}

// stopGrace is how long a process may take to end when it was asked to.
const stopGrace = 3 * time.Second

// stop ends the process and waits for its end.
func (k *keeper) stop() {
	if k == nil || k.cancel == nil {
		return
	}
	k.cancel()
	<-k.done
}

// ended says how a process ended, with what it said last.
func (k *keeper) ended(p *process) error {
	<-p.exited
	select {
	case <-p.drained:
	case <-time.After(time.Second): // somebody inherited its output
	}
	how := "exit status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	lines := k.log.last(5)
	if len(lines) == 0 {
		return fmt.Errorf("%s ended (%s)", k.what, how)
	}
	return fmt.Errorf("%s ended (%s); it said last:\n  %s", k.what, how, strings.Join(lines, "\n  "))
}

// wait pauses and reports whether ctx is still alive.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
