package serve

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// listeners are the open sockets of one Run, by purpose.
type listeners struct {
	all []net.Listener
}

// open listens on an address; an empty one means not at all (nil, nil). flag
// names the address in errors.
func (l *listeners) open(address, flag string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	s, err := Listen(address, flag)
	if err == nil {
		l.all = append(l.all, s)
	}
	return s, err
}

// Listen listens on a TCP address. Its errors are lines for people; flag names
// the address in them.
func Listen(address, flag string) (net.Listener, error) {
	s, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("--%s %s: another process listens on this address; choose another one, or port 0 for any", flag, address)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("--%s %s: ports below 1024 need root", flag, address)
	case err != nil:
		return nil, fmt.Errorf("--%s %s: %w", flag, address, errors.Unwrap(err))
	}
	return s, nil
}

func (l *listeners) close() {
	for _, s := range l.all {
		_ = s.Close()
	}
}
