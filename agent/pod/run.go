package pod

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/pilotfish-mesh/pilotfish/agent"
	"github.com/pilotfish-mesh/pilotfish/agent/identity"
	"github.com/pilotfish-mesh/pilotfish/agent/modules"
	"github.com/pilotfish-mesh/pilotfish/agent/names"
	"github.com/pilotfish-mesh/pilotfish/agent/retry"
	"github.com/pilotfish-mesh/pilotfish/agent/telemetry"
)

// runner is a pod's agent while it runs.
type runner struct {
	settings *settings
	log      *zap.Logger
	admin    *admin
	source   *identity.Source // nil where the proxy needs no certificate
	names    *names.Server    // nil unless DNS is captured
	// telemetry is nil if it is switched off.
	telemetry *telemetry.Receiver
	modules   *modules.Server
	scraper   *scraper
	drainer   *drainer
	restarts  atomic.Uint64
	// began is when the agent did; readyAfter how long its proxy took to be
	// ready first, 0 until then; proxy its process, 0 before the first.
	began      time.Time
	readyAfter atomic.Int64
	proxy      atomic.Int64
	closers    []func() // run last first
}

// Run does a pod's agent's work until ctx ends, and then drains and stops the
// proxy. An error says why the agent could not do its work.
func Run(ctx context.Context, o Options, log *zap.Logger) error {
	s, err := readSettings(o)
	if err != nil {
		return err
	}
	r := &runner{settings: s, log: log, admin: newAdmin(s.proxy.ProxyAdminPort), began: time.Now()}
	r.drainer = &drainer{settings: s, admin: r.admin, log: log}
	defer func() {
		for i := len(r.closers) - 1; i >= 0; i-- {
			r.closers[i]()
		}
	}()
	ctx, quit := context.WithCancel(ctx)
	defer quit()
	log.Info("starting", zap.String("node", s.node.ID()), zap.String("version", o.Version),
		zap.String("control_plane", s.proxy.DiscoveryAddress), zap.String("certificate_authority", s.ca))
	// What the proxy uses outlives it.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	socket, err := r.serveSecrets(serving)
	if err != nil {
		return err
	}
	if err := r.serveNames(serving); err != nil {
		return err
	}
	if err := r.serveHealth(serving); err != nil {
		return err
	}
	if err := r.serveStatus(quit); err != nil {
		return err
	}
	logSocket, err := r.serveTelemetry(serving)
	if err != nil {
		return err
	}
	moduleSocket, err := r.serveModules(serving)
	if err != nil {
		return err
	}
	return r.runEnvoy(ctx, &sockets{socket, logSocket, moduleSocket})
}

// serveSecrets starts to keep the workload's certificate, and returns the
// socket at which Envoy gets it. Another provider's socket is used as it is.
func (r *runner) serveSecrets(ctx context.Context) (string, error) {
	s := r.settings
	socket := s.file(secretSocket)
	if !s.secure() && s.get("CA_ADDR", "") == "" {
		return "", nil
	}
	if c, err := net.Dial("unix", socket); err == nil {
		_ = c.Close()
		r.log.Info("certificates come from the socket that was there before", zap.String("socket", socket))
		return socket, nil
	}
	r.source = r.newSource()
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil { //nolint:gosec // a mount that others may look at
		return "", err
	}
	l, err := identity.Listen(socket, 0)
	if err != nil {
		return "", fmt.Errorf("socket for secrets: %w", err)
	}
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	running.Go(func() { r.source.Run(ctx) })
	stop := r.source.Serve(l)
	r.closers = append(r.closers, func() { stop(); cancel(); running.Wait() })
	return socket, nil
}

func (r *runner) newSource() *identity.Source {
	s := r.settings
	remote := &identity.Remote{
		Address: s.ca, ServerName: s.get("CA_SNI", ""), RootsFile: s.caRoots, TokenFile: s.file(tokenFile),
		ClusterID: s.clusterID, CertSigner: s.get("ISTIO_META_CERT_SIGNER", ""), Lifetime: s.lifetime,
	}
	source := identity.New(identity.Options{
		Identity: s.identity(), Signer: remote, RootsFile: s.roots, RevokedFile: s.file(revokedFile), RSABits: s.rsaBits, Log: r.log.Named("identity"),
		Files: s.mounted, Output: s.output,
	})
	remote.Certificate = func() *tls.Certificate { return s.present(source) }
	return source
}

func (r *runner) serveStatus(quit func()) error {
	s := r.settings
	host := s.node.IPs[0]
	if s.truth("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION") {
		host = "127.0.0.1"
	}
	app, err := parseProbes(s.env["ISTIO_KUBE_APP_PROBERS"], host, r.log.Named("probe"))
	if err != nil {
		return err
	}
	if r.scraper, err = newScraper(s.env["ISTIO_PROMETHEUS_ANNOTATIONS"], r.writeMetrics, r.log.Named("metrics")); err != nil {
		return err
	}
	l, err := net.Listen("tcp", ":"+strconv.Itoa(int(s.statusPort())))
	if err != nil {
		return fmt.Errorf("status port: %w", err)
	}
	st := &status{admin: r.admin, drainer: r.drainer, metrics: r.scraper, probes: app, log: r.log, became: func() {
		r.readyAfter.CompareAndSwap(0, int64(time.Since(r.began)))
	}, quit: func() {
		r.drainer.drained.Store(true)
		quit()
	}}
	r.closers = append(r.closers, serveHTTP(l, st.handler()))
	return nil
}

// serveNames answers DNS where the init step sends the application's questions.
func (r *runner) serveNames(ctx context.Context) error {
	s := r.settings
	if !s.truth("ISTIO_META_DNS_CAPTURE") {
		return nil
	}
	resolver, err := names.ReadResolver(s.file("/etc/resolv.conf"))
	if err != nil {
		return err
	}
	r.names = names.NewServer(resolver, r.log.Named("dns"))
	if err := r.names.Listen(net.JoinHostPort("127.0.0.1", strconv.Itoa(agent.DNSPort))); err != nil {
		return fmt.Errorf("DNS: %w", err)
	}
	if err := r.names.Listen(net.JoinHostPort("::1", strconv.Itoa(agent.DNSPort))); err != nil {
		r.log.Info("no DNS by IPv6", zap.Error(err))
	}
	node, err := s.protoNode()
	if err != nil {
		return err
	}
	c := &names.Client{Connect: r.connect, Node: node, Namespace: s.node.Namespace, Server: r.names, Log: r.log.Named("dns")}
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	running.Go(func() {
		if r.source != nil {
			select {
			case <-r.source.Ready():
			case <-ctx.Done():
			}
		}
		c.Run(ctx)
	})
	r.closers = append(r.closers, func() { cancel(); running.Wait(); r.names.Close() })
	return nil
}

// serveTelemetry takes Envoy's access log on a socket, which it returns.
func (r *runner) serveTelemetry(ctx context.Context) (string, error) {
	s := r.settings
	if s.get("PILOTFISH_TELEMETRY", "true") == "false" {
		return "", nil
	}
	n := &s.node
	node, err := s.protoNode()
	if err != nil {
		return "", err
	}
	peers := telemetry.NewPeers(r.connect, node, s.clusterID)
	r.telemetry = telemetry.NewReceiver(telemetry.FromLabels(n.Workload, n.Namespace, s.clusterID, s.identity(), n.Labels), peers.Find, s.statistics.bounds)
	socket := filepath.Join(s.file(filepath.Join("/", s.proxy.ConfigPath)), "telemetry.sock")
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil { //nolint:gosec // holds no secret
		return "", err
	}
	l, err := identity.Listen(socket, 0)
	if err != nil {
		return "", fmt.Errorf("socket for telemetry: %w", err)
	}
	g := grpc.NewServer(grpc.ReadBufferSize(16<<10), grpc.WriteBufferSize(1<<10))
	r.telemetry.Register(g)
	var running sync.WaitGroup
	running.Go(func() { _ = g.Serve(l) })
	evicting, stop := context.WithCancel(ctx)
	if every := s.statistics.eviction; every > 0 {
		running.Go(func() {
			for retry.Wait(evicting, every); evicting.Err() == nil; retry.Wait(evicting, every) {
				r.telemetry.Metrics().Evict()
			}
		})
	}
	r.closers = append(r.closers, func() { stop(); g.Stop(); running.Wait(); peers.Close() })
	return socket, nil
}

// runEnvoy writes the bootstrap and keeps Envoy running until ctx ends.
func (r *runner) runEnvoy(ctx context.Context, at *sockets) error {
	s := r.settings
	b, err := s.bootstrap(at)
	if err != nil {
		return err
	}
	js, err := b.JSON()
	if err != nil {
		return err
	}
	dir := s.file(filepath.Join("/", s.proxy.ConfigPath))
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // holds no secret
		return err
	}
	file := filepath.Join(dir, "envoy-rev.json")
	if own := s.proxy.CustomConfigFile; own != "" {
		if js, err = os.ReadFile(s.file(own)); err != nil {
			return fmt.Errorf("customConfigFile: %w", err)
		}
	} else if patched, err := r.patched(ctx, js); err != nil {
		return err
	} else if patched != nil {
		js, file = patched, filepath.Join(dir, "envoy-rev.pb") // by which Envoy knows its binary form
	}
	if ctx.Err() != nil {
		return nil // it was asked to end before Envoy could start
	}
	if err := os.WriteFile(file, js, 0o644); err != nil { //nolint:gosec // Envoy's user reads it; it holds no secret
		return fmt.Errorf("bootstrap: %w", err)
	}
	args, err := s.envoyArgs(file)
	if err != nil {
		return err
	}
	e := &envoy{settings: s, admin: r.admin, args: args, log: r.log, signals: make(chan os.Signal, 1),
		started: func(pid int) { r.proxy.Store(int64(pid)) }, restarts: func() { r.restarts.Add(1) }}
	signal.Notify(e.signals, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGHUP)
	defer signal.Stop(e.signals)
	return e.keep(ctx, r.drainer.finish)
}

// writeMetrics writes the agent's own metrics.
func (r *runner) writeMetrics(w io.Writer) {
	var b bytes.Buffer
	counter := func(name, help string, v uint64) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s counter\n%s %d\n", name, help, name, name, v)
	}
	counter("istio_agent_scrapes_total", "Scrapes of this pod's merged metrics.", r.scraper.total.Load())
	fmt.Fprintf(&b, "# HELP istio_agent_scrape_failures_total Scrapes in which a part was missing.\n"+
		"# TYPE istio_agent_scrape_failures_total counter\n"+
		"istio_agent_scrape_failures_total{type=\"envoy\"} %d\nistio_agent_scrape_failures_total{type=\"application\"} %d\n",
		r.scraper.envoyFailed.Load(), r.scraper.appFailed.Load())
	counter("pilotfish_agent_proxy_restarts_total", "Starts of Envoy after one that ended by itself.", r.restarts.Load())
	if r.names != nil {
		local, forwarded, failed := r.names.Local.Load(), r.names.Forwarded.Load(), r.names.Failed.Load()
		counter("istio_agent_dns_requests_total", "Questions asked.", local+forwarded+failed)
		counter("istio_agent_dns_upstream_requests_total", "Questions that the mesh's names do not answer.", forwarded+failed)
		counter("istio_agent_dns_upstream_failures_total", "Questions that nobody answered.", failed)
	}
	if r.modules != nil {
		r.modules.WriteMetrics(&b)
	}
	if r.source != nil {
		r.source.WriteMetrics(&b)
	}
	agent.WriteBuild(&b, "proxy", r.settings.Version)
	agent.WriteUsage(&b, "istio_agent", os.Getpid())
	agent.WriteUsage(&b, "pilotfish_proxy", int(r.proxy.Load()))
	if d := r.readyAfter.Load(); d != 0 {
		const name = "istio_agent_startup_duration_seconds"
		fmt.Fprintf(&b, "# HELP %[1]s Seconds from the agent's start until the proxy was ready.\n# TYPE %[1]s gauge\n%[1]s %.3[2]f\n", name, time.Duration(d).Seconds())
	}
	_, _ = w.Write(b.Bytes())
	if r.telemetry != nil {
		r.telemetry.Metrics().Write(w)
	}
}

// errNotReady is for Wait.
var errNotReady = errors.New("not ready in time")

// Wait asks url every period until it answers 200, at the longest until ctx
// ends.
func Wait(ctx context.Context, url string, request, period time.Duration) error {
	c := &http.Client{Timeout: request}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := c.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(resp.Status)
		}
		retry.Wait(ctx, period)
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %s: %w", errNotReady, url, err)
		}
	}
}
