package serve

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/registration"
)

// cluster is what the control plane of a cluster does besides reading it:
// certificates, and what its leader writes.
type cluster struct {
	client    kubernetes.Interface
	authority *ca.Authority
	keeper    *ca.Keeper
	registrar *registration.Registrar
	revision  string
	leader    *Leader   // of what all revisions write together
	own       *Leader   // of what this revision writes for itself
	reports   *reporter // nil: how objects fare is not written
	log       *zap.Logger
}

// Rates of calls to the API server besides the sources': reviews of tokens and
// rights, and what the leader writes.
const (
	callsPerSecond = 100
	callsAtOnce    = 200
)

func newClient(c *rest.Config) (kubernetes.Interface, error) {
	c = rest.CopyConfig(c)
	c.QPS, c.Burst = callsPerSecond, callsAtOnce
	return kubernetes.NewForConfig(c)
}

// newCluster makes the parts; nothing runs yet.
func newCluster(o *Options, client kubernetes.Interface, plane *Plane, statuses *seenStatuses) *cluster {
	c := &cluster{client: client, log: o.Log, revision: o.revision()}
	c.authority = ca.NewAuthority(nil, ca.Options{
		Names:       ca.ServingNames(o.namespace(), slices.DeleteFunc([]string{o.Revision}, func(r string) bool { return r == "" || r == "default" })...),
		MaxLifetime: o.CertificateLifetime,
	})
	c.keeper = ca.NewKeeper(client, o.namespace(), c.authority, o.Log, plane.Registry)
	c.keeper.Mounted = o.MountedSecrets
	age := o.XDS.ConnectionAge
	if age == 0 {
		age = 30 * time.Minute // snapshot.Options' default
	}
	c.registrar = registration.New(registration.Options{
		Client: client.Discovery().RESTClient(), Mesh: plane.Store.Mesh, Changed: plane.Watch(), Identity: o.identity(),
		Grace: o.WorkloadEntryGrace, ConnectionAge: age, Log: o.Log, Registerer: plane.Registry,
	})
	c.leader = &Leader{
		Client: client, Namespace: o.namespace(), Lease: leaseName, Identity: o.identity(), Log: o.Log,
		Yields: func(ctx context.Context) bool { return c.defaultLeads(ctx, plane.Store.TagOf(defaultRevision)) },
	}
	c.own = &Leader{Client: client, Namespace: o.namespace(), Lease: leaseOf(c.revision), Identity: o.identity(), Log: o.Log}
	distributor := ca.NewDistributor(client, c.authority, o.Log, plane.Registry)
	lifetime := c.authority.MaxLifetime()
	c.leader.Writers = []Writer{
		{"trust bundle in every namespace", distributor.Run},
		{"addresses of ServiceEntries", (&addressWriter{client: client.Discovery().RESTClient(), mesh: plane.Store.Mesh, changed: plane.Watch()}).Run},
		{"WorkloadEntries of proxies that have gone", c.registrar.Clean},
		{"rotation of the root", func(ctx context.Context) error { return c.keeper.Rotate(ctx, lifetime, lifetime) }},
	}
	if !o.NoStatus {
		c.writeStatus(o, plane, statuses)
	}
	return c
}

// writeStatus adds the writers of status: objects that are labelled for a
// revision, or for a tag of it, are that revision's, the others everybody's.
func (c *cluster) writeStatus(o *Options, plane *Plane, statuses *seenStatuses) {
	c.reports = &reporter{client: c.client, namespace: o.namespace(), identity: o.identity(), revision: c.revision, plane: plane, log: o.Log}
	all := statusWriter{client: c.client.Discovery().RESTClient(), plane: plane, seen: statuses, log: o.Log, written: newStatusWrites(plane.Registry), reads: newStatusReads(plane.Registry)}
	shared, own := all, all
	shared.others = &reports{reporter: *c.reports, seen: map[string]sighting{}}
	shared.mine = func(revision string) bool { return revision == "" }
	shared.counts = func(string) bool { return true }
	own.others = &reports{reporter: *c.reports, seen: map[string]sighting{}}
	own.mine = func(revision string) bool { return revision != "" && plane.Store.Owns(revision) }
	own.counts = func(revision string) bool { return revision == c.revision }
	c.leader.Writers = append(c.leader.Writers, Writer{"status of objects", shared.Run})
	c.own.Writers = append(c.own.Writers, Writer{"status of the revision's objects", own.Run})
}

// defaultRevision is the name of the revision that has none.
const defaultRevision = "default"

// revision is the name of this control plane's.
func (o *Options) revision() string {
	if o.Revision == "" {
		return defaultRevision
	}
	return o.Revision
}

// defaultLeads reports whether the default revision is another one than this,
// and alive: then it writes what all revisions write together, so that it does
// not change hands, and form, while another version is tried out beside it. tag
// is where tag default leads.
func (c *cluster) defaultLeads(ctx context.Context, tag string) bool {
	if tag == "" {
		tag = defaultRevision
	}
	if tag == c.revision {
		return false
	}
	lease, err := c.client.CoordinationV1().Leases(c.leader.Namespace).Get(ctx, leaseOf(tag), metav1.GetOptions{})
	if err != nil {
		return false // none, or nobody can tell: then it cannot write either
	}
	held := lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity != ""
	return held && lease.Spec.RenewTime != nil && time.Since(lease.Spec.RenewTime.Time) < 2*leaseDuration
}

// namespace is the control plane's own.
func (o *Options) namespace() string {
	if o.Namespace == "" {
		return "istio-system"
	}
	return o.Namespace
}

// identity is this replica's name, which no other has.
func (o *Options) identity() string {
	if o.Identity != "" {
		return o.Identity
	}
	host, err := os.Hostname()
	if err != nil {
		host = "pilotfish"
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}

// run starts the parts on the group of a Run.
func (c *cluster) run(ctx context.Context, r *running) {
	// The sources say when the API server is away.
	ctx = klog.NewContext(ctx, logr.Discard())
	r.group.Go(func() error { return c.keeper.Run(ctx) })
	r.group.Go(func() error { return c.leader.Run(ctx) })
	r.group.Go(func() error { return c.own.Run(ctx) })
	r.group.Go(func() error { return c.registrar.Run(ctx) })
	if c.reports != nil {
		r.group.Go(func() error { return c.reports.run(ctx) })
	}
	r.group.Go(func() error {
		c.followTrust(ctx, r.plane)
		return nil
	})
	r.group.Go(func() error { return c.tellRoots(ctx, r.plane) })
}

// certificates is the service that signs requests.
func (c *cluster) certificates(r *running) *ca.Service {
	return &ca.Service{
		Authority: c.authority, Callers: r.admission.callers, Check: r.admission.check,
		Metrics: ca.NewMetrics(c.authority, r.plane.Registry),
	}
}

// unready is why this replica cannot do a cluster's work yet; nil when it can.
func (c *cluster) unready() error {
	if c.authority.Root() != nil {
		return nil
	}
	if err := c.keeper.Problem(); err != nil {
		return err
	}
	return fmt.Errorf("waiting for the certificate authority's root")
}

// tellRoots has agents told of the trust bundle whenever it changes.
func (c *cluster) tellRoots(ctx context.Context, plane *Plane) error {
	for {
		bundle, changed := c.authority.TrustBundle()
		if len(bundle) > 0 {
			var roots []string
			for rest := bundle; ; {
				var block *pem.Block
				if block, rest = pem.Decode(rest); block == nil {
					break
				}
				roots = append(roots, string(pem.EncodeToMemory(block)))
			}
			if err := plane.Server.Trust(roots); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// followTrust adds the roots of MeshConfig.caCertificates to the trust bundle.
func (c *cluster) followTrust(ctx context.Context, plane *Plane) {
	changed := plane.Watch()
	var last *config.Settings
	for {
		if m := plane.Store.Mesh(); m != nil && m.Settings != last {
			if last != nil {
				c.tellSettings(last.Meta.Key.Name, m.Settings.Meta.Key.Name)
			}
			last = m.Settings
			var extra []*x509.Certificate
			for i, d := range last.Mesh.GetCaCertificates() {
				if d.GetPem() == "" {
					continue
				}
				more, err := ca.ParseCertificates([]byte(d.GetPem()))
				if err != nil {
					c.log.Error("MeshConfig: a certificate authority is refused", zap.Int("caCertificates", i), zap.Error(err))
					continue
				}
				extra = append(extra, more...)
			}
			c.authority.Trust(extra)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// tellSettings says that no ConfigMap has the MeshConfig any more, or that
// another one has.
func (c *cluster) tellSettings(was, is string) {
	switch {
	case is == was:
	case is == "":
		c.log.Warn("MeshConfig: no ConfigMap has it any more: the defaults are in effect", zap.String("configMap", was))
	default:
		c.log.Info("MeshConfig: another ConfigMap is in effect", zap.String("configMap", is), zap.String("before", was))
	}
}

// domains are the mesh's trust domain and its aliases; none before the first
// Mesh.
func (p *Plane) domains() []string {
	m := p.Store.Mesh()
	if m == nil {
		return nil
	}
	return append([]string{m.Settings.Mesh.GetTrustDomain()}, m.Settings.Mesh.GetTrustDomainAliases()...)
}

// savedState is the file of the last good state; empty for none.
func (o *Options) savedState() string {
	if o.StateDir == "" {
		return ""
	}
	return filepath.Join(o.StateDir, "state")
}

// staleGauge says for how long the state in service has been stale.
func staleGauge(since func() time.Time) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pilotfish_state_stale_seconds",
		Help: "Age of the saved state that is served since the API server is away; 0 when the state is the API server's.",
	}, func() float64 {
		if at := since(); !at.IsZero() {
			return time.Since(at).Seconds()
		}
		return 0
	})
}

// saveFailures counts the times that the state could not be saved.
func saveFailures(n func() uint64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "pilotfish_state_save_failures_total",
		Help: "Times that the state could not be saved, as on a full disk; what was saved before stays.",
	}, func() float64 { return float64(n()) })
}

// checkLifetime keeps certificates long enough to be renewed in time.
func checkLifetime(d time.Duration) error {
	const least = time.Minute
	if d != 0 && d < least {
		return fmt.Errorf("--certificate-lifetime %v: want %v or more", d, least)
	}
	return nil
}
