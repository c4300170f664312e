package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// undoPatience bounds how long a rollback is tried: an API server that is
// away comes back, or somebody has to look.
const undoPatience = 2 * time.Minute

// end completes the Report.
func (r *Rollout) end(result Result, reason string) *Report {
	r.report.Result, r.report.Reason, r.report.Ended = result, reason, time.Now().UTC()
	switch result {
	case Promoted:
		r.say("promoted: %s has all of the traffic", r.Plan.To)
	case Mirrored:
		r.say("done: %s keeps the limits with copies of requests", r.Plan.To)
	case RolledBack:
		r.say("rolled back: %s", reason)
	case Left:
		r.say("left as it is: %s", reason)
	}
	return &r.report
}

// finish removes what the last stage left besides its weights.
func (r *Rollout) finish(ctx context.Context) *Report {
	// The last verdict is in: an interrupt changes nothing any more.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoPatience)
	defer cancel()
	last := r.state.Stages[len(r.state.Stages)-1]
	err := r.settle(ctx, func() ([]any, error) {
		if last.Mirror {
			return restored(r.target.http(), r.state.Edits)
		}
		return r.target.http(), nil
	})
	switch {
	case err != nil:
		return r.end(Left, "the last step passed, but: "+err.Error())
	case last.Mirror:
		return r.end(Mirrored, "")
	default:
		return r.end(Promoted, "")
	}
}

// undo ends a rollout that cannot go on.
func (r *Rollout) undo(ctx context.Context, why error) *Report {
	if errors.As(why, new(errLost)) {
		return r.end(Left, why.Error())
	}
	if errors.Is(why, errInterrupted) && r.Plan.Keep {
		return r.end(Left, "interrupted; the same command goes on")
	}
	r.say("rolls back: %v", why)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoPatience)
	defer cancel()
	if err := r.restore(ctx); err != nil {
		return r.end(Left, fmt.Sprintf("%v; and it cannot be rolled back: %v", why, err))
	}
	return r.end(RolledBack, why.Error())
}

// restore brings the routes back, and waits for the proxies as long as that
// does not hold up anybody: the routes are right in any case.
func (r *Rollout) restore(ctx context.Context) error {
	err := r.settle(ctx, func() ([]any, error) { return restored(r.target.http(), r.state.Edits) })
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errDeadline)
	defer cancel()
	if err := r.acknowledged(ctx, &Step{}); err != nil {
		r.say("the routes are as they were, but not every proxy has them yet: %v", err)
	}
	return nil
}

// settle applies final routes without a state, and tries until ctx ends.
func (r *Rollout) settle(ctx context.Context, routes func() ([]any, error)) error {
	for {
		http, err := routes()
		if err != nil {
			return err
		}
		err = r.target.apply(ctx, http, nil, false)
		if err == nil {
			return nil
		}
		if final(err) {
			return err
		}
		if apierrors.IsConflict(err) {
			if err := r.target.look(ctx); errors.As(err, new(errLost)) {
				return err
			}
		}
		if !wait(ctx, time.Second) {
			return err
		}
	}
}

// Abort undoes a rollout that another process left in progress.
func (r *Rollout) Abort(ctx context.Context) (*Report, error) {
	p := &r.Plan
	r.report = Report{Namespace: p.Namespace, Name: p.Name, Started: time.Now().UTC(), Steps: []Step{}}
	var err error
	if r.target, err = find(ctx, r.Client, p.Namespace, p.Name); err != nil {
		return nil, err
	}
	if r.state, err = r.target.state(); err != nil {
		return nil, err
	}
	if r.state == nil {
		return nil, fmt.Errorf("no rollout of VirtualService %s/%s is in progress", p.Namespace, p.Name)
	}
	r.report.To, r.report.Route, r.report.Mode = r.state.To, r.state.Route, r.state.Mode
	if err := r.unchanged(r.state); err != nil {
		return nil, err
	}
	r.stage = r.state.Stage
	return r.undo(ctx, errAborted), nil
}

var errAborted = errors.New("aborted")
