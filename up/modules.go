package up

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pilotfish-mesh/pilotfish/agent"
	"github.com/pilotfish-mesh/pilotfish/agent/identity"
	"github.com/pilotfish-mesh/pilotfish/agent/modules"
)

// extended serves a pod's proxy its Wasm extensions, as the agent in a pod of a
// cluster does.
type extended struct {
	server *modules.Server
	stop   func()
}

// extend serves on a socket in dir that only the proxy can open; modules are
// kept once for all pods.
func (s *surroundings) extend(p *podPlan, dir string, proxy user) (*extended, agent.Address, error) {
	path := filepath.Join(dir, "wasm.sock")
	l, err := identity.Listen(path, int(proxy.id))
	if err != nil {
		return nil, agent.Address{}, fmt.Errorf("extensions of %s: %w", p.key(), err)
	}
	folder := filepath.Join(s.dir, "modules")
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // the proxies read it
		_ = l.Close()
		return nil, agent.Address{}, err
	}
	server := modules.New(modules.Options{Folder: folder, Log: s.notes(p.key()), Connect: func() (*grpc.ClientConn, error) {
		return grpc.NewClient("unix:"+s.discovery.Path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	}})
	g := grpc.NewServer()
	server.Register(g)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = g.Serve(l) })
	running.Go(func() { server.Run(ctx) })
	return &extended{server: server, stop: func() { cancel(); g.Stop(); running.Wait() }}, agent.Address{Path: path}, nil
}

// notes is a log whose warnings are notes to the user.
func (s *surroundings) notes(pod string) *zap.Logger {
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(zapcore.EncoderConfig{MessageKey: "message"}), noted{pod, s.note}, zap.WarnLevel))
}

// noted writes a log as notes to the user.
type noted struct {
	pod  string
	note func(string)
}

// Write implements io.Writer: one entry.
func (n noted) Write(b []byte) (int, error) {
	n.note("Envoy of " + n.pod + ": " + string(bytes.TrimSpace(b)))
	return len(b), nil
}

// Sync implements zapcore.WriteSyncer.
func (noted) Sync() error { return nil }

// close may be called on nil, and again.
func (e *extended) close() {
	if e != nil && e.stop != nil {
		e.stop()
		e.stop = nil
	}
}
