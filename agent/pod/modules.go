package pod

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"google.golang.org/grpc"

	"github.com/pilotfish-mesh/pilotfish/agent/identity"
	"github.com/pilotfish-mesh/pilotfish/agent/modules"
)

// sockets are where the agent serves Envoy; empty ones are not there.
type sockets struct{ secrets, logs, modules string }

// serveModules serves Wasm extensions with their modules on a socket, which it
// returns.
func (r *runner) serveModules(ctx context.Context) (string, error) {
	s := r.settings
	dir := s.file(filepath.Join("/", s.proxy.ConfigPath))
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // holds no secret
		return "", err
	}
	socket := filepath.Join(dir, "modules.sock")
	l, err := identity.Listen(socket, 0)
	if err != nil {
		return "", fmt.Errorf("socket for modules: %w", err)
	}
	r.modules = modules.New(modules.Options{
		Connect: r.connect, Folder: filepath.Join(dir, "modules"), Log: r.log.Named("modules"),
		Plain: strings.FieldsFunc(s.get("WASM_INSECURE_REGISTRIES", ""), func(c rune) bool { return c == ',' }),
	})
	g := grpc.NewServer(grpc.ReadBufferSize(4<<10), grpc.WriteBufferSize(4<<10))
	r.modules.Register(g)
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { _ = g.Serve(l) })
	running.Go(func() { r.modules.Run(ctx) })
	r.closers = append(r.closers, func() { cancel(); g.Stop(); running.Wait() })
	return socket, nil
}
