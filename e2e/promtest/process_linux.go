package promtest

import (
	"os/exec"
	"syscall"
)

// endWithParent ends a process with this one, however that ends.
func endWithParent(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
