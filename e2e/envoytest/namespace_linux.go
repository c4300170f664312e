package envoytest

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// InNamespace runs these tests again in a process with a network namespace of
// its own, in which a pod's fixed ports are free, and returns the exit code.
// That process finds the environment variable marker. Where no namespace can
// be made the tests are skipped, in CI they fail.
func InNamespace(marker string) int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		if os.Getenv("CI") == "true" {
			fmt.Fprintln(os.Stderr, "needs a network namespace:", err)
			return 1
		}
		fmt.Fprintln(os.Stderr, "skipped: needs a network namespace:", err)
		return 0
	}
	go func() { _ = cmd.Process.Signal(<-interrupted) }()
	if err := cmd.Wait(); err != nil {
		return 1
	}
	return 0
}
