package registration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// DefaultGrace is how long a proxy may be away before its WorkloadEntry goes.
const DefaultGrace = 10 * time.Second

// Options are a Registrar's settings.
type Options struct {
	Client rest.Interface      // any of the API server's
	Mesh   func() *config.Mesh // the newest one; nil before the first
	// Changed receives a value after each new Mesh.
	Changed <-chan struct{}
	// Identity is this replica's name, which no other has.
	Identity string
	// Grace is how long a proxy may be away before its entry goes. Default
	// DefaultGrace.
	Grace time.Duration
	// ConnectionAge is the longest that a proxy stays connected without coming
	// anew. An entry whose proxy was last seen half as long again before has been
	// left behind by a replica that could not say so.
	ConnectionAge time.Duration
	Log           *zap.Logger
	Registerer    prometheus.Registerer
}

// Registrar keeps the entries of the proxies that are connected to this replica.
type Registrar struct {
	options Options
	entries entries
	metrics *metrics
	// queue holds the entries whose state has to be written.
	queue workqueue.TypedRateLimitingInterface[name]

	gone chan struct{} // capacity 1: connected has become less

	mu        sync.Mutex
	connected map[name]*presence
}

// name is a WorkloadEntry's.
type name struct{ namespace, name string }

func (n name) String() string { return n.namespace + "/" + n.name }

// presence is what is known of the proxy of an entry. It is kept until what it
// says has been written.
type presence struct {
	proxy   *config.Proxy
	account string // that the proxy has proven to run as
	streams int
	// since is when the last stream began, away when the last one ended.
	since, away time.Time
	// owed: that it is connected has not been written.
	owed bool
	// health is the last report, nil before the first; told says that it was
	// written.
	health *health
	told   bool
}

// New returns a Registrar.
func New(o Options) *Registrar {
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	return &Registrar{
		options: o, entries: entries{client: o.Client, identity: o.Identity}, metrics: newMetrics(o.Registerer),
		connected: map[name]*presence{}, gone: make(chan struct{}, 1),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[name](50*time.Millisecond, 30*time.Second)),
	}
}

// Connect takes a proxy that was let in as a service account, empty if it has
// proven nothing. One that is no workload outside of Kubernetes is none of the
// Registrar's business. Else its WorkloadEntry is there, and says so, when
// Connect returns without an error; left is to be called when the stream ends.
func (r *Registrar) Connect(ctx context.Context, p *config.Proxy, account string) (left func(), err error) {
	n, err := r.nameOf(ctx, p)
	if err == nil && n == (name{}) {
		return nil, nil
	}
	begun := time.Now()
	if err == nil {
		err = r.connect(ctx, n, p, account, begun)
	}
	owed := status.Code(err) == codes.Unavailable && r.known(n, p, account)
	if err != nil && !owed {
		r.metrics.errors.Inc()
		r.options.Log.Warn("a workload is not registered", zap.Stringer("workload_entry", n), zap.String("proxy", p.ID), zap.Error(err))
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.connected[n]
	if at == nil {
		at = &presence{}
		r.connected[n] = at
	}
	at.proxy, at.account, at.away = p, account, time.Time{}
	at.streams++
	at.owed = at.owed || owed
	r.queue.Add(n)
	if begun.After(at.since) {
		at.since = begun
	}
	return sync.OnceFunc(func() { r.leave(n) }), nil
}

// known reports whether the mesh has the entry of a proxy, which then need not
// wait for an API server that is away.
func (r *Registrar) known(n name, p *config.Proxy, account string) bool {
	m := r.options.Mesh()
	if m == nil {
		return false
	}
	e, ok := m.WorkloadEntries.Get(n.namespace, n.name)
	return ok && account != "" && e.Annotations[groupNote] == p.Group && mayBe(n, e.Spec.GetServiceAccount(), account) == nil
}

// nameOf is that of a proxy's WorkloadEntry; empty for one that has none, or
// whose entry takes no reports of health.
func (r *Registrar) nameOf(ctx context.Context, p *config.Proxy) (name, error) {
	switch {
	case p.Group != "":
		if e := config.EntryName(p); e != "" {
			return name{p.Namespace, e}, nil
		}
		return name{}, status.Errorf(codes.InvalidArgument, "registration with WorkloadGroup %s/%s: the proxy states no address (INSTANCE_IPS)", p.Namespace, p.Group)
	case p.Entry != "":
		n := name{p.Namespace, p.Entry}
		if m := r.options.Mesh(); m != nil {
			if e, ok := m.WorkloadEntries.Get(n.namespace, n.name); ok {
				if _, checked := e.Annotations[config.HealthChecked]; checked {
					return n, nil
				}
				return name{}, nil
			}
		}
		e, err := r.entries.get(ctx, n) // the mesh may be behind
		if apierrors.IsNotFound(err) {
			return name{}, status.Errorf(codes.FailedPrecondition, "the proxy says to be of WorkloadEntry %s, which does not exist", n)
		}
		if err != nil {
			return name{}, unavailable(err)
		}
		if _, checked := e.Metadata.Annotations[config.HealthChecked]; checked {
			return n, nil
		}
	}
	return name{}, nil
}

func unavailable(err error) error { return status.Error(codes.Unavailable, err.Error()) }

// attempts is how often a write that conflicts with another one is tried.
const attempts = 5

// connect makes the entry say that its proxy is connected here, making it if
// need be.
func (r *Registrar) connect(ctx context.Context, n name, p *config.Proxy, account string, at time.Time) error {
	if account == "" {
		return status.Error(codes.PermissionDenied, "registration is for proxies that have proven who they are: connect over TLS, with a token or a certificate")
	}
	err := errors.New("not tried")
	for range attempts {
		var e *entry
		switch e, err = r.entries.get(ctx, n); {
		case apierrors.IsNotFound(err) && p.Group != "":
			err = r.create(ctx, n, p, account, at)
		case err != nil:
		default:
			err = r.update(ctx, n, e, p, account, at)
		}
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsNotFound(err) {
			break
		}
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return unavailable(fmt.Errorf("WorkloadEntry %s: %w", n, err))
}

func (r *Registrar) create(ctx context.Context, n name, p *config.Proxy, account string, at time.Time) error {
	var g *config.WorkloadGroup
	if m := r.options.Mesh(); m != nil {
		g, _ = m.WorkloadGroups.Get(p.Namespace, p.Group)
	}
	if g == nil {
		return status.Errorf(codes.FailedPrecondition, "registration of %s: there is no WorkloadGroup %s/%s", n, p.Namespace, p.Group)
	}
	e := config.EntryOf(p, g)
	if err := mayBe(n, e.Spec.GetServiceAccount(), account); err != nil {
		return err
	}
	owner, err := r.entries.owner(ctx, g)
	if err != nil {
		return err
	}
	if err := r.entries.create(ctx, e, owner, at); err != nil {
		return err
	}
	r.metrics.success.Inc()
	r.options.Log.Info("a workload is registered", zap.Stringer("workload_entry", n), zap.String("proxy", p.ID))
	return nil
}

// update takes an entry over that is there.
func (r *Registrar) update(ctx context.Context, n name, e *entry, p *config.Proxy, account string, at time.Time) error {
	if group := e.group(); group != p.Group {
		return status.Errorf(codes.AlreadyExists, "WorkloadEntry %s is there and was not made for WorkloadGroup %q: annotation %s is %q", n, p.Group, groupNote, group)
	}
	if err := mayBe(n, e.Spec.ServiceAccount, account); err != nil {
		return err
	}
	if !e.connectedBefore(r.options.Identity, at) {
		return nil
	}
	if err := r.entries.connected(ctx, n, e, at); err != nil {
		return err
	}
	if p.Group != "" {
		r.metrics.updates.Inc()
	}
	r.options.Log.Info("a registered workload is connected", zap.Stringer("workload_entry", n), zap.String("proxy", p.ID))
	return nil
}

// mayBe refuses a proxy of another service account than the entry's. One that
// names none is for all of its namespace, as with Istio.
func mayBe(n name, want, account string) error {
	if want != "" && want != account {
		return status.Errorf(codes.PermissionDenied, "WorkloadEntry %s is of service account %q, the proxy has proven to be of %q", n, want, account)
	}
	return nil
}

// leave notes the end of a stream.
func (r *Registrar) leave(n name) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.connected[n]
	if at == nil {
		return
	}
	if at.streams--; at.streams == 0 {
		at.away = time.Now()
		r.queue.Add(n)
	}
}

// health is a report of it.
type health struct {
	fault string // empty if it is good
	at    time.Time
}

// Health takes what an agent says of its workload's health; fault is nil if it
// is good.
func (r *Registrar) Health(p *config.Proxy, fault error) {
	n := name{p.Namespace, config.EntryName(p)}
	if p.Group == "" {
		n.name = p.Entry
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.connected[n]
	if at == nil {
		return
	}
	at.health, at.told = &health{at: time.Now()}, false
	if fault != nil {
		at.health.fault = fault.Error()
		if at.health.fault == "" {
			at.health.fault = "unhealthy"
		}
	}
	r.queue.Add(n)
}
