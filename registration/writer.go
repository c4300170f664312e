package registration

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// lastWrites is how long writes may take after the end.
const lastWrites = 5 * time.Second

// Run writes until ctx ends, and then until it has said of every proxy that it
// is away, for lastWrites at most.
func (r *Registrar) Run(ctx context.Context) error {
	writing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var running sync.WaitGroup
	const workers = 4
	for range workers {
		running.Go(func() {
			for r.one(writing) {
			}
		})
	}
	for ctx.Err() == nil {
		r.queueMissing()
		select {
		case <-ctx.Done():
		case <-r.options.Changed:
		}
	}
	for end := time.After(lastWrites); r.owes(); {
		select {
		case <-end:
			r.forget()
		case <-r.gone:
		}
	}
	r.queue.ShutDown()
	stop()
	running.Wait()
	return nil
}

// owes reports whether proxies are connected, or their end is still to be said.
func (r *Registrar) owes() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.connected) > 0
}

// forget gives up on what has not been written.
func (r *Registrar) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.connected)
}

// queueMissing has the entries of connected proxies written that the mesh does
// not have: they, or their group, were deleted and the group is there (again).
func (r *Registrar) queueMissing() {
	m := r.options.Mesh()
	if m == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, at := range r.connected {
		_, has := m.WorkloadEntries.Get(n.namespace, n.name)
		_, group := m.WorkloadGroups.Get(n.namespace, at.proxy.Group)
		if at.streams > 0 && !has && group {
			at.told = false
			r.queue.Add(n)
		}
	}
}

// one writes what is due of one entry; false when the queue has ended.
func (r *Registrar) one(ctx context.Context) bool {
	n, end := r.queue.Get()
	if end {
		return false
	}
	defer r.queue.Done(n)
	err := r.settle(ctx, n)
	if err == nil || ctx.Err() != nil {
		r.queue.Forget(n)
		return true
	}
	if !apierrors.IsConflict(err) {
		r.metrics.errors.Inc()
		r.options.Log.Warn("a WorkloadEntry cannot be written; trying again", zap.Stringer("workload_entry", n), zap.Error(err))
	}
	r.queue.AddRateLimited(n)
	return true
}

// settle writes what is known of a proxy into its entry.
func (r *Registrar) settle(ctx context.Context, n name) error {
	r.mu.Lock()
	at := r.connected[n]
	if at == nil {
		r.mu.Unlock()
		return nil
	}
	now := *at
	r.mu.Unlock()
	if now.streams == 0 {
		return r.sayAway(ctx, n, &now)
	}
	e, err := r.entries.get(ctx, n)
	changed := true
	switch {
	case apierrors.IsNotFound(err) && now.proxy.Group == "":
		return nil // whoever made it has deleted it
	case err == nil && e.Metadata.Annotations[controllerNote] == r.options.Identity && e.connectedAt().IsZero():
		// One stream ended while another one began.
		err = r.entries.connected(ctx, n, e, time.Now())
	case apierrors.IsNotFound(err), err == nil && now.owed:
		err = r.connect(ctx, n, now.proxy, now.account, now.since)
		if c := status.Code(err); c == codes.FailedPrecondition || c == codes.PermissionDenied || c == codes.AlreadyExists {
			return nil // its group has gone, or it is somebody else's now
		}
	default:
		changed = false
	}
	if err == nil && changed {
		e, err = r.entries.get(ctx, n)
	}
	if err != nil {
		return err
	}
	if now.health != nil && !now.told && e.Metadata.Annotations[controllerNote] == r.options.Identity { // else it has gone to another replica
		if err := r.entries.healthy(ctx, n, e, now.health); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if at := r.connected[n]; at != nil {
		at.owed = false
		at.told = at.health == now.health
	}
	return nil
}

// sayAway makes the entry say that its proxy is no longer connected, unless it
// is to another replica.
func (r *Registrar) sayAway(ctx context.Context, n name, was *presence) error {
	e, err := r.entries.get(ctx, n)
	if err == nil && e.Metadata.Annotations[controllerNote] == r.options.Identity && !e.connectedAt().After(was.since) {
		if err = r.entries.away(ctx, n, e, was.away); err == nil {
			if was.proxy.Group != "" {
				r.metrics.unregistered.Inc()
			}
			r.options.Log.Info("a registered workload is away", zap.Stringer("workload_entry", n))
		}
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if at := r.connected[n]; at != nil && at.streams == 0 && at.away.Equal(was.away) {
		delete(r.connected, n)
		select {
		case r.gone <- struct{}{}:
		default:
		}
	}
	return nil
}
