package pod

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/zap"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/pilotfish-mesh/pilotfish/agent/retry"
)

// healthType is the type URL under which agents report their workload's health.
const healthType = "type.googleapis.com/istio.v1.HealthInformation"

// readinessProbe is networking.v1alpha3.ReadinessProbe: a WorkloadGroup's probe
// as it comes to its workloads in ProxyConfig.
type readinessProbe struct {
	InitialDelay     int        `json:"initialDelaySeconds"`
	Timeout          int        `json:"timeoutSeconds"`   // 0: 1
	Period           int        `json:"periodSeconds"`    // 0: 10
	SuccessThreshold int        `json:"successThreshold"` // 0: 1
	FailureThreshold int        `json:"failureThreshold"` // 0: 1
	HTTP             *httpProbe `json:"httpGet"`
	TCP              *tcpProbe  `json:"tcpSocket"`
	GRPC             *grpcProbe `json:"grpc"`
	Exec             *struct {
		Command []string `json:"command"`
	} `json:"exec"`
}

func (p *readinessProbe) check() error {
	kinds := 0
	for _, set := range []bool{p.HTTP != nil, p.TCP != nil, p.GRPC != nil, p.Exec != nil} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		return fmt.Errorf("readinessProbe has %d of httpGet, tcpSocket, grpc and exec: want one", kinds)
	}
	if p.Exec != nil && len(p.Exec.Command) == 0 {
		return errors.New("readinessProbe.exec.command is empty")
	}
	for name, n := range map[string]int{
		"initialDelaySeconds": p.InitialDelay, "timeoutSeconds": p.Timeout, "periodSeconds": p.Period,
		"successThreshold": p.SuccessThreshold, "failureThreshold": p.FailureThreshold,
	} {
		if n < 0 {
			return fmt.Errorf("readinessProbe.%s is %d: want 0 or more", name, n)
		}
	}
	return nil
}

// prober finds out how the workload is, and tells the control plane when that
// changes.
type prober struct {
	*readinessProbe
	how     *probes
	admin   *admin
	connect func() (*grpc.ClientConn, error)
	node    *core.Node
	log     *zap.Logger

	changed chan struct{} // capacity 1: there is something to tell

	mu    sync.Mutex
	known bool  // fault says how it is
	fault error // nil: healthy
}

// serveHealth probes the workload if its WorkloadGroup says how.
func (r *runner) serveHealth(ctx context.Context) error {
	s := r.settings
	if s.proxy.ReadinessProbe == nil {
		return nil
	}
	if err := s.proxy.ReadinessProbe.check(); err != nil {
		return fmt.Errorf("the proxy's configuration (ProxyConfig): %w", err)
	}
	node, err := s.protoNode()
	if err != nil {
		return err
	}
	host := s.node.IPs[0]
	if s.truth("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION") {
		host = "localhost"
	}
	log := r.log.Named("health")
	p := &prober{
		readinessProbe: s.proxy.ReadinessProbe, how: &probes{host: host, log: log}, admin: r.admin, connect: r.connect, node: node, log: log,
		changed: make(chan struct{}, 1),
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { p.watch(ctx) })
	running.Go(func() {
		if r.source != nil {
			select {
			case <-r.source.Ready():
			case <-ctx.Done():
			}
		}
		p.tell(ctx)
	})
	r.closers = append(r.closers, func() { cancel(); running.Wait() })
	return nil
}

// watch probes until ctx ends.
func (p *prober) watch(ctx context.Context) {
	retry.Wait(ctx, time.Duration(p.InitialDelay)*time.Second)
	good, bad := 0, 0
	for ctx.Err() == nil {
		if err := p.once(ctx); err != nil {
			if good, bad = 0, bad+1; bad >= max(p.FailureThreshold, 1) {
				p.found(err)
			}
		} else if good, bad = good+1, 0; good >= max(p.SuccessThreshold, 1) {
			p.found(nil)
		}
		period := p.Period
		if period == 0 {
			period = 10
		}
		retry.Wait(ctx, time.Duration(period)*time.Second)
	}
}

// once asks the workload. A proxy that is not ready cannot bring it requests.
func (p *prober) once(ctx context.Context) error {
	if err := p.admin.ready(ctx); err != nil {
		return fmt.Errorf("the proxy is not ready: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(max(p.Timeout, 1))*time.Second)
	defer cancel()
	switch {
	case p.TCP != nil:
		return p.how.tcp(ctx, p.TCP)
	case p.GRPC != nil:
		return p.how.grpc(ctx, p.GRPC)
	case p.Exec != nil:
		err := runWhole(ctx, p.Exec.Command)
		if ctx.Err() != nil {
			return fmt.Errorf("%s did not end within %ds", p.Exec.Command[0], max(p.Timeout, 1))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.Exec.Command[0], err)
		}
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "istio-probe/1.0")
	var answer statusOnly
	if err := p.how.http(ctx, p.HTTP, &answer, req); err != nil {
		return err
	}
	if answer.status < 200 || answer.status >= 400 {
		return fmt.Errorf("%s is answered with status %d", p.HTTP.Path, answer.status)
	}
	return nil
}

// runWhole runs a command; what it has started ends with ctx, too.
func runWhole(ctx context.Context, command []string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // the user's own
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd.Run()
}

// statusOnly is an http.ResponseWriter that keeps the status.
type statusOnly struct {
	header http.Header
	status int
}

// Header implements http.ResponseWriter.
func (s *statusOnly) Header() http.Header {
	if s.header == nil {
		s.header = http.Header{}
	}
	return s.header
}

// Write implements http.ResponseWriter.
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }

// WriteHeader implements http.ResponseWriter.
func (s *statusOnly) WriteHeader(status int) { s.status = status }

// found notes how the workload is.
func (p *prober) found(fault error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known && (p.fault == nil) == (fault == nil) {
		return
	}
	p.known, p.fault = true, fault
	p.log.Info("the workload's health has changed", zap.Bool("healthy", fault == nil), zap.Error(fault))
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// tell reports the workload's health until ctx ends.
func (p *prober) tell(ctx context.Context) {
	const firstPause, lastPause = time.Second, 30 * time.Second
	pauses := retry.Pauses{First: firstPause, Last: lastPause}
	for ctx.Err() == nil {
		began := time.Now()
		err := p.stream(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > lastPause {
			pauses.Reset()
		}
		p.log.Info("the stream of health reports has ended", zap.Error(err))
		retry.Wait(ctx, pauses.Next())
	}
}

// stream reports over one stream: how the workload is, and each change.
func (p *prober) stream(ctx context.Context) error {
	conn, err := p.connect()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := discovery.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := s.Recv(); err != nil {
				ended <- err
				return
			}
		}
	}()
	node := p.node
	for {
		if report := p.report(); report != nil {
			report.Node, node = node, nil
			if err := s.Send(report); err != nil {
				return errors.Join(err, <-ended) // which says why
			}
		}
		select {
		case <-p.changed:
		case err := <-ended:
			return err
		}
	}
}

// report is how the workload is; nil while that is not known.
func (p *prober) report() *discovery.DiscoveryRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.known {
		return nil
	}
	out := &discovery.DiscoveryRequest{TypeUrl: healthType}
	if p.fault != nil {
		out.ErrorDetail = &rpc.Status{Code: int32(codes.Internal), Message: strings.ToValidUTF8(p.fault.Error(), "?")}
	}
	return out
}
