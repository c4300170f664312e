//go:build !linux

package promtest

import "os/exec"

// endWithParent can do nothing here: the test's cleanup ends the process.
func endWithParent(*exec.Cmd) {}
