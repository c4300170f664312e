package up

import (
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a child that ends with this process, however this one ends.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // how it ended; valid after exited
	// drained is closed when all of its output was read.
	drained chan struct{}
}

// user is whom a child runs as. The zero value means as this process.
type user struct{ id uint32 }

// startProcess starts cmd in a place. Its output and files are cmd's.
func startProcess(cmd *exec.Cmd, at *place, as user) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if as.id != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: as.id, Gid: as.id, NoSetGroups: false}
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_BIND_SERVICE}
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel ends the child when the thread that forked it ends, so
		// this thread lives exactly as long as the child: it stays locked.
		runtime.LockOSThread()
		err := at.enter()
		if err != nil {
			started <- err
			return
		}
		err = cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// stop asks the process to end, and makes it end after grace.
func (p *process) stop(grace time.Duration) {
	select {
	case <-p.exited:
		return
	default:
	}
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

// self is this program, for starting it again: also where its file was
// replaced or a child's user could not reach it.
const self = "/proc/self/exe"
