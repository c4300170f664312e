package up

import (
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// reaper is a process of its own that removes a directory when this process
// ends without having done so. It needs no signal for that: the kernel closes
// the pipe between the two whatever happens to this one.
type reaper struct {
	cmd  *exec.Cmd
	pipe *os.File
}

// released tells the reaper that nothing is left to do.
const released = 'r'

func startReaper(dir string) (*reaper, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	cmd := exec.Command(self, reaperRole, dir)
	cmd.Args[0] = "pilotfish"
	cmd.Stdin = r
	// A session of its own: Ctrl-C and a signal to the group do not reach it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		_ = w.Close()
		return nil, err
	}
	return &reaper{cmd: cmd, pipe: w}, nil
}

// release ends the reaper after the directory was removed.
func (r *reaper) release() {
	_, _ = r.pipe.Write([]byte{released})
	_ = r.pipe.Close()
	_ = r.cmd.Wait()
}

// reap is the reaper's main.
func reap(dir string) int {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	told, err := io.ReadAll(os.Stdin)
	if err == nil && len(told) > 0 && told[0] == released {
		return 0
	}
	// The other children end at the same moment and may still be writing.
	for range 50 {
		if os.RemoveAll(dir) == nil {
			if _, err := os.Stat(dir); os.IsNotExist(err) {
				return 0
			}
		}
		<-time.After(20 * time.Millisecond)
	}
	return 1
}
