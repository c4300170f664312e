package registration

import (
	"context"
	"maps"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Clean removes what proxies have left behind that did not come back, until ctx
// ends: the work of one replica.
func (r *Registrar) Clean(ctx context.Context) error {
	every := min(r.options.Grace/2, 5*time.Second)
	tick := time.NewTicker(max(every, 10*time.Millisecond))
	defer tick.Stop()
	known := map[name]time.Time{} // entries that were found to be in use, until when
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if m := r.options.Mesh(); m != nil {
				maps.DeleteFunc(known, func(_ name, until time.Time) bool { return now.After(until) })
				r.clean(ctx, m, now, known)
			}
		}
	}
}

// recheck is after how long an entry that could not be removed is looked at
// again.
const recheck = 5 * time.Second

func (r *Registrar) clean(ctx context.Context, m *config.Mesh, now time.Time, known map[name]time.Time) {
	for w := range m.WorkloadEntries.All() {
		n := name{w.Namespace, w.Name}
		if _, later := known[n]; w.File != "" || later || !r.leftBehind(w.Annotations, now) {
			continue
		}
		known[n] = now.Add(recheck)
		e, err := r.entries.get(ctx, n) // the mesh may be behind
		if err == nil && r.leftBehind(e.Metadata.Annotations, now) {
			if e.group() != "" {
				err = r.entries.remove(ctx, n, e)
			} else {
				err = r.entries.forgetHealth(ctx, n, e)
			}
			if err == nil {
				r.metrics.deletes.Inc()
				r.options.Log.Info("a workload has not come back", zap.Stringer("workload_entry", n))
			}
		}
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && ctx.Err() == nil {
			r.metrics.errors.Inc()
			r.options.Log.Warn("a WorkloadEntry cannot be cleaned up; trying again", zap.Stringer("workload_entry", n), zap.Error(err))
		}
	}
}

// leftBehind reports whether the proxy of an entry has been away for too long.
func (r *Registrar) leftBehind(notes map[string]string, now time.Time) bool {
	if notes[groupNote] == "" && notes[controllerNote] == "" {
		return false
	}
	if at := noted(notes, connectedNote); !at.IsZero() {
		return r.options.ConnectionAge > 0 && now.Sub(at) > r.options.ConnectionAge*3/2
	}
	at := noted(notes, disconnectedNote)
	return !at.IsZero() && now.Sub(at) > r.options.Grace
}
