package identity

import (
	"net"
	"os"

	"google.golang.org/grpc"
)

// Listen opens an SDS socket that only the owner of this process, and owner if
// it is not 0, can connect to. One that a dead process left is replaced.
func Listen(path string, owner int) (net.Listener, error) {
	if err := removeSocket(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if owner != 0 {
		err = os.Chown(path, owner, owner)
	}
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// Serve serves SDS on a listener until it is stopped, which it returns.
func (s *Source) Serve(l net.Listener) (stop func()) {
	g := grpc.NewServer(grpc.ReadBufferSize(4<<10), grpc.WriteBufferSize(4<<10))
	s.Register(g)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Serve(l)
	}()
	return func() { g.Stop(); <-done }
}
