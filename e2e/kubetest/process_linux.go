package kubetest

import "syscall"

// dieWithParent makes the kernel kill the process when its parent dies, and
// keeps the terminal's signals from it.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
