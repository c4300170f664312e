package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/discovery/kube"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// Build says what this program is.
type Build struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Options are those of the command serve. An empty address switches its
// listener off.
type Options struct {
	Config            []string // folders and files of YAML
	Kubeconfig        string
	XDSAddress        string // ADS in plaintext
	SecureXDSAddress  string
	WebhookAddress    string
	MonitoringAddress string
	HTTPAddress       string
	Pprof             bool
	Authority         Authority
	Log               *zap.Logger
	Build             Build
}

// drainTime is how long proxies may take to go elsewhere after the end was
// asked for.
const drainTime = 10 * time.Second

// Run serves until ctx ends, drains, and returns nil. An error is one clear
// line: an address in use, a source that cannot work.
func Run(ctx context.Context, o Options) error {
	var open listeners
	defer open.close()
	r, err := newRunning(&o, &open)
	if err != nil {
		return err
	}
	sources, err := o.sources()
	if err != nil {
		return err
	}
	r.plane = NewPlane(sources, o.snapshotOptions())
	defer r.plane.Server.Close()
	return r.run(ctx, &o)
}

func (o *Options) sources() ([]NamedSource, error) {
	var out []NamedSource
	if len(o.Config) > 0 {
		out = append(out, NamedSource{file.Name, file.New(o.Config)})
	}
	config, err := o.cluster()
	if err != nil {
		return nil, err
	}
	if config != nil {
		k, err := kube.New(config, kube.Options{Log: o.Log})
		if err != nil {
			return nil, err
		}
		out = append(out, NamedSource{kube.Name, k})
	}
	return out, nil
}

// cluster is how to reach the API server; nil for none.
func (o *Options) cluster() (*rest.Config, error) {
	switch {
	case o.Kubeconfig != "":
		c, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("--kubeconfig %s: %w", o.Kubeconfig, err)
		}
		return c, nil
	case len(o.Config) > 0:
		return nil, nil
	}
	c, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, errors.New("nothing to read: give --config PATH or --kubeconfig FILE, or run in a pod")
	}
	return c, err
}

func (o *Options) snapshotOptions() snapshot.Options {
	return snapshot.Options{Authorize: Authorize}
}

// running are the parts of one Run.
type running struct {
	plane                               *Plane
	xds, secure, hook, monitoring, http net.Listener
}

// newRunning opens every address before anything else happens: an address in
// use must not leave half a control plane running.
func newRunning(o *Options, open *listeners) (*running, error) {
	r := &running{}
	for _, l := range []struct {
		to            *net.Listener
		address, flag string
	}{
		{&r.xds, o.XDSAddress, "xds-address"},
		{&r.secure, o.SecureXDSAddress, "secure-xds-address"},
		{&r.hook, o.WebhookAddress, "webhook-address"},
		{&r.monitoring, o.MonitoringAddress, "monitoring-address"},
		{&r.http, o.HTTPAddress, "http-address"},
	} {
		s, err := open.open(l.address, l.flag)
		if err != nil {
			return nil, err
		}
		*l.to = s
	}
	return r, nil
}

func (r *running) run(ctx context.Context, o *Options) error {
	draining := make(chan struct{})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.plane.Run(ctx) })
	var grpcServers []*grpc.Server
	serveGRPC := func(l net.Listener, what string, more ...grpc.ServerOption) {
		if l == nil {
			return
		}
		o.Log.Info("serving "+what, zap.Stringer("address", l.Addr()))
		s := grpc.NewServer(append(o.snapshotOptions().GRPC(), more...)...)
		r.plane.Server.Register(s)
		grpcServers = append(grpcServers, s)
		g.Go(func() error { return s.Serve(l) })
	}
	serveGRPC(r.xds, "ADS in plaintext")
	serveGRPC(r.secure, "ADS over TLS", grpc.Creds(credentials.NewTLS(tlsConfig(o.Authority, true, "h2"))))

	var httpServers []*http.Server
	serveHTTP := func(l net.Listener, what string, h http.Handler, tls bool) {
		if l == nil {
			return
		}
		o.Log.Info("serving "+what, zap.Stringer("address", l.Addr()))
		s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: zap.NewStdLog(o.Log)}
		httpServers = append(httpServers, s)
		g.Go(func() error {
			var err error
			if tls {
				s.TLSConfig = tlsConfig(o.Authority, false, "h2", "http/1.1")
				err = s.ServeTLS(l, "", "")
			} else {
				err = s.Serve(l)
			}
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return err
		})
	}
	pages := &Pages{Plane: r.plane, Build: o.Build, Draining: draining, Pprof: o.Pprof}
	serveHTTP(r.http, "readiness", pages.Readiness(), false)
	serveHTTP(r.monitoring, "metrics and debug pages", pages.Monitoring(), false)
	serveHTTP(r.hook, "webhooks", http.NotFoundHandler(), true)
	g.Go(func() error {
		select {
		case <-r.plane.Cache.Ready():
			o.Log.Info("ready: the first mesh is in service", zap.Int("services", r.plane.Store.Mesh().Services.Len()))
		case <-ctx.Done():
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		close(draining)
		o.Log.Info("draining")
		r.drain(grpcServers, httpServers)
		return nil
	})
	err := g.Wait()
	o.Log.Info("stopped")
	return err
}

// drain sends the proxies elsewhere, then ends the pages.
func (r *running) drain(gs []*grpc.Server, hs []*http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	var stopping errgroup.Group
	for _, s := range gs {
		stopping.Go(func() error { s.GracefulStop(); return nil })
	}
	r.plane.Server.Drain(ctx)
	done := make(chan struct{})
	go func() { _ = stopping.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
	for _, s := range gs {
		s.Stop()
	}
	<-done
	for _, s := range hs {
		if s.Shutdown(ctx) != nil {
			_ = s.Close()
		}
	}
}
