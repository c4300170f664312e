//go:build !linux

package kubetest

import "syscall"

// dieWithParent has no such thing to offer here: a killed test leaves its
// processes.
func dieWithParent() *syscall.SysProcAttr { return nil }
