package pod

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// lingerShortly keeps closed connections of probes from filling the table of
// those in TIME-WAIT, as kubelet does.
func lingerShortly(_, _ string, c syscall.RawConn) error {
	var err error
	ctl := c.Control(func(fd uintptr) {
		err = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 1})
	})
	if ctl != nil {
		return ctl
	}
	return err
}
