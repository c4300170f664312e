package modules

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	extension "github.com/envoyproxy/go-control-plane/envoy/service/extension/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
)

// extensionType is the type URL of what ECDS serves.
const extensionType = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"

// Patience is how long Envoy waits for a module before it is told what stands
// in for it.
const Patience = 10 * time.Second

// Options say what a Server works with.
type Options struct {
	// Connect makes a connection to the control plane.
	Connect func() (*grpc.ClientConn, error)
	// Folder is where modules are kept. The proxy must be able to read it.
	Folder string
	// Plain are registries that are spoken to without TLS, besides those on this
	// machine.
	Plain []string
	// Patience is for tests; 0 means the constant.
	Patience time.Duration
	Log      *zap.Logger
}

// Server serves one proxy.
type Server struct {
	extension.UnimplementedExtensionConfigDiscoveryServiceServer
	options  Options
	upstream *upstream
	fetcher  *fetcher
	// Attempts to fetch a module, and configurations that Envoy refused.
	fetched, failed, refused atomic.Uint64
}

// New returns a Server. Run must be called for it to have anything to serve.
func New(o Options) *Server {
	if o.Patience == 0 {
		o.Patience = Patience
	}
	return &Server{options: o, upstream: newUpstream(&o), fetcher: newFetcher(&o)}
}

// Run asks the control plane for what Envoy asks for, until ctx ends.
func (s *Server) Run(ctx context.Context) { s.upstream.run(ctx) }

// WriteMetrics writes how fetching went and what Envoy made of the modules, in
// Prometheus' text format. Those named istio_agent_* are those of Istio's agent.
func (s *Server) WriteMetrics(w io.Writer) {
	fetched, failed, refused := s.fetched.Load(), s.failed.Load(), s.refused.Load()
	_, _ = fmt.Fprintf(w, `# HELP istio_agent_wasm_remote_fetch_count Attempts to fetch a Wasm module.
# TYPE istio_agent_wasm_remote_fetch_count counter
istio_agent_wasm_remote_fetch_count{result="success"} %d
istio_agent_wasm_remote_fetch_count{result="download_failure"} %d
# HELP pilotfish_agent_module_failures_total Failed attempts to fetch a Wasm module (fetch), and extensions that Envoy refused (refused).
# TYPE pilotfish_agent_module_failures_total counter
pilotfish_agent_module_failures_total{reason="fetch"} %d
pilotfish_agent_module_failures_total{reason="refused"} %d
`, fetched, failed, failed, refused)
}

// Register serves on a gRPC server.
func (s *Server) Register(g *grpc.Server) {
	extension.RegisterExtensionConfigDiscoveryServiceServer(g, s)
}

// StreamExtensionConfigs serves one extension (xDS protocol, state of the
// world): Envoy has a stream for each.
func (s *Server) StreamExtensionConfigs(stream extension.ExtensionConfigDiscoveryService_StreamExtensionConfigsServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	requests, ended := make(chan *discovery.DiscoveryRequest), make(chan error, 1)
	running.Go(func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case requests <- r:
			case <-ctx.Done():
				return
			}
		}
	})
	v := &served{server: s, stream: stream, ready: make(chan answer)}
	defer v.leave()
	for {
		select {
		case r := <-requests:
			v.take(r)
			v.follow(ctx, &running)
		case <-v.changed:
			v.follow(ctx, &running)
		case a := <-v.ready:
			if err := v.send(a); err != nil {
				return err
			}
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// served is one of Envoy's extensions.
type served struct {
	server  *Server
	stream  extension.ExtensionConfigDiscoveryService_StreamExtensionConfigsServer
	name    string
	changed <-chan struct{} // the control plane has said something new
	config  *anypb.Any      // what it said, the last that was followed
	stop    context.CancelFunc
	ready   chan answer
	nonce   uint64
	whole   bool // Envoy has a configuration with its module
}

// answer is what Envoy is told of a configuration: that with its module in
// place, or what stands in for it.
type answer struct {
	config *anypb.Any
	whole  bool
}

func (v *served) take(r *discovery.DiscoveryRequest) {
	switch d := r.GetErrorDetail(); {
	case d != nil:
		v.server.options.Log.Error("Envoy refuses an extension", zap.String("name", v.name), zap.String("reason", d.GetMessage()))
		v.server.refused.Add(1)
		v.server.upstream.refused(v.name, d.GetMessage())
	case r.GetResponseNonce() != "":
		v.server.upstream.accepted(v.name)
	}
	if v.name == "" && len(r.GetResourceNames()) == 1 {
		v.name = r.GetResourceNames()[0]
		v.server.upstream.want(v.name, r.GetNode())
	}
}

func (v *served) leave() {
	if v.stop != nil {
		v.stop()
	}
	if v.name != "" {
		v.server.upstream.accepted(v.name)
		v.server.upstream.unwant(v.name)
	}
}

// follow begins to make what Envoy is to be told of the newest configuration.
func (v *served) follow(ctx context.Context, running *sync.WaitGroup) {
	if v.name == "" {
		return
	}
	var config *anypb.Any
	config, v.changed = v.server.upstream.config(v.name)
	if config == nil || config == v.config {
		return
	}
	if v.stop != nil {
		v.stop()
	}
	v.config = config
	ctx, v.stop = context.WithCancel(ctx)
	first := !v.whole
	running.Go(func() { v.server.prepare(ctx, v.name, config, first, v.ready) })
}

func (v *served) send(a answer) error {
	v.nonce++
	v.whole = a.whole
	n := strconv.FormatUint(v.nonce, 10)
	return v.stream.Send(&discovery.DiscoveryResponse{
		TypeUrl: extensionType, Resources: []*anypb.Any{a.config}, VersionInfo: n, Nonce: n,
	})
}

// Pauses between attempts to fetch a module.
const (
	firstPause = time.Second
	lastPause  = time.Minute
)

// prepare sends to ready what Envoy is to be told of a configuration. If there
// is none before it, and its module does not come in time, it first sends what
// stands in for it.
func (s *Server) prepare(ctx context.Context, name string, config *anypb.Any, first bool, ready chan<- answer) {
	send := func(config *anypb.Any, whole bool) {
		select {
		case ready <- answer{config, whole}:
		case <-ctx.Done():
		}
	}
	p, err := parse(config)
	if err != nil {
		s.options.Log.Error("an extension cannot be read", zap.String("name", name), zap.Error(err))
		return
	}
	if p.module == nil {
		send(config, true)
		return
	}
	impatient := time.NewTimer(s.options.Patience)
	defer impatient.Stop()
	if !first {
		impatient.Stop()
	}
	found := make(chan string, 1)
	go func() {
		if file, ok := s.fetch(ctx, name, p.module); ok {
			found <- file
		}
	}()
	for {
		select {
		case file := <-found:
			send(p.with(file), true)
			return
		case <-impatient.C:
			s.options.Log.Warn("an extension's module is not there in time; what stands in for it is in effect", zap.String("name", name), zap.Bool("fails_open", p.open()))
			send(p.standIn(), false)
		case <-ctx.Done():
			return
		}
	}
}

// fetch tries until it succeeds or ctx ends.
func (s *Server) fetch(ctx context.Context, name string, m *module) (file string, ok bool) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		file, err := s.fetchOnce(ctx, m)
		if err == nil {
			s.fetched.Add(1)
			return file, true
		}
		if ctx.Err() != nil {
			return "", false
		}
		s.failed.Add(1)
		s.options.Log.Error("an extension's module cannot be fetched", zap.String("name", name), zap.String("url", m.url.Redacted()), zap.Error(err), zap.Duration("next_attempt_in", pause))
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return "", false
		}
	}
}

// secretPatience is how long the control plane may take to give a pull secret.
const secretPatience = 5 * time.Second

func (s *Server) fetchOnce(ctx context.Context, m *module) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	var credentials []byte
	if m.secret != "" && m.url.Scheme == "oci" {
		waiting, stop := context.WithTimeout(ctx, secretPatience)
		defer stop()
		var err error
		if credentials, err = s.upstream.secret(waiting, m.secret); err != nil {
			return "", err
		}
	}
	return s.fetcher.file(ctx, m, credentials)
}
