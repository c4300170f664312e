package serve

import (
	"context"
	"crypto/tls"
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

	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/discovery/jwks"
	"github.com/pilotfish-mesh/pilotfish/discovery/kube"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
	"github.com/pilotfish-mesh/pilotfish/webhook/inject"
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
	// Page makes the page about the configuration, for /config/ of the
	// monitoring address; nil for none.
	Page func(mesh func() *config.Mesh) http.Handler
	// Authority is that of the TLS addresses. Nil means the cluster's own, whose
	// keys Secrets hold, or without a cluster one in memory.
	Authority Authority
	// Environment finds the variables that headers of extension providers name
	// (HttpHeader.envName), and is asked for no others; nil: something that says
	// which variable it is stands for each.
	Environment config.Lookup
	// InternalKeys lets the keys of token issuers be fetched from addresses of
	// the inside.
	InternalKeys bool
	// ReadOnly: write nothing to the API server, and so sign no certificates.
	ReadOnly bool
	// NoStatus: do not write how Istio's objects fare into their status.
	NoStatus bool
	// Namespace is the control plane's own. Default istio-system.
	Namespace string
	// Revision is that of this control plane (label istio.io/rev); empty for
	// the default one.
	Revision string
	// Identity is this replica's name, which no other has. Default its host's
	// and its process number.
	Identity string
	// StateDir is a folder for the last good state, which is served when the API
	// server is away at the start; empty for none.
	StateDir string
	// MountedSecrets are folders that may hold what Secrets cacerts and
	// istio-ca-secret do, by their names: the authority's root while the API
	// server is away at the start.
	MountedSecrets map[string]string
	// CertificateLifetime is the longest life of a workload's certificate.
	// Default 24 h.
	CertificateLifetime time.Duration
	// DebugNamespaces are those, besides Namespace, whose service accounts may see
	// every debug page.
	DebugNamespaces []string
	// OpenDebug has debug information answer everybody who reaches a port,
	// Secrets redacted, as istiod did before 1.29.
	OpenDebug bool
	// WorkloadEntryGrace is how long the proxy of a registered WorkloadEntry may be
	// away before the entry goes. Default 10 s.
	WorkloadEntryGrace time.Duration
	// NativeSidecars says when injected proxies are native sidecars.
	NativeSidecars inject.Native
	// XDS bounds what proxies may take; Authorize and Registerer are not read.
	XDS   snapshot.Options
	Log   *zap.Logger
	Build Build
}

// drainTime is how long proxies may take to go elsewhere after the end was
// asked for.
const drainTime = 10 * time.Second

// Run serves until ctx ends, drains, and returns nil. An error is one clear
// line: an address in use, a source that cannot work.
func Run(ctx context.Context, o Options) error {
	var open listeners
	defer open.close()
	server, err := o.cluster()
	if err != nil {
		return err
	}
	statuses := newSeenStatuses()
	sources, err := o.sources(server, statuses)
	if err != nil {
		return err
	}
	if err := checkLifetime(o.CertificateLifetime); err != nil {
		return err
	}
	r, err := newRunning(&o, &open)
	if err != nil {
		return err
	}
	for _, s := range sources {
		if k, ok := s.Source.(*kube.Source); ok {
			r.stale, r.unsaved = k.Stale, k.SaveFailures
		}
	}
	bounds := o.XDS
	bounds.Authorize = func(ctx context.Context, p *config.Proxy) (snapshot.Grant, error) {
		return r.admission.authorize(ctx, p)
	}
	bounds.Connected = func(ctx context.Context, p *config.Proxy, g snapshot.Grant) (func(), error) {
		if r.cluster == nil {
			return nil, nil
		}
		return r.cluster.registrar.Connect(ctx, p, g.ServiceAccount)
	}
	bounds.Health = func(p *config.Proxy, fault error) {
		if r.cluster != nil {
			r.cluster.registrar.Health(p, fault)
		}
	}
	bounds.Answers = map[string]snapshot.Answer{}
	for _, url := range []string{debugType, syncType, dumpType} {
		bounds.Answers[url] = func(ctx context.Context, q snapshot.Question) (snapshot.Reply, error) {
			return r.tools.answer(ctx, q)
		}
	}
	r.plane = NewPlane(sources, bounds)
	r.plane.TellBuild(o.Build)
	if server != nil {
		r.plane.Store.ForRevision(o.revision())
	}
	defer r.plane.Server.Close()
	r.plane.Store.ReadEnvironment(o.Environment)
	r.plane.FetchKeys(jwks.Options{Internal: o.InternalKeys, Log: o.Log})
	if err := r.prepare(server, statuses); err != nil {
		return err
	}
	return r.run(ctx)
}

// prepare makes the parts that decide who is let in, and those that a cluster
// has; server is nil without one.
func (r *running) prepare(server *rest.Config, statuses *seenStatuses) error {
	o := r.options
	callers := &ca.Authenticator{Domains: r.plane.domains, HangUp: r.plane.Server.HangUp}
	var secrets *secretAccess
	if server != nil {
		client, err := newClient(server)
		if err != nil {
			return err
		}
		callers.Tokens = ca.NewReviewer(client.AuthenticationV1().TokenReviews())
		secrets = newSecretAccess(client.AuthorizationV1().SubjectAccessReviews())
		if !o.ReadOnly {
			r.cluster = newCluster(o, client, r.plane, statuses)
			if o.Authority == nil && o.WebhookAddress != "" {
				if err := r.cluster.register(o, server); err != nil {
					return err
				}
			}
		}
	}
	if r.stale != nil {
		r.plane.Registry.MustRegister(staleGauge(r.stale), saveFailures(r.unsaved))
	}
	r.admission = newAdmission(r.plane, callers, secrets, o.Log)
	switch {
	case o.Authority != nil:
		r.authority = o.Authority
	case r.cluster != nil:
		r.authority, callers.Revoked = r.cluster.authority, r.cluster.authority.Revoked
	default:
		made, err := NewAuthority("", "", "")
		if err != nil {
			return err
		}
		r.authority = made
	}
	return nil
}

func (o *Options) sources(config *rest.Config, statuses *seenStatuses) ([]NamedSource, error) {
	var out []NamedSource
	if len(o.Config) > 0 {
		out = append(out, NamedSource{file.Name, file.New(o.Config)})
	}
	if config != nil {
		k, err := kube.New(config, kube.Options{Log: o.Log, Saved: o.savedState(), Status: statuses.saw})
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

// running are the parts of one Run.
type running struct {
	options  *Options
	plane    *Plane
	group    *errgroup.Group
	draining chan struct{} // closed when the end has been asked for
	grpc     []*grpc.Server
	pages    []*http.Server

	authority Authority
	admission *admission
	tools     *tools           // set before a listener is served
	stale     func() time.Time // of the cluster's state; nil without a cluster
	unsaved   func() uint64    // how often that was not saved; nil without a cluster
	cluster   *cluster         // nil without a cluster, and where nothing is written

	xds, secure, hook, monitoring, http net.Listener
}

// newRunning opens every address before anything else happens: an address in
// use must not leave half a control plane running.
func newRunning(o *Options, open *listeners) (*running, error) {
	r := &running{options: o, draining: make(chan struct{})}
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

func (r *running) run(ctx context.Context) error {
	log := r.options.Log
	r.group, ctx = errgroup.WithContext(ctx)
	r.group.Go(func() error { return r.plane.Run(ctx) })
	r.group.Go(func() error {
		returnMemory(ctx)
		return nil
	})
	pages := &Pages{Plane: r.plane, Build: r.options.Build, Visitor: r.admission.visitor, Namespaces: append([]string{r.options.namespace()}, r.options.DebugNamespaces...), Open: r.options.OpenDebug, Draining: r.draining, Pprof: r.options.Pprof, Page: r.options.Page, Stale: r.stale}
	var err error
	if r.tools, err = newTools(r.plane, pages.debug(), r.options); err != nil {
		return err
	}
	r.serveADS(r.xds, "ADS in plaintext")
	r.serveADS(r.secure, "ADS over TLS", grpc.Creds(credentials.NewTLS(tlsConfig(r.authority, true, "h2"))))
	if r.cluster != nil {
		r.cluster.run(ctx, r)
		pages.Unready = r.cluster.unready
	}
	r.servePages(r.http, "readiness", pages.Readiness(), nil)
	r.servePages(r.monitoring, "metrics and debug pages", pages.Monitoring(), nil)
	hooks := newWebhooks(r.plane, r.options)
	r.group.Go(func() error { return hooks.run(ctx) })
	r.servePages(r.hook, "webhooks", hooks.handler, tlsConfig(r.authority, false, "h2", "http/1.1"))
	r.group.Go(func() error {
		select {
		case <-r.plane.Cache.Ready():
			log.Info("ready: the first mesh is in service", zap.Int("services", r.plane.Store.Mesh().Services.Len()))
		case <-ctx.Done():
		}
		return nil
	})
	r.group.Go(func() error {
		<-ctx.Done()
		close(r.draining)
		log.Info("draining")
		r.drain()
		return nil
	})
	err = r.group.Wait()
	log.Info("stopped")
	return err
}

// serveADS serves proxies on l, unless it is nil.
func (r *running) serveADS(l net.Listener, what string, more ...grpc.ServerOption) {
	if l == nil {
		return
	}
	r.options.Log.Info("serving "+what, zap.Stringer("address", l.Addr()))
	s := grpc.NewServer(append(r.options.XDS.GRPC(), more...)...)
	r.plane.Server.Register(s)
	if l == r.secure && r.cluster != nil {
		r.cluster.certificates(r).Register(s)
	}
	r.grpc = append(r.grpc, s)
	bounded := r.plane.Server.Limit(l)
	r.group.Go(func() error { return s.Serve(bounded) })
}

// servePages serves HTTP on l, unless it is nil; over TLS if secure is given.
func (r *running) servePages(l net.Listener, what string, h http.Handler, secure *tls.Config) {
	if l == nil {
		return
	}
	r.options.Log.Info("serving "+what, zap.Stringer("address", l.Addr()))
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: zap.NewStdLog(r.options.Log)}
	r.pages = append(r.pages, s)
	r.group.Go(func() error {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
}

// drain sends the proxies elsewhere, then ends the pages.
func (r *running) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, s := range r.grpc {
			s.GracefulStop()
		}
	}()
	r.plane.Server.Drain(ctx)
	select {
	case <-done:
	case <-ctx.Done():
		for _, s := range r.grpc {
			s.Stop()
		}
		<-done
	}
	for _, s := range r.pages {
		if s.Shutdown(ctx) != nil {
			_ = s.Close()
		}
	}
}
